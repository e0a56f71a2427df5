// @ts-check

/** Marks of Markdown that nobody wants to hear. */
const MARKS = /[*_`#>|~]+/g;

/** Speaks what is written sentence by sentence, not piece by piece. */
export class Speaker {
  #region;
  #text = "";

  /** @param {HTMLElement} region  one with `aria-live` */
  constructor(region) {
    this.#region = region;
  }

  /** @param {string} piece */
  feed(piece) {
    this.#text += piece;
    const end = /[.!?]\s|[。！？\n]/g;
    let cut = 0;
    while (end.exec(this.#text)) cut = end.lastIndex;
    if (cut) this.say(this.#text.slice(0, cut));
    this.#text = this.#text.slice(cut);
  }

  /** Speak what is left; or, to begin something else, forget it. @param {{isHeard?: boolean}} [how] */
  end({ isHeard = true } = {}) {
    if (isHeard && this.#text.trim()) this.say(this.#text);
    this.#text = "";
  }

  /** @param {string} words */
  say(words) {
    const plain = words.replace(MARKS, "").trim();
    if (plain) this.#region.textContent = plain;
  }
}
