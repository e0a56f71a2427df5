// @ts-check
import { mediaType, retryAfter, streamError, StreamError } from "./errors.js";
import { Connection } from "./reconnect.js";
import { MAX_EVENT_SIZE, SseParser } from "./sse-parser.js";
import { passes } from "./sse-request.js";
import { parsed, Ticket } from "./ticket.js";
import { Watchdog } from "./watchdog.js";

/** No wait that a server asks for is longer: a day. */
const LONGEST_WAIT = 86_400_000;

/** @typedef {import("./sse-parser.js").SseEvent} SseEvent */
/** @typedef {import("./reconnect.js").Ending} Ending */

/**
 * @typedef {object} Reading  what all readers of event streams can be told
 * @property {AbortSignal} [signal]
 * @property {import("./backoff.js").Backoff | import("./backoff.js").BackoffOptions} [backoff]
 * @property {number | null} [liveness]  reconnect after so many milliseconds without a byte
 * @property {number} [maxEventSize]  in characters
 * @property {import("./ticket.js").TicketSource} [ticket]  shown with each request
 * @property {typeof globalThis.fetch} [fetch]
 */

/**
 * An event stream over fetch that comes back: the attempts, how each of them ends, and what the
 * server has asked for. What is asked and what is done with the events is the subclass's.
 *
 * @template {object} [Events=import("./reconnect.js").ConnectionEvents]
 * @template {Event} [Other=Event]
 * @extends {Connection<Events, Other>}
 */
export class SseConnection extends Connection {
  /** @type {number | null} */ #liveness;
  /** @type {typeof globalThis.fetch} */ #fetch;
  /** @type {SseParser} */ #parser;
  /** @type {Ticket} */ #ticket;
  /** @type {Ending | null} */ #ending = null;
  #newest = "";
  #retry = 0;

  /**
   * @param {Reading} options
   * @param {string} [lastEventId]
   */
  constructor(options, lastEventId = "") {
    const { liveness = 45_000, maxEventSize = MAX_EVENT_SIZE, fetch = globalThis.fetch } = options;
    if (/[\0\r\n]/.test(lastEventId))
      throw new TypeError("an event id has no line break and no NUL");
    super(options.signal, options.backoff);
    this.#liveness = liveness;
    this.#fetch = fetch;
    this.#ticket = new Ticket(options.ticket);
    this.#parser = new SseParser({
      lastEventId,
      maxEventSize,
      onEvent: (event) => this.#take(event),
      onRetry: (milliseconds) => void (this.#retry = milliseconds),
    });
  }

  /** The id of the newest event that was taken. @protected */
  get _newestId() {
    return this.#parser.lastEventId;
  }

  /** An address with what lets us in there. @protected @param {URL} url */
  _admitted(url) {
    return this.#ticket.at(url);
  }

  /** Whether its ticket was refused, and another one can be got. @protected @param {number} status */
  _isRenewable(status) {
    return status === 401 && this.#ticket.refused();
  }

  /**
   * What to ask the server for in the next attempt.
   *
   * @protected
   * @returns {{url: URL, init: RequestInit}}
   */
  _request() {
    throw new Error("only subclasses ask");
  }

  /** An answer begins that is an event stream. @protected @param {Response} _response */
  _accept(_response) {}

  /**
   * The server has refused for good (`error`), or has nothing more to send.
   *
   * @protected
   * @param {number} _status
   * @param {StreamError | null} _error
   * @param {string} _reason
   */
  _refused(_status, _error, _reason) {}

  /** The server has refused, and another attempt follows. @protected @param {number} _status */
  _refusedForNow(_status) {}

  /**
   * Whether to try again after an answer that is no event stream.
   *
   * @protected
   * @param {Response} response
   */
  _passes({ status }) {
    return passes(status);
  }

  /**
   * Take an event.
   *
   * @protected
   * @param {SseEvent} _event
   * @returns {Ending | void}  what ends the attempt; what follows the event is not looked at then
   */
  _take(_event) {}

  /**
   * When there is room for more. The server's silence meanwhile is ours.
   *
   * @protected
   * @returns {Promise<void> | void}
   */
  _room() {}

  /**
   * @protected
   * @override
   * @param {AbortController} link
   * @param {(ending: Ending) => void} end
   */
  _connect(link, end) {
    const seconds = (this.#liveness ?? 0) / 1000;
    const watchdog = new Watchdog(this.#liveness, () => {
      end(this._again("silence", `nothing was heard from the server for ${seconds} s`));
    });
    link.signal.addEventListener("abort", () => {
      watchdog.stop();
      this.#parser.reset();
    });
    this.#read(link, watchdog).then(end, (error) => end(this.#failure(error)));
  }

  /**
   * @param {AbortController} link
   * @param {Watchdog} watchdog
   * @returns {Promise<Ending>}
   */
  async #read(link, watchdog) {
    const { signal } = link;
    const { url, init } = this._request();
    const fetch = this.#fetch;
    const response = await fetch(await this._admitted(url), { cache: "no-store", ...init, signal });
    const ended = () => this._again("ended", "the server ended the stream");
    if (signal.aborted) return ended(); // another attempt may be under way
    watchdog.beat();
    const refusal = await this.#refusal(response, signal);
    if (refusal) return refusal;
    this._accept(response);
    this.#newest = "";
    this.#ending = null;
    this.#retry = 0;
    if (!this._opened(link) || !response.body) return ended();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) return ended();
      if (done) break;
      watchdog.beat();
      this.#parser.feed(value);
      if (this.#ending) return this.#ending;
      const room = this._room();
      if (!room) continue;
      watchdog.rest();
      await room;
      watchdog.beat();
    }
    if (this.#newest === "restart") return this._again("restart", "the server is restarting");
    return ended();
  }

  /**
   * What an answer that is no event stream means; null for one that is.
   *
   * @param {Response} response
   * @param {AbortSignal} signal
   * @returns {Promise<Ending | null>}
   */
  async #refusal(response, signal) {
    const { status, ok } = response;
    const type = mediaType(response);
    if (ok && status !== 204 && type === "text/event-stream") return null;
    if (!ok && (this._isRenewable(status) || this._passes(response))) {
      const { message } = new StreamError(status, null, response.statusText);
      void response.body?.cancel().catch(() => {});
      if (!signal.aborted) this._refusedForNow(status);
      return this._again("refused", message, retryAfter(response));
    }
    if (status === 204) {
      const ending = finished("the server has nothing more to send (204 No Content)");
      if (!signal.aborted) this._refused(status, null, ending.reason);
      return ending;
    }
    const wrong = `the server sent ${type || "no Content-Type"} instead of text/event-stream`;
    const error = ok ? null : await streamError(response);
    const reason = error?.message ?? wrong;
    if (!signal.aborted) this._refused(status, error, reason);
    return { final: true, kind: "refused", reason };
  }

  /** @param {SseEvent} event */
  #take(event) {
    this.#newest = event.event;
    if (event.event === "ticket") this.#ticket.take(parsed(event.data));
    const close = event.event === "close" ? finished("the server closed the stream") : null;
    this.#ending = this._take(event) ?? close;
    // What follows the end is not part of the stream.
    if (this.#ending) this.#parser.reset();
  }

  /**
   * An ending with another attempt, no earlier than the server asks for.
   *
   * @protected
   * @param {import("./reconnect.js").Kind} kind
   * @param {string} reason
   * @param {number} [wait]
   * @returns {Ending}
   */
  _again(kind, reason, wait = 0) {
    const asked = Math.min(Math.max(wait, this.#retry), LONGEST_WAIT);
    return { kind, reason, minimum: Math.round(asked * (1 + this.backoff.random() / 10)) };
  }

  /**
   * @param {unknown} error
   * @returns {Ending}
   */
  #failure(error) {
    if (error instanceof RangeError) return this._again("size", error.message);
    const opened = this.state === "open";
    const reason = opened ? "the connection was lost" : "the server cannot be reached";
    return this._again("network", reason);
  }
}

/**
 * An ending for good.
 *
 * @param {string} reason
 * @returns {Ending}
 */
export function finished(reason) {
  return { final: true, kind: "done", reason };
}
