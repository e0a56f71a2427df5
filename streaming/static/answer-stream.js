// @ts-check
import { AnswerParts } from "./answer-parts.js";
import { stopAnswer } from "./answer-stop.js";
import { mediaType } from "./errors.js";
import { randomKey } from "./random-key.js";
import { finished, SseConnection } from "./sse-connection.js";
import { after, checked, passes } from "./sse-request.js";

/** @typedef {import("./answer-parts.js").AnswerPart} AnswerPart */
/** @typedef {import("./reconnect.js").StateDetail} StateDetail */

/**
 * @typedef {object} Asking
 * @property {HeadersInit} [headers]  sent with every request
 * @property {RequestCredentials} [credentials]
 */

/**
 * @typedef {object} Beginning
 * @property {BodyInit | Record<string, unknown> | null} [body]  a plain object is sent as JSON; no
 *   ReadableStream
 * @property {string} [key]  the Idempotency-Key: whoever asks with it again joins the same answer
 */

/** @typedef {Asking & import("./sse-connection.js").Reading} AnswerOptions */

/**
 * An answer that is being generated, whatever happens to the connection: an async iterator of its
 * parts, each of them once and in order.
 *
 * When the connection is lost it resumes where it stopped, with full jitter, as often as its backoff
 * allows; `retryNow()` and the network's return go at once. Dispatches `state` on each change (see
 * Connection); once that says `open`, `location` is known. Reads no faster than the loop takes.
 *
 * Leaving the loop, `close()` and the signal end the reading, not the answer: that is what `stop()`
 * is for. One loop reads an answer; another reader is another `resume`.
 *
 * The loop throws a StreamError if the server refuses: before the first part for what the question
 * has led to, and with status 404 if the answer is not kept any more. A TypeError if the server
 * cannot be reached any more, the signal's reason if it was aborted.
 */
export class AnswerStream extends SseConnection {
  /** @type {URL} */ #url;
  /** @type {RequestInit | null} what starts the answer; null if it was started before */ #question;
  /** @type {{headers: Headers, credentials: RequestCredentials}} */ #asking;
  /** @type {typeof globalThis.fetch} */ #fetch;
  /** @type {AbortSignal | undefined} */ #signal;
  /** @type {AnswerParts} */ #reader;
  /** @type {AnswerPart[]} */ #waiting = [];
  /** @type {(() => void) | undefined} the loop has taken everything */ #taken;
  /** @type {(() => void) | undefined} there is something for the loop */ #given;
  /** @type {((known: void) => void)[]} */ #located = [];
  /** @type {{thrown: unknown} | null} what the loop throws at its end */ #error = null;
  /** @type {URL | null} */ #location;
  #isAnswered = false; // nothing more will come
  #isOver = false; // nothing more is read
  #isResumed = false;

  /**
   * Ask a question. It is sent again if its answer does not come, with the same key.
   *
   * @param {string | URL} url
   * @param {Beginning & AnswerOptions} [options]
   * @throws {TypeError} If the URL, the headers or the body cannot be sent.
   */
  static start(url, options = {}) {
    const { body = null, key = randomKey() } = options;
    const headers = new Headers({ "Idempotency-Key": key });
    const isObject = isPlain(body);
    if (isObject) headers.set("Content-Type", "application/json");
    const sent = /** @type {BodyInit | null} */ (isObject ? JSON.stringify(body) : body);
    return new AnswerStream(url, { method: "POST", headers, body: sent }, "", options);
  }

  /**
   * Join an answer that was started before: here, on another page, by somebody else.
   *
   * @param {string | URL} location  its address
   * @param {AnswerOptions & {after?: string}} [options]  `after`: the id of the last part that is
   *   known; without it, a `snapshot` comes first
   * @throws {TypeError} If the address, the headers or the id cannot be sent.
   */
  static resume(location, options = {}) {
    return new AnswerStream(location, null, options.after ?? "", options);
  }

  /**
   * Use `start` or `resume`.
   *
   * @param {string | URL} url
   * @param {RequestInit & {headers: Headers} | null} question
   * @param {string} cursor
   * @param {AnswerOptions} options
   */
  constructor(url, question, cursor, options) {
    const headers = new Headers(options.headers);
    headers.set("Accept", "text/event-stream");
    const asking = { headers, credentials: options.credentials ?? "same-origin" };
    if (question) for (const [name, value] of headers) question.headers.set(name, value);
    const target = checked(url, { ...asking, ...question });
    super(options, cursor);
    this.#url = target;
    this.#question = question;
    this.#asking = asking;
    this.#fetch = options.fetch ?? globalThis.fetch;
    this.#signal = options.signal;
    this.#reader = new AnswerParts(cursor);
    this.#location = question ? null : target;
    this.addEventListener("state", ({ detail }) => this.#hear(detail));
  }

  /** The answer's address, or null until the server has said it: what `resume` takes. */
  get location() {
    return this.#location;
  }

  /** @returns {AsyncGenerator<AnswerPart, void, void>} */
  [Symbol.asyncIterator]() {
    const parts = this.#parts();
    const leave = parts.return.bind(parts);
    /** @type {typeof leave} */
    parts.return = (value) => {
      this.close(); // a generator that has not begun, or waits for a part, would not
      return leave(value);
    };
    return parts;
  }

  /** @returns {AsyncGenerator<AnswerPart, void, void>} */
  async *#parts() {
    try {
      for (;;) {
        for (let part; (part = this.#next());) yield part;
        this.#taken?.();
        if (this.#isOver) break;
        await new Promise((resolve) => (this.#given = () => resolve(undefined)));
      }
    } finally {
      this.close();
    }
    if (this.#error) throw this.#error.thrown;
  }

  /**
   * Close for good. What has come and was not taken is not told any more.
   *
   * @override
   */
  close() {
    this.#waiting.length = 0;
    super.close();
  }

  /**
   * Have the server stop the answer; its text is kept, and the loop gets its `end`. Returns when the
   * server has said yes, or the answer is over anyway.
   *
   * @throws {import("./errors.js").StreamError} If the server refuses.
   * @throws {TypeError} If the server cannot be reached.
   */
  async stop() {
    if (!this.#location && !this.#isOver) {
      await new Promise((resolve) => this.#located.push(resolve));
    }
    const location = this.#location;
    if (!location) return super.close(); // nothing to stop but the connection
    if (this.#isAnswered) return;
    await stopAnswer(() => this._admitted(location), {
      init: this.#asking,
      fetch: this.#fetch,
      backoff: this.backoff,
      passes: (status) => passes(status) || this._isRenewable(status),
    });
    this.retryNow();
  }

  /** @protected @override */
  _request() {
    this.#isResumed = this.#location !== null && this.#reader.cursor !== "";
    if (this.#location) {
      const headers = after(this.#asking.headers, this.#reader.cursor);
      return { url: this.#location, init: { ...this.#asking, headers } };
    }
    return { url: this.#url, init: { ...this.#asking, ...this.#question } };
  }

  /** @protected @override @param {Response} response */
  _accept(response) {
    const named = response.headers.get("Location");
    if (named && !this.#location) this.#location = new URL(named, response.url || this.#url);
    this.#tellLocated();
  }

  /**
   * What a question has led to is final if the server explains it: asking again with the same key
   * would give the same.
   *
   * @protected
   * @override
   * @param {Response} response
   */
  _passes(response) {
    if (!this.#location && mediaType(response) === "application/problem+json") return false;
    return super._passes(response);
  }

  /**
   * @protected
   * @override
   * @param {number} status
   * @param {import("./errors.js").StreamError | null} error
   * @param {string} reason
   */
  _refused(status, error, reason) {
    if (status === 204) this.#isAnswered = true;
    else this.#error = { thrown: error ?? new TypeError(reason) };
  }

  /**
   * @protected
   * @override
   * @param {import("./sse-parser.js").SseEvent} event
   * @returns {import("./reconnect.js").Ending | void}
   */
  _take(event) {
    if (event.event === "gap" && this.#isResumed) {
      this.#reader.forget();
      return this._again("ended", "the server no longer has what comes next");
    }
    try {
      const part = this.#reader.take(event);
      if (!part) return;
      this.#waiting.push(part);
      this.#given?.();
      this.#isAnswered = part.kind === "end";
    } catch (error) {
      this.#error = { thrown: error };
      return { final: true, kind: "refused", reason: String(error) };
    }
    if (this.#isAnswered) return finished("the answer has ended");
  }

  /** @protected @override @returns {Promise<void> | void} */
  _room() {
    if (this.#waiting.length) return new Promise((resolve) => (this.#taken = resolve));
  }

  /** What the loop gets next, if it is there. */
  #next() {
    if (this.#waiting.length) this.#signal?.throwIfAborted();
    return this.#waiting.shift();
  }

  /** @param {StateDetail} detail */
  #hear({ state, kind, reason }) {
    if (state !== "closed" || this.#isOver) return;
    this.#isOver = true;
    if (kind === "aborted") this.#error = { thrown: this.#signal?.reason };
    if (kind === "refused") this.#error ??= { thrown: new TypeError(reason) };
    if (kind === "limit") {
      const thrown = new TypeError(`gave up after ${this.limit} attempts to reach the server`);
      this.#error = { thrown };
      super.close();
    }
    this.#tellLocated();
    this.#given?.();
  }

  #tellLocated() {
    for (const tell of this.#located.splice(0)) tell();
  }
}

/** @param {unknown} body */
function isPlain(body) {
  if (typeof body !== "object" || body === null) return false;
  const prototype = Object.getPrototypeOf(body);
  return prototype === Object.prototype || prototype === null;
}
