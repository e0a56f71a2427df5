// @ts-check
import { SseConnection } from "./sse-connection.js";

/** @typedef {import("./reconnect.js").StateDetail} StateDetail */
/** @typedef {import("./errors.js").Problem} Problem */

/**
 * @template E
 * @typedef {import("./typed-target.js").Handler<E>} Handler
 */

/**
 * An event of the server's.
 * @typedef {MessageEvent<string> & {channel: string}} StreamEvent  `channel`: the one it is of, "" if
 *   of none or if the stream is not ours
 */

/**
 * Why a stream is not open.
 * @typedef {object} ErrorDetail
 * @property {number | null} status  of the answer that refused; null: there was none
 * @property {Problem | null} problem  the server's own explanation, if it gave one
 * @property {string} reason  for people
 */

/**
 * @typedef {object} EventStreamEvents  those with a meaning of their own; all others are the server's
 * @property {CustomEvent<StateDetail>} state
 * @property {Event} open
 * @property {CustomEvent<ErrorDetail>} error
 */

/** Endings that are no error: whoever closed knows, and so does who was told by `event: close`. */
const QUIET = new Set(["page", "aborted"]);

/**
 * A connection with the face of an `EventSource` (HTML, section 9.2): `readyState`, `onopen`,
 * `onmessage`, `onerror`, and the events `open` and `error`.
 *
 * `error` comes whenever the connection is lost or refused, with `readyState` CONNECTING if there
 * will be another attempt, CLOSED if not.
 *
 * @extends {SseConnection<EventStreamEvents, StreamEvent>}
 */
export class EventSourceFace extends SseConnection {
  /** @type {{status: number | null, problem: Problem | null}} */
  #answer = { status: null, problem: null };
  #isEnded = false;

  /**
   * @param {import("./sse-connection.js").Reading} options
   * @param {string} [lastEventId]
   */
  constructor(options, lastEventId) {
    super(options, lastEventId);
    this.addEventListener("state", ({ detail }) => this.#speak(detail));
  }

  /** @type {0} */
  static get CONNECTING() {
    return 0;
  }

  /** @type {1} */
  static get OPEN() {
    return 1;
  }

  /** @type {2} */
  static get CLOSED() {
    return 2;
  }

  /** @type {0} */
  get CONNECTING() {
    return 0;
  }

  /** @type {1} */
  get OPEN() {
    return 1;
  }

  /** @type {2} */
  get CLOSED() {
    return 2;
  }

  get readyState() {
    const { state } = this;
    if (state === "open") return this.OPEN;
    return state === "closed" ? this.CLOSED : this.CONNECTING;
  }

  /** @type {Handler<Event>} */
  get onopen() {
    return this._handler("open");
  }

  set onopen(value) {
    this._handle("open", value);
  }

  /** @type {Handler<StreamEvent>} */
  get onmessage() {
    return this._handler("message");
  }

  set onmessage(value) {
    this._handle("message", value);
  }

  /** @type {Handler<CustomEvent<ErrorDetail>>} */
  get onerror() {
    return this._handler("error");
  }

  set onerror(value) {
    this._handle("error", value);
  }

  /**
   * The server has answered the attempt, and not with a stream.
   *
   * @protected
   * @param {number} status
   * @param {Problem | null} problem
   */
  _answered(status, problem = null) {
    this.#answer = { status, problem };
  }

  /** What ends the stream now is what the server has sent for that. @protected */
  _ended() {
    this.#isEnded = true;
  }

  /** @param {StateDetail} detail */
  #speak({ state, kind, reason }) {
    if (state === "open") this.dispatchEvent(new Event("open"));
    if (state !== "waiting" && state !== "closed") {
      this.#answer = { status: null, problem: null };
    } else if (!QUIET.has(kind) && !this.#isEnded) {
      this.dispatchEvent(new CustomEvent("error", { detail: { ...this.#answer, reason } }));
    }
  }
}
