// @ts-check

/** Milliseconds behind the limit, at most, in which what lies there unread may still be read. */
const LAST = 1000;

/**
 * Calls `onSilence` once when there was no `beat` for `limit` milliseconds, and none in a last look
 * behind it: a page that was frozen, or busy, finds its timers due before the bytes that came
 * meanwhile. One timer, however many beats.
 */
export class Watchdog {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #heard = performance.now();

  /**
   * @param {number | null | undefined} limit  nothing, 0 and Infinity switch it off
   * @param {() => void} onSilence
   */
  constructor(limit, onSilence) {
    if (!limit || limit === Infinity) return;
    let isLast = false;
    const look = () => {
      const rest = this.#heard + limit - performance.now();
      if (rest <= 0 && isLast) return onSilence();
      isLast = rest <= 0;
      this.#timer = setTimeout(look, isLast ? Math.min(limit / 2, LAST) : Math.min(rest, limit));
    };
    this.#timer = setTimeout(look, limit);
  }

  beat() {
    this.#heard = performance.now();
  }

  /** Nothing is listened for until the next beat. */
  rest() {
    this.#heard = Infinity;
  }

  stop() {
    clearTimeout(this.#timer);
  }
}
