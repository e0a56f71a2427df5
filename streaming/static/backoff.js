// @ts-check

/**
 * @typedef {object} BackoffOptions
 * @property {number} [first]  upper bound of the first wait, in milliseconds
 * @property {number} [base]  upper bound of the second wait; it doubles from there
 * @property {number} [cap]  upper bound of any wait
 * @property {number} [limit]  how many attempts there are; Infinity for no end
 * @property {number} [stable]  how long a connection must have been open to count as a success
 * @property {() => number} [random]  0 <= x < 1
 */

/**
 * How long to wait before each attempt to reconnect: exponential, with full jitter (uniform between
 * zero and the bound), so that clients that lost one server do not return together. Pure: it reads
 * no clock and sets no timer.
 */
export class Backoff {
  /** @type {number | null} */ #openedAt = null;
  #attempt = 0;

  /** @param {BackoffOptions} [options] */
  constructor({
    first = 250,
    base = 1000,
    cap = 30_000,
    limit = 10,
    stable = 5000,
    random = Math.random,
  } = {}) {
    this.first = first;
    this.base = base;
    this.cap = cap;
    this.limit = limit;
    this.stable = stable;
    this.random = random;
  }

  /** The number of the attempt that was handed out last; 0 if none was since the last success. */
  get attempt() {
    return this.#attempt;
  }

  /**
   * Count one more attempt and say how long to wait for it.
   *
   * @returns {number | null}  whole milliseconds; null when the limit is reached
   */
  next() {
    if (this.#attempt >= this.limit) return null;
    this.#attempt += 1;
    const bound = this.#attempt === 1 ? this.first : this.base * 2 ** (this.#attempt - 2);
    return Math.round(this.random() * Math.min(bound, this.cap));
  }

  /**
   * A connection has opened.
   *
   * @param {number} now  milliseconds of any clock that does not jump
   */
  opened(now) {
    this.#openedAt = now;
  }

  /**
   * The connection has ended. The count starts again if it was open for `stable` milliseconds: a
   * server that accepts everybody and then falls over must not be asked at full speed for ever.
   *
   * @param {number} now  by the clock of `opened`
   */
  closed(now) {
    if (this.#openedAt !== null && now - this.#openedAt >= this.stable) this.#attempt = 0;
    this.#openedAt = null;
  }

  /** Start over with a fresh count. */
  reset() {
    this.#attempt = 0;
    this.#openedAt = null;
  }
}
