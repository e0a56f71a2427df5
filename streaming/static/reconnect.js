// @ts-check
import { Backoff } from "./backoff.js";
import { TypedTarget } from "./typed-target.js";

/** @typedef {import("./backoff.js").BackoffOptions} BackoffOptions */
/** @typedef {"connecting" | "open" | "waiting" | "closed"} State */

/**
 * Why a connection is not open, for programs that have their own words for it: `page` close() was
 * called; `aborted` by the AbortSignal; `limit` gave up; `done` the server's deliberate end;
 * `refused` the server does not want us; `restart`, `ended` the server ended the connection;
 * `network` unreachable or lost; `silence` nothing heard for too long; `size` an event was too
 * large; empty if it is not over.
 * @typedef {"" | "page" | "aborted" | "limit" | "done" | "refused" | "restart" | "ended" | "network" | "silence" | "size"} Kind
 */

/**
 * How one attempt ended.
 * @typedef {object} Ending
 * @property {Kind} kind
 * @property {string} reason  for people
 * @property {boolean} [final]  never reconnect
 * @property {number} [minimum]  wait at least so many milliseconds before the next attempt
 */

/**
 * What a `state` event carries in `detail`.
 * @typedef {object} StateDetail
 * @property {State} state
 * @property {number} attempt  1..limit while waiting or connecting again, 0 when open
 * @property {number} limit
 * @property {number | null} retryAt  while waiting: when the next attempt starts, by Date.now()
 * @property {string} reason  for people
 * @property {Kind} kind
 */

/** @typedef {{state: CustomEvent<StateDetail>}} ConnectionEvents */

/**
 * A connection that comes back by itself: the one reconnect loop under EventStream and
 * ReconnectingSocket. It connects in a microtask after its construction, so that listeners added at
 * once see everything.
 *
 * Dispatches `state`, a CustomEvent with a StateDetail, on each change. A network `online` event
 * does what retryNow() does, after it gave up as well.
 *
 * @template {object} [Events=ConnectionEvents]
 * @template {Event} [Other=Event]
 * @extends {TypedTarget<Events, Other>}
 */
export class Connection extends TypedTarget {
  /** @type {State} */ #state = "connecting";
  /** @type {number | null} */ #retryAt = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  /** @type {AbortController | null} */ #link = null;
  /** @type {AbortSignal | undefined} */ #signal;
  /** @type {StateDetail[]} */ #news = [];
  #attempt = 0;
  #gaveUp = false;
  #onAbort = () => this.#finish({ kind: "aborted", reason: "aborted" });
  #onOnline = () => this.retryNow();

  /**
   * @param {AbortSignal | undefined} signal  closes the connection for good
   * @param {Backoff | BackoffOptions | undefined} backoff
   */
  constructor(signal, backoff) {
    super();
    this.backoff = backoff instanceof Backoff ? backoff : new Backoff(backoff);
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort);
    queueMicrotask(() => {
      if (this.#state === "closed") return;
      if (signal?.aborted) this.#onAbort();
      else this.#connect();
    });
  }

  get state() {
    return this.#state;
  }

  /** 1..limit while waiting for an attempt to reconnect or making it; 0 when open. */
  get attempt() {
    return this.#attempt;
  }

  get limit() {
    return this.backoff.limit;
  }

  /** While waiting: when the next attempt starts, in milliseconds of Date.now(). Otherwise null. */
  get retryAt() {
    return this.#retryAt;
  }

  /** Connect now instead of at `retryAt`; after it gave up, start over with a fresh count. */
  retryNow() {
    if (this.#gaveUp) {
      this.backoff.reset();
      this.#attempt = 0;
    } else if (this.#state !== "waiting") return;
    this.#connect();
  }

  /** Close for good. Nothing is left behind: no timer, no listener, no reader. */
  close() {
    this.#finish({ kind: "page", reason: "closed by the page" });
  }

  /**
   * Make one attempt. A subclass calls `_opened(link)` when it succeeds and `end` when it is over;
   * after `link` was aborted these do nothing. `link` is aborted when the attempt is over, whoever
   * ended it.
   *
   * @protected
   * @param {AbortController} _link
   * @param {(ending: Ending) => void} _end
   */
  _connect(_link, _end) {
    throw new Error("only subclasses connect");
  }

  /** The connection is closed for good. @protected */
  _release() {}

  /**
   * Announce that the attempt has succeeded.
   *
   * @protected
   * @param {AbortController} link
   * @returns {boolean}  whether it still stands after everybody has heard of it
   */
  _opened(link) {
    if (this.#link !== link) return false;
    this.backoff.opened(performance.now());
    this.#attempt = 0;
    this.#state = "open";
    this.#announce({ kind: "", reason: "" });
    return this.#link === link;
  }

  #connect() {
    this.#settle();
    this.#gaveUp = false;
    const link = (this.#link = new AbortController());
    this.#state = "connecting";
    this.#announce({ kind: "", reason: "" });
    if (this.#link !== link) return;
    try {
      this._connect(link, (ending) => this.#ended(link, ending));
    } catch (error) {
      this.#ended(link, { final: true, kind: "refused", reason: String(error) });
    }
  }

  /**
   * @param {AbortController} link
   * @param {Ending} ending
   */
  #ended(link, ending) {
    if (this.#link !== link) return;
    if (ending.final) return this.#finish(ending);
    this.backoff.closed(performance.now());
    const delay = this.backoff.next();
    globalThis.addEventListener?.("online", this.#onOnline);
    if (delay === null) {
      this.#gaveUp = true;
      return this.#leave("closed", { kind: "limit", reason: "gave up" });
    }
    const wait = Math.max(delay, ending.minimum ?? 0);
    this.#attempt = this.backoff.attempt;
    this.#retryAt = Date.now() + wait;
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.#leave("waiting", ending);
  }

  /** @param {Ending} ending */
  #finish(ending) {
    if (this.#state === "closed" && !this.#gaveUp) return;
    this.#gaveUp = false;
    this.#settle();
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#leave("closed", ending, () => this._release());
  }

  /** No longer waiting. */
  #settle() {
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.("online", this.#onOnline);
    this.#retryAt = null;
  }

  /**
   * Let the attempt go, then say where we are, unless somebody who heard of its end has moved us
   * on.
   *
   * @param {State} state
   * @param {Ending} ending
   * @param {() => void} [release]
   */
  #leave(state, ending, release) {
    const link = this.#link;
    this.#link = null;
    this.#state = state;
    link?.abort();
    release?.();
    if (this.#state === state) this.#announce(ending);
  }

  /**
   * Dispatch where we are. If a listener moves us on, everybody hears of that next and not before.
   *
   * @param {Ending} ending
   */
  #announce({ kind, reason }) {
    const { state, attempt, limit, retryAt } = this;
    if (this.#news.push({ state, attempt, limit, retryAt, reason, kind }) > 1) return;
    while (this.#news.length) {
      this.dispatchEvent(new CustomEvent("state", { detail: this.#news[0] }));
      this.#news.shift();
    }
  }
}

/**
 * An absolute URL, seen from the page.
 *
 * @param {string | URL} url
 * @throws {TypeError} If it is none.
 */
export function absolute(url) {
  return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
}
