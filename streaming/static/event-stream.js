// @ts-check
import { Channels } from "./channels.js";
import { mediaType, retryAfter, streamError, StreamError } from "./errors.js";
import { absolute, Connection } from "./reconnect.js";
import { MAX_EVENT_SIZE, SseParser } from "./sse-parser.js";
import { Watchdog } from "./watchdog.js";

/** No wait that a server asks for is longer: a day. */
const LONGEST_WAIT = 86_400_000;

/** Refusals that pass: time-out, too early, too many requests. Any other 4xx is final. */
const PASSING = new Set([408, 425, 429]);

/** Our own event names; a server's event of the name arrives with `server-` before it. */
const OWN_NAMES = new Set(["state", "error"]);

/** @typedef {import("./sse-parser.js").SseEvent} SseEvent */
/** @typedef {import("./reconnect.js").Ending} Ending */

/**
 * @typedef {object} EventStreamOptions
 * @property {string} [method]  default: GET, or POST if there is a body
 * @property {HeadersInit} [headers]
 * @property {BodyInit | null} [body]  sent again with each attempt, so no ReadableStream
 * @property {RequestCredentials} [credentials]
 * @property {string} [lastEventId]  resume after this id
 * @property {AbortSignal} [signal]
 * @property {import("./backoff.js").Backoff | import("./backoff.js").BackoffOptions} [backoff]
 * @property {number | null} [liveness]  reconnect after so many milliseconds without a byte
 * @property {number} [maxEventSize]  in characters
 * @property {typeof globalThis.fetch} [fetch]
 */

/**
 * Server-sent events over fetch: what `EventSource` does, with headers, any method and a body, and
 * it says what goes on.
 *
 * Resumes with `Last-Event-ID`; keeps to the server's `retry:` (until a connection opens again) and
 * `Retry-After`; never reconnects after `event: close`, status 204, a 4xx that does not pass, or a
 * wrong Content-Type.
 *
 * Dispatches each event of the stream as a MessageEvent of its name (`message` if it has none), with
 * the `channel` it is of, "" if of none or if the stream is not ours,
 * `state` on each change (see Connection), and, just before an answer of the server closes it for
 * good, `error`: a CustomEvent with `detail: {status, problem, reason}`.
 */
export class EventStream extends Connection {
  /** @type {URL} */ #url;
  /** @type {RequestInit & {headers: Headers}} */ #request;
  /** @type {number | null} */ #liveness;
  /** @type {typeof globalThis.fetch} */ #fetch;
  /** @type {SseParser} */ #parser;
  #channels = new Channels();
  #origin = "";
  #newest = "";
  #retry = 0;

  /**
   * @param {string | URL} url
   * @param {EventStreamOptions} [options]
   * @throws {TypeError} If the URL, the headers, the body or the id cannot be sent.
   */
  constructor(url, options = {}) {
    const { body = null, method = body === null ? "GET" : "POST" } = options;
    const { credentials = "same-origin", lastEventId = "", liveness = 45_000 } = options;
    const { maxEventSize = MAX_EVENT_SIZE, fetch = globalThis.fetch } = options;
    const target = absolute(url);
    const headers = new Headers(options.headers);
    if (!headers.has("Accept")) headers.set("Accept", "text/event-stream");
    if (body instanceof ReadableStream)
      throw new TypeError("a stream cannot be sent a second time");
    if (/[\0\r\n]/.test(lastEventId))
      throw new TypeError("an event id has no line break and no NUL");
    /** @type {RequestInit & {headers: Headers}} */
    const request = { method, headers, body, credentials, cache: "no-store" };
    new Request(target, request); // throws now what every attempt would throw
    super(options.signal, options.backoff);
    this.#url = target;
    this.#request = request;
    this.#liveness = liveness;
    this.#fetch = fetch;
    this.#parser = new SseParser({
      lastEventId,
      maxEventSize,
      onEvent: (event) => this.#take(event),
      onRetry: (milliseconds) => void (this.#retry = milliseconds),
    });
  }

  /** Where to resume: the id of the newest event that was dispatched. */
  get lastEventId() {
    return this.#parser.lastEventId;
  }

  /**
   * @protected
   * @override
   * @param {AbortController} link
   * @param {(ending: Ending) => void} end
   */
  _connect(link, end) {
    const seconds = (this.#liveness ?? 0) / 1000;
    const watchdog = new Watchdog(this.#liveness, () => {
      end(this.#again("silence", `nothing was heard from the server for ${seconds} s`));
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
    const fetch = this.#fetch;
    const response = await fetch(this.#url, { ...this.#request, headers: this.#headers(), signal });
    watchdog.beat();
    const refusal = await this.#refusal(response, signal);
    if (refusal) return refusal;
    this.#origin = new URL(response.url || this.#url).origin;
    this.#newest = "";
    this.#retry = 0;
    const ended = () => this.#again("ended", "the server ended the stream");
    if (!this._opened(link) || !response.body) return ended();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) return ended();
      if (done) break;
      watchdog.beat();
      this.#parser.feed(value);
      if (this.#newest === "close") return finished("the server closed the stream");
    }
    if (this.#newest === "restart") return this.#again("restart", "the server is restarting");
    return ended();
  }

  #headers() {
    const headers = new Headers(this.#request.headers);
    const id = this.#parser.lastEventId;
    // A header takes bytes: UTF-8, as EventSource sends it.
    const bytes = Array.from(new TextEncoder().encode(id), (byte) => String.fromCharCode(byte));
    if (id) headers.set("Last-Event-ID", bytes.join(""));
    return headers;
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
    if (status >= 500 || PASSING.has(status)) {
      const { message } = new StreamError(status, null, response.statusText);
      return this.#again("refused", message, retryAfter(response));
    }
    const type = mediaType(response);
    if (ok && status !== 204 && type === "text/event-stream") return null;
    /** @type {Ending} */
    let ending = finished("the server has nothing more to send (204 No Content)");
    let problem = null;
    if (!ok) {
      const error = await streamError(response);
      problem = error.problem;
      ending = { final: true, kind: "refused", reason: error.message };
    } else if (status !== 204) {
      const reason = `the server sent ${type || "no Content-Type"} instead of text/event-stream`;
      ending = { final: true, kind: "refused", reason };
    }
    const detail = { status, problem, reason: ending.reason };
    if (!signal.aborted) this.dispatchEvent(new CustomEvent("error", { detail }));
    return ending;
  }

  /** @param {SseEvent} happened */
  #take(happened) {
    const { event, data, lastEventId } = happened;
    this.#newest = event;
    const name = OWN_NAMES.has(event) ? `server-${event}` : event;
    const told = new MessageEvent(name, { data, lastEventId, origin: this.#origin });
    this.dispatchEvent(Object.assign(told, { channel: this.#channels.of(happened) }));
    // What follows the end is not part of the stream.
    if (event === "close") this.#parser.reset();
  }

  /**
   * An ending with another attempt, no earlier than the server asks for.
   *
   * @param {import("./reconnect.js").Kind} kind
   * @param {string} reason
   * @param {number} [wait]
   * @returns {Ending}
   */
  #again(kind, reason, wait = 0) {
    const asked = Math.min(Math.max(wait, this.#retry), LONGEST_WAIT);
    return { kind, reason, minimum: Math.round(asked * (1 + this.backoff.random() / 10)) };
  }

  /**
   * @param {unknown} error
   * @returns {Ending}
   */
  #failure(error) {
    if (error instanceof RangeError) return this.#again("size", error.message);
    const opened = this.state === "open";
    const reason = opened ? "the connection was lost" : "the server cannot be reached";
    return this.#again("network", reason);
  }
}

/**
 * @param {string} reason
 * @returns {Ending}
 */
function finished(reason) {
  return { final: true, kind: "done", reason };
}
