// @ts-check
import { randomKey } from "./page.js";

/**
 * @typedef {object} Entry a message of one's own that no log has confirmed yet
 * @property {string} key its idempotency key, and its `ref` on the wire
 * @property {string} text
 * @property {string} frame what goes over the socket
 * @property {HTMLElement} row
 * @property {Set<string>} via the client ids it was sent under: one per connection
 */

/**
 * One's own messages until the server has acknowledged them. Each has an idempotency key that stays
 * the same however often it is sent, so sending again is always safe.
 */
export class Outbox {
  /**
   * @param {string} channel
   * @param {(text: string) => HTMLElement} makeRow
   */
  constructor(channel, makeRow) {
    this.channel = channel;
    this.makeRow = makeRow;
    /** @type {Map<string, Entry>} in the order of writing */
    this.entries = new Map();
  }

  /**
   * @param {string} text
   * @param {string} [key] that of an earlier page's unsent message
   */
  add(text, key = randomKey()) {
    const frame = JSON.stringify({ type: "publish", channel: this.channel, data: text, key, ref: key });
    /** @type {Entry} */
    const entry = { key, text, frame, row: this.makeRow(text), via: new Set() };
    this.entries.set(key, entry);
    return entry;
  }

  /**
   * Put back what was taken out, at the end.
   *
   * @param {Entry} entry
   */
  restore(entry) {
    this.entries.set(entry.key, entry);
  }

  /**
   * Take an entry out: it is confirmed, dropped or refused.
   *
   * @param {string | undefined} key
   */
  take(key) {
    const entry = this.entries.get(key ?? "");
    if (entry) this.entries.delete(entry.key);
    return entry;
  }

  /** @param {string} frame */
  byFrame(frame) {
    return [...this].find((entry) => entry.frame === frame);
  }

  /**
   * The entry that a message of ours must be which came back before its acknowledgement: the oldest one with this text
   * that was sent under this client id.
   *
   * @param {string} text
   * @param {string} client
   */
  byText(text, client) {
    return [...this].find((entry) => entry.text === text && entry.via.has(client));
  }

  [Symbol.iterator]() {
    return this.entries.values();
  }
}
