// @ts-check
import { find } from "./page.js";

/** Where one writes: Enter sends, Shift+Enter starts a new line, and the field grows with its text. */
export class Composer {
  #t;
  #text = find("text");

  /**
   * @param {import("./i18n.js").Translate} t
   * @param {(text: string) => void} onWrite
   */
  constructor(t, onWrite) {
    this.#t = t;
    const form = find("composer");
    form.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const text = this.draft.trim();
      if (!text) return;
      onWrite(text);
      this.#text.value = "";
      this.#measure();
      this.focus();
    });
    this.#text.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      // Enter while an input method is composing chooses a word (keyCode 229: Safari).
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      form.requestSubmit();
    });
    this.#text.addEventListener("input", () => this.#measure());
  }

  /** What is written and not sent. @returns {string} */
  get draft() {
    return this.#text.value;
  }

  /**
   * Let people write, and go on with what they had begun.
   *
   * @param {string} [draft]
   */
  open(draft) {
    if (draft && !this.draft) this.#text.value = draft;
    this.#measure();
    find("send").disabled = false;
  }

  focus() {
    this.#text.focus();
  }

  #measure() {
    const room = this.#text.maxLength - this.draft.length;
    find("count").textContent = room <= 200 ? this.#t("chat.count", { left: room }) : "";
    this.#text.rows = Math.min(6, this.draft.split("\n").length);
  }
}
