// @ts-check
import { randomSecret } from "./page.js";

/** What was sent last and may not have arrived: the same text goes out with the same key, so that it cannot appear twice. */
export class Unsent {
  #text = "";
  #key = "";

  /** @param {string} text */
  keyOf(text) {
    if (this.#text !== text) [this.#text, this.#key] = [text, randomSecret()];
    return this.#key;
  }

  /** It has arrived. What was sent after it may not have. @param {string} key */
  arrived(key) {
    if (this.#key === key) this.#text = "";
  }
}
