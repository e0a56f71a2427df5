// @ts-check
import { Channels } from "./channels.js";
import { EventSourceFace } from "./event-source.js";
import { after, checked } from "./sse-request.js";

/** Our own event names; a server's event of the name arrives with `server-` before it. */
const OWN_NAMES = new Set(["state", "open", "error"]);

/**
 * @typedef {object} Requesting
 * @property {string} [method]  default: GET, or POST if there is a body
 * @property {HeadersInit} [headers]
 * @property {BodyInit | null} [body]  sent again with each attempt, so no ReadableStream
 * @property {RequestCredentials} [credentials]
 * @property {boolean} [withCredentials]  the word of EventSource for `credentials: "include"`
 * @property {string} [lastEventId]  resume after this id
 */

/** @typedef {Requesting & import("./sse-connection.js").Reading} EventStreamOptions */

/**
 * Server-sent events over fetch: an `EventSource`, with headers, any method and a body, and it says
 * what goes on.
 *
 * Resumes with `Last-Event-ID`; keeps to the server's `retry:` (until a connection opens again) and
 * `Retry-After`; never reconnects after `event: close`, status 204, a 4xx that does not pass, or a
 * wrong Content-Type.
 *
 * Dispatches each event of the stream as a MessageEvent of its name (`message` if it has none), with
 * the `channel` it is of, "" if of none or if the stream is not ours; and `state` on each change
 * (see Connection).
 *
 * Other than an EventSource it comes back after a 5xx too, gives up after `backoff.limit` attempts,
 * and a server's own events `state`, `open` and `error` arrive with `server-` before the name.
 */
export class EventStream extends EventSourceFace {
  /** @type {URL} */ #url;
  /** @type {RequestInit & {headers: Headers}} */ #init;
  #channels = new Channels();
  #origin = "";

  /**
   * @param {string | URL} url
   * @param {EventStreamOptions} [options]
   * @throws {TypeError} If the URL, the headers, the body or the id cannot be sent.
   */
  constructor(url, options = {}) {
    const { body = null, method = body === null ? "GET" : "POST" } = options;
    const { withCredentials = false } = options;
    const { credentials = withCredentials ? "include" : "same-origin" } = options;
    const headers = new Headers(options.headers);
    if (!headers.has("Accept")) headers.set("Accept", "text/event-stream");
    const init = { method, headers, body, credentials };
    const target = checked(url, init);
    super(options, options.lastEventId);
    this.#url = target;
    this.#init = init;
  }

  /** The address, in full. */
  get url() {
    return this.#url.href;
  }

  /** Whether cookies go to other origins too. */
  get withCredentials() {
    return this.#init.credentials === "include";
  }

  /** Where to resume: the id of the newest event that was dispatched. */
  get lastEventId() {
    return this._newestId;
  }

  /** @protected @override */
  _request() {
    const headers = after(this.#init.headers, this.lastEventId);
    return { url: this.#url, init: { ...this.#init, headers } };
  }

  /** @protected @override @param {Response} response */
  _accept(response) {
    this.#origin = new URL(response.url || this.#url).origin;
  }

  /**
   * @protected
   * @override
   * @param {number} status
   * @param {import("./errors.js").StreamError | null} error
   */
  _refused(status, error) {
    this._answered(status, error?.problem ?? null);
  }

  /** @protected @override @param {number} status */
  _refusedForNow(status) {
    this._answered(status);
  }

  /** @protected @override @param {import("./sse-parser.js").SseEvent} happened */
  _take(happened) {
    const { event, data, lastEventId } = happened;
    const name = OWN_NAMES.has(event) ? `server-${event}` : event;
    const told = new MessageEvent(name, { data, lastEventId, origin: this.#origin });
    this.dispatchEvent(Object.assign(told, { channel: this.#channels.of(happened) }));
    if (event === "close") this._ended();
  }
}
