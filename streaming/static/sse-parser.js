// @ts-check

/**
 * @typedef {object} SseEvent
 * @property {string} event  the event's name, `message` if the stream gave none
 * @property {string} data
 * @property {string} lastEventId  the stream's last event id when the event was complete
 */

/** How many characters of an unfinished event are held at most, unless told otherwise. */
export const MAX_EVENT_SIZE = 16 * 1024 * 1024;

/**
 * Server-sent events out of a stream's text or bytes, by the rules of the HTML standard (section
 * 9.2.6, "Interpreting an event stream"). Pure: no I/O, no timers. Any chunking gives the same
 * events, and what is unfinished when the stream ends is never reported.
 */
export class SseParser {
  /** @type {(event: SseEvent) => void} */ #onEvent;
  /** @type {(milliseconds: number) => void} */ #onRetry;
  /** @type {(text: string) => void} */ #onComment;
  /** @type {number} */ #maxEventSize;

  /** @type {TextDecoder} */ #decoder = utf8();
  #atStart = true;
  #afterCr = false;
  #line = "";
  #data = "";
  #event = "";
  #id = "";
  #lastEventId = "";
  #round = 0;

  /**
   * @param {object} [options]
   * @param {(event: SseEvent) => void} [options.onEvent]
   * @param {(milliseconds: number) => void} [options.onRetry]
   * @param {(text: string) => void} [options.onComment]
   * @param {string} [options.lastEventId]  where an earlier stream stopped
   * @param {number} [options.maxEventSize]  how much of an unfinished event is held, in characters
   */
  constructor(options = {}) {
    this.#onEvent = options.onEvent ?? ignore;
    this.#onRetry = options.onRetry ?? ignore;
    this.#onComment = options.onComment ?? ignore;
    this.#maxEventSize = options.maxEventSize ?? MAX_EVENT_SIZE;
    this.#id = this.#lastEventId = options.lastEventId ?? "";
  }

  /** The id to resume after: that of the last complete event, or the one given at the start. */
  get lastEventId() {
    return this.#lastEventId;
  }

  /**
   * Take the next piece of the stream; the callbacks run before this returns.
   * A stream is fed either text or bytes (decoded as UTF-8), not both.
   *
   * @param {string | Uint8Array} chunk
   * @throws {RangeError} If an event exceeds `maxEventSize`. Only `reset` helps then.
   */
  feed(chunk) {
    const text = typeof chunk === "string" ? chunk : this.#decoder.decode(chunk, { stream: true });
    if (text === "") return;
    const round = this.#round;
    let start = this.#skipped(text);
    let lf = text.indexOf("\n", start);
    let cr = text.indexOf("\r", start);
    while (lf !== -1 || cr !== -1) {
      const end = cr === -1 || (lf !== -1 && lf < cr) ? lf : cr;
      const line = this.#line + text.slice(start, end);
      this.#line = "";
      start = end + 1;
      if (end === cr) {
        // A line ends with its CR: nobody waits for the LF that may follow in the next chunk.
        if (start === text.length) this.#afterCr = true;
        else if (start === lf) start += 1;
      }
      this.#takeLine(line);
      if (this.#round !== round) return;
      if (lf !== -1 && lf < start) lf = text.indexOf("\n", start);
      if (cr !== -1 && cr < start) cr = text.indexOf("\r", start);
    }
    this.#line += text.slice(start);
    this.#checkSize(this.#line.length);
  }

  /**
   * Forget the unfinished event and expect the start of a new stream; `lastEventId` stays.
   * Called from a callback, it also drops the rest of the chunk being fed.
   */
  reset() {
    this.#round += 1;
    this.#decoder = utf8();
    this.#atStart = true;
    this.#afterCr = false;
    this.#line = this.#data = this.#event = "";
    this.#id = this.#lastEventId;
  }

  /**
   * How much of the chunk's beginning is no content: a byte order mark, the second half of a CRLF.
   *
   * @param {string} text
   */
  #skipped(text) {
    const skip =
      (this.#atStart && text.startsWith("\uFEFF")) || (this.#afterCr && text.startsWith("\n"));
    this.#atStart = this.#afterCr = false;
    return skip ? 1 : 0;
  }

  /** @param {string} line */
  #takeLine(line) {
    if (line === "") return this.#dispatch();
    this.#checkSize(line.length);
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (colon === 0) this.#onComment(value);
    else if (field === "data") this.#data += value + "\n";
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.#onRetry(Number(value));
  }

  #dispatch() {
    const data = this.#data;
    const event = this.#event || "message";
    this.#data = this.#event = "";
    this.#lastEventId = this.#id;
    if (data === "") return;
    this.#onEvent({ event, data: data.slice(0, -1), lastEventId: this.#lastEventId });
  }

  /** @param {number} lineLength */
  #checkSize(lineLength) {
    if (lineLength + this.#data.length > this.#maxEventSize) {
      throw new RangeError(`an event is larger than ${this.#maxEventSize} characters`);
    }
  }
}

function utf8() {
  // The decoder keeps the byte order mark, so that text and bytes go one way.
  return new TextDecoder("utf-8", { ignoreBOM: true });
}

function ignore() {}
