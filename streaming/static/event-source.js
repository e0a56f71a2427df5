// @ts-check

/** @typedef {((event: any) => void) | null} Handler */

const STATES = { CONNECTING: 0, OPEN: 1, CLOSED: 2 };

/** Endings that are no error: whoever closed knows, and so does who was told by `event: close`. */
const QUIET = new Set(["page", "aborted"]);

/**
 * A Connection with the face of an `EventSource` (HTML, section 9.2): `readyState`, `url`,
 * `withCredentials`, `onopen`, `onmessage`, `onerror`, and the events `open` and `error`.
 *
 * `error` comes whenever the connection is lost or refused, with `readyState` CONNECTING if there
 * will be another attempt, CLOSED if not. It is a CustomEvent with `detail: {status, problem,
 * reason}`: the HTTP status of the answer that refused (null: there was none), the server's problem
 * object, and words for people.
 *
 * @template {new (...args: any[]) => import("./reconnect.js").Connection} C
 * @param {C} Base
 */
export function withFaceOfEventSource(Base) {
  class WithFace extends Base {
    /** @type {Map<string, {call: (event: any) => void, listener: (event: Event) => void}>} */
    #handlers = new Map();
    /** @type {{status: number | null, problem: object | null}} */
    #answer = { status: null, problem: null };
    #isEnded = false;

    /** @param {any[]} args */
    constructor(...args) {
      super(...args);
      this.addEventListener("state", (event) => {
        this.#speak(/** @type {CustomEvent} */ (event).detail);
      });
    }

    get readyState() {
      const { state } = this;
      if (state === "open") return STATES.OPEN;
      return state === "closed" ? STATES.CLOSED : STATES.CONNECTING;
    }

    get onopen() {
      return this.#handler("open");
    }

    set onopen(value) {
      this.#handle("open", value);
    }

    get onmessage() {
      return this.#handler("message");
    }

    set onmessage(value) {
      this.#handle("message", value);
    }

    get onerror() {
      return this.#handler("error");
    }

    set onerror(value) {
      this.#handle("error", value);
    }

    /**
     * The server has answered the attempt, and not with a stream.
     *
     * @protected
     * @param {number} status
     * @param {object | null} problem
     */
    _answered(status, problem = null) {
      this.#answer = { status, problem };
    }

    /** What ends the stream now is what the server has sent for that. @protected */
    _ended() {
      this.#isEnded = true;
    }

    /** @param {import("./reconnect.js").StateDetail} detail */
    #speak({ state, kind, reason }) {
      if (state === "open") this.dispatchEvent(new Event("open"));
      if (state !== "waiting" && state !== "closed") {
        this.#answer = { status: null, problem: null };
      } else if (!QUIET.has(kind) && !this.#isEnded) {
        this.dispatchEvent(new CustomEvent("error", { detail: { ...this.#answer, reason } }));
      }
    }

    /**
     * @param {string} type
     * @returns {Handler}
     */
    #handler(type) {
      return this.#handlers.get(type)?.call ?? null;
    }

    /**
     * @param {string} type
     * @param {Handler} value
     */
    #handle(type, value) {
      const call = typeof value === "function" ? value : null;
      const before = this.#handlers.get(type);
      if (before && call) {
        before.call = call; // it keeps its place among the listeners
      } else if (before) {
        this.removeEventListener(type, before.listener);
        this.#handlers.delete(type);
      } else if (call) {
        const slot = { call, listener: (/** @type {Event} */ event) => slot.call.call(this, event) };
        this.#handlers.set(type, slot);
        this.addEventListener(type, slot.listener);
      }
    }
  }
  for (const [name, value] of Object.entries(STATES)) {
    for (const place of [WithFace, WithFace.prototype]) {
      Object.defineProperty(place, name, { value, enumerable: true });
    }
  }
  return WithFace;
}
