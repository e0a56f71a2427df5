// @ts-check
import { find } from "./page.js";

/**
 * @typedef {object} Connection an EventStream, a ReconnectingSocket, or the detail of one of their `state` events
 * @property {string} state
 * @property {number} [attempt]
 * @property {number} [limit]
 * @property {number | null} [retryAt]
 * @property {string} [kind]
 */

/**
 * The page's status bar: state, attempt "n/10", seconds to the next try, retry button.
 * The state is spoken by screen readers; the countdown is for the eye.
 */
export class ConnectionStatus {
  /**
   * @param {import("./i18n.js").Translate} t
   * @param {{onRetry?: () => void}} [options]
   */
  constructor(t, { onRetry = () => {} } = {}) {
    this.t = t;
    this.state = find("state");
    this.note = find("note");
    this.attempt = find("attempt");
    this.countdown = find("countdown");
    this.retry = find("retry");
    this.retry.addEventListener("click", onRetry);
    this.remark = "";
    /** @type {number | null} */
    this.retryAt = null;
    this.timer = 0;
    this.watching = new AbortController();
  }

  /**
   * Show a connection's state now and on each of its changes, until told to watch another one or none.
   *
   * @param {(EventTarget & Connection) | null} connection
   * @param {string} [remark] what to say beside "connected"
   */
  watch(connection, remark = "") {
    this.watching.abort();
    this.watching = new AbortController();
    this.remark = remark;
    if (!connection) return;
    this.show(connection);
    connection.addEventListener("state", (event) => {
      this.show(/** @type {CustomEvent} */ (event).detail);
    }, { signal: this.watching.signal });
  }

  /** @param {string} remark what to say beside "connected" */
  say(remark) {
    this.remark = remark;
    if (this.state.dataset.state === "open") this.note.textContent = remark;
  }

  /**
   * Show what has nothing to do with a connection.
   *
   * @param {string} name
   * @param {string} text
   * @param {string} [note]
   */
  tell(name, text, note = "") {
    this.state.dataset.state = name;
    if (this.state.textContent !== text) this.state.textContent = text;
    this.note.textContent = note;
    this.attempt.hidden = true;
    this.#offerRetry(false);
    this.retryAt = null;
    this.#count();
  }

  /** @param {Connection} connection */
  show({ state, attempt = 0, limit = 0, retryAt = null, kind = "" }) {
    const exhausted = state === "closed" && kind === "limit";
    const final = state === "closed" && (kind === "done" || kind === "refused");
    const text = this.t(`state.${exhausted ? "exhausted" : final ? kind : state}`);
    this.state.dataset.state = state;
    if (this.state.textContent !== text) this.state.textContent = text;

    const counting = attempt > 0 && (exhausted || state === "waiting" || state === "connecting");
    this.attempt.hidden = !counting;
    this.attempt.textContent = counting ? this.t("state.attempt", { attempt, limit }) : "";
    this.note.textContent = state === "open" ? this.remark : final ? this.t("state.reload") : "";
    // During the attempt the button stays where it is: pressed in vain, it can be pressed again.
    this.#offerRetry(state === "waiting" || exhausted || (state === "connecting" && !this.retry.hidden));
    this.retryAt = state === "waiting" ? retryAt : null;
    this.#count();
  }

  /** @param {boolean} offered */
  #offerRetry(offered) {
    // A focused button that vanishes would lose the keyboard's place on the page.
    if (!offered && document.activeElement === this.retry) find("main").focus({ preventScroll: true });
    this.retry.hidden = !offered;
  }

  #count() {
    clearTimeout(this.timer);
    this.countdown.hidden = this.retryAt === null;
    if (this.retryAt === null) {
      this.countdown.textContent = "";
      return;
    }
    const left = Math.max(0, this.retryAt - Date.now());
    this.countdown.textContent = this.t("state.countdown", { seconds: Math.ceil(left / 1000) });
    if (left > 0) this.timer = window.setTimeout(() => this.#count(), left % 1000 || 1000);
  }
}
