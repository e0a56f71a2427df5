// @ts-check

const NEAR = 48; // pixels from the end that still count as "at the end"

/**
 * A list that grows at its end: it keeps at most `limit` rows and stays scrolled to the newest one,
 * unless somebody has scrolled up to read; then a button offers the way back.
 */
export class Rows {
  /**
   * @param {HTMLElement} list its parent is what scrolls
   * @param {{jump?: HTMLElement, limit?: number}} [options]
   */
  constructor(list, { jump, limit = 500 } = {}) {
    this.list = list;
    this.limit = limit;
    this.scroller = /** @type {HTMLElement} */ (list.parentElement);
    this.jump = jump;
    this.following = true;
    this.scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    // The viewport of a phone changes with its keyboard: stay at the end.
    new ResizeObserver(() => this.settle()).observe(this.scroller);
    jump?.addEventListener("click", () => {
      this.following = true;
      this.settle();
      this.scroller.focus({ preventScroll: true });
    });
  }

  /**
   * Add a row, or move one that is already in the list, before `before` (by default at the end).
   *
   * @param {HTMLElement} row
   * @param {HTMLElement | null} [before]
   */
  place(row, before = null) {
    if (row.parentElement === this.list && row.nextElementSibling === before) return;
    this.list.insertBefore(row, before);
    while (this.list.childElementCount > this.limit) this.list.firstElementChild?.remove();
    if (this.jump && !this.following) this.jump.hidden = false;
    this.settle();
  }

  /** Go to the newest row, wherever the reader is: after writing something oneself. */
  follow() {
    this.following = true;
    this.settle();
  }

  /** Something has grown: stay at the end, if the reader is there. */
  settle() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #look() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    this.following = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.following && this.jump) this.jump.hidden = true;
  }
}
