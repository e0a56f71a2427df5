// @ts-check

/** The figures of one answer: time to the first piece, pieces, characters, time. */
export class Figures {
  #clock;
  #started;
  #first = 0;
  #last = 0;
  #pieces = 0;
  #characters = 0;

  /** @param {() => number} [clock] in milliseconds */
  constructor(clock = () => performance.now()) {
    this.#clock = clock;
    this.#started = clock();
  }

  /** @param {string} piece */
  feed(piece) {
    this.#last = this.#clock() - this.#started;
    if (this.#pieces === 0) this.#first = this.#last;
    this.#pieces += 1;
    this.#characters += Array.from(piece).length;
  }

  /** What there is to say, by name. */
  get values() {
    return {
      first: Math.max(1, Math.round(this.#first)),
      pieces: this.#pieces,
      characters: this.#characters,
      seconds: (this.#last / 1000).toFixed(1),
    };
  }
}
