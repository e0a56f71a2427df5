// @ts-check

const UNAVAILABLE = 503; // what the server cannot do now, but soon

/** @typedef {(callback: () => void, milliseconds: number) => void} Later */

/**
 * What a connection has asked the server for, until it is answered. A request is known by its type
 * and channel: asking again takes the place of what was asked before.
 */
export class Requests {
  /** @type {Map<string, {text: string, open: number}>} frames by `ref`, and how many of it have no answer yet */
  #asked = new Map();
  #send;
  #later;
  #random;

  /**
   * @param {object} options
   * @param {(text: string) => void} options.send
   * @param {Later} options.later
   * @param {() => number} options.random from 0 to 1
   */
  constructor({ send, later, random }) {
    this.#send = send;
    this.#later = later;
    this.#random = random;
  }

  /** @param {{type: string, channel: string} & Record<string, unknown>} frame */
  ask(frame) {
    const ref = `${frame.type} ${frame.channel}`;
    const text = JSON.stringify({ ...frame, ref });
    this.#asked.set(ref, { text, open: (this.#asked.get(ref)?.open ?? 0) + 1 });
    this.#send(text);
  }

  /**
   * The oldest of these is answered: what has taken its place is not yet.
   *
   * @param {string} ref
   */
  answered(ref) {
    const asked = this.#asked.get(ref);
    if (asked && --asked.open <= 0) this.#asked.delete(ref);
  }

  /**
   * If the server could not do it now, ask again in 2 to 5 seconds, should this connection last so long.
   *
   * @param {string} ref @param {number} status
   */
  refused(ref, status) {
    const asked = this.#asked;
    const refused = asked.get(ref);
    if (!refused) return;
    refused.open -= 1;
    if (status !== UNAVAILABLE) return;
    this.#later(() => {
      const again = asked.get(ref);
      if (!again || asked !== this.#asked) return;
      again.open += 1;
      this.#send(again.text);
    }, 2000 + 3000 * this.#random());
  }

  /** The connection is over: nothing of it is answered or asked again. */
  forget() {
    this.#asked = new Map();
  }
}
