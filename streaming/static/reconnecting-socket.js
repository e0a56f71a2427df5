// @ts-check
import { meaning } from "./close-codes.js";
import { absolute, Connection } from "./reconnect.js";
import { parsed, Ticket } from "./ticket.js";
import { Watchdog } from "./watchdog.js";

/** WebSocket.OPEN, without asking which WebSocket. */
const OPEN = 1;

/** The protocol in which a server sends tickets, and how such a frame begins. */
const TICKETS = { protocol: "streaming.v1.json", start: '{"type":"ticket"' };

/** @typedef {import("./reconnect.js").Ending} Ending */

/**
 * @template E
 * @typedef {import("./typed-target.js").Handler<E>} Handler
 */

/**
 * @typedef {object} ReconnectingSocketOptions
 * @property {string | string[]} [protocols]
 * @property {AbortSignal} [signal]
 * @property {import("./ticket.js").TicketSource} [ticket]  shown with each attempt
 * @property {import("./backoff.js").Backoff | import("./backoff.js").BackoffOptions} [backoff]
 * @property {number} [queueLimit]  how many texts are kept while there is no connection
 * @property {number | null} [liveness]  reconnect after so many milliseconds without a message; off
 *   unless given, since a page cannot see the server's pings
 * @property {number | null} [connectTimeout]  how long one attempt may take, in milliseconds; null:
 *   as long as the browser likes
 * @property {typeof globalThis.WebSocket} [WebSocket]
 */

/**
 * @typedef {object} SocketEvents
 * @property {CustomEvent<import("./reconnect.js").StateDetail>} state
 * @property {Event} open
 * @property {MessageEvent<any>} message  as a WebSocket's: text is a string, bytes an ArrayBuffer
 * @property {CustomEvent<{code: number, reason: string, wasClean: boolean}>} close
 * @property {CustomEvent<{data: string}>} drop
 */

/**
 * A WebSocket that comes back by itself and keeps a bounded number of unsent texts meanwhile.
 *
 * Dispatches, when a connection opens: `state` (see Connection), then `open`; what a listener sends
 * now goes before the queue. Then a MessageEvent `message` for each message. When an open
 * connection ends: `close`, a CustomEvent with `detail: {code, reason, wasClean}`, then `state`.
 * And `drop`, a CustomEvent with `detail: {data}`, for each text that will never be sent.
 *
 * @extends {Connection<SocketEvents>}
 */
export class ReconnectingSocket extends Connection {
  /** @type {string} */ #url;
  /** @type {string | string[]} */ #protocols;
  /** @type {number} */ #queueLimit;
  /** @type {number | null | undefined} */ #liveness;
  /** @type {number | null} */ #connectTimeout;
  /** @type {typeof globalThis.WebSocket} */ #WebSocket;
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {string[]} */ #queue = [];
  /** @type {Ticket} */ #ticket;
  #released = false;
  #farewell = { code: 1000, reason: "", wasClean: true };

  /**
   * @param {string | URL} url  ws:, wss:, http:, https:, or relative to the page
   * @param {ReconnectingSocketOptions} [options]
   * @throws {TypeError} If the URL is none.
   */
  constructor(url, options = {}) {
    const target = absolute(url);
    super(options.signal, options.backoff);
    target.protocol = target.protocol.replace(/^http/, "ws");
    target.hash = "";
    this.#url = target.href;
    this.#protocols = options.protocols ?? [];
    this.#queueLimit = options.queueLimit ?? 100;
    this.#liveness = options.liveness;
    const { connectTimeout = 20_000 } = options;
    this.#connectTimeout = connectTimeout;
    this.#ticket = new Ticket(options.ticket);
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
  }

  /** @type {Handler<SocketEvents["open"]>} */
  get onopen() {
    return this._handler("open");
  }

  set onopen(value) {
    this._handle("open", value);
  }

  /** @type {Handler<SocketEvents["message"]>} */
  get onmessage() {
    return this._handler("message");
  }

  set onmessage(value) {
    this._handle("message", value);
  }

  /** @type {Handler<SocketEvents["close"]>} */
  get onclose() {
    return this._handler("close");
  }

  set onclose(value) {
    this._handle("close", value);
  }

  /** The texts that wait for a connection, oldest first (a copy). */
  get queue() {
    return [...this.#queue];
  }

  /**
   * Send a text now, or when there is a connection again. A full queue keeps what it has and
   * refuses the new text. `sent` means handed to the connection: only the server's answer proves
   * that it arrived.
   *
   * @param {string} text
   * @returns {"sent" | "queued" | "dropped"}  a `drop` event tells of `dropped` as well
   */
  send(text) {
    if (typeof text !== "string") throw new TypeError("only text is sent");
    if (this.state === "open" && this.#socket?.readyState === OPEN) {
      this.#socket.send(text);
      return "sent";
    }
    if (!this.#released && this.#queue.length < this.#queueLimit) {
      this.#queue.push(text);
      return "queued";
    }
    this.#drop(text);
    return "dropped";
  }

  /**
   * Close for good. What was queued is dropped, with an event each.
   *
   * @override
   * @param {number} [code]  1000, or 3000 to 4999
   * @param {string} [reason]  for the server, at most 123 bytes of UTF-8
   * @throws {RangeError} If code or reason cannot be sent.
   */
  close(code = 1000, reason = "") {
    if (code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new RangeError("a page closes with 1000 or a code from 3000 to 4999");
    }
    if (new TextEncoder().encode(reason).length > 123) {
      throw new RangeError("a reason has at most 123 bytes");
    }
    this.#farewell = { code, reason, wasClean: true };
    super.close();
  }

  /**
   * @protected
   * @override
   * @param {AbortController} link
   * @param {(ending: Ending) => void} end
   */
  _connect(link, end) {
    const watchdog = new Watchdog(this.#connectTimeout, () => end(silence(this.#connectTimeout)));
    link.signal.addEventListener("abort", () => watchdog.stop());
    const open = (/** @type {URL} */ url) => {
      if (!link.signal.aborted) this.#open(url, link, end, watchdog);
    };
    const url = this.#ticket.at(new URL(this.#url));
    if (url instanceof URL) return open(url);
    url.then(open).catch((error) => end({ kind: "network", reason: String(error) }));
  }

  /**
   * @param {URL} url
   * @param {AbortController} link
   * @param {(ending: Ending) => void} end
   * @param {Watchdog} watchdog  of the attempt
   */
  #open(url, link, end, watchdog) {
    const { signal } = link;
    const { random } = this.backoff;
    const socket = new this.#WebSocket(url.href, this.#protocols);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    const origin = new URL(this.#url).origin;
    let opened = false;
    /** @type {{code: number, reason: string, wasClean: boolean} | undefined} */
    let closing;

    socket.addEventListener(
      "open",
      () => {
        opened = true;
        watchdog.stop();
        watchdog = new Watchdog(this.#liveness, () => {
          closing = { code: 1006, reason: "", wasClean: false };
          end(silence(this.#liveness));
        });
        if (!this._opened(link)) return;
        this.dispatchEvent(new Event("open"));
        for (const text of this.#queue.splice(0)) socket.send(text);
      },
      { signal },
    );
    socket.addEventListener(
      "message",
      ({ data }) => {
        watchdog.beat();
        const { protocol, start } = TICKETS;
        if (socket.protocol === protocol && typeof data === "string" && data.startsWith(start)) {
          this.#ticket.take(parsed(data));
        }
        this.dispatchEvent(new MessageEvent("message", { data, origin }));
      },
      { signal },
    );
    socket.addEventListener(
      "error",
      () => {
        // A browser adds a close event with 1006; Node may not, if there never was a connection.
        if (!opened) this.#ticket.refused(); // a page cannot see why
        if (!opened) end(meaning(1006, "", opened, random));
      },
      { signal },
    );
    socket.addEventListener(
      "close",
      ({ code, reason, wasClean }) => {
        closing = { code, reason, wasClean };
        end(meaning(code, reason, opened, random));
      },
      { signal },
    );
    signal.addEventListener("abort", () => {
      watchdog.stop();
      this.#socket = null;
      const detail = closing ?? this.#farewell;
      socket.close(this.#farewell.code, this.#farewell.reason);
      if (opened) this.dispatchEvent(new CustomEvent("close", { detail }));
    });
  }

  /** @protected @override */
  _release() {
    this.#released = true;
    for (const text of this.#queue.splice(0)) this.#drop(text);
  }

  /** @param {string} data */
  #drop(data) {
    this.dispatchEvent(new CustomEvent("drop", { detail: { data } }));
  }
}

/**
 * @param {number | null | undefined} limit
 * @returns {Ending}
 */
function silence(limit) {
  const seconds = (limit ?? 0) / 1000;
  return { kind: "silence", reason: `nothing was heard from the server for ${seconds} s` };
}
