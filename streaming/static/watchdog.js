// @ts-check

/**
 * Calls `onSilence` once when there was no `beat` for `limit` milliseconds. One timer, however many
 * beats.
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
    const look = () => {
      const rest = this.#heard + limit - performance.now();
      if (rest > 0) this.#timer = setTimeout(look, Math.min(rest, limit));
      else onSilence();
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
