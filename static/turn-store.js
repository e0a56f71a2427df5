// @ts-check

/** What is kept at most: turns, and characters of all of them. */
export const MOST = 50;
export const SIZE = 200_000;

const PREFIX = "flask-streaming.turn.";

/** @typedef {import("./turn.js").Turn} Turn */

/**
 * How many of the oldest have to go, so that the rest is not too much.
 *
 * @param {number[]} sizes  in characters, the oldest first
 */
export function surplus(sizes) {
  let total = 0;
  let kept = 0;
  for (const size of sizes.toReversed()) {
    total += size;
    if (kept === MOST || total > SIZE) break;
    kept += 1;
  }
  return sizes.length - kept;
}

/**
 * The turns of the conversation in this browser, shared by all its tabs: each in an entry of its own,
 * so that tabs do not overwrite each other's.
 */
export class TurnStore {
  #storage;

  /** @param {() => Storage} storage  may throw: browsers forbid it on wish */
  constructor(storage = () => localStorage) {
    try {
      this.#storage = storage();
    } catch {
      this.#storage = null;
    }
  }

  /**
   * What is kept, the oldest first.
   *
   * @returns {Turn[]}
   */
  all() {
    return this.#entries().map(({ turn }) => turn);
  }

  /**
   * Keep a turn, in place of what was kept of it.
   *
   * @param {Turn} turn
   * @returns {{isKept: boolean, removed: string[]}} `removed`: the oldest, which were too much
   */
  keep(turn) {
    const text = JSON.stringify(turn);
    if (!this.#storage || text.length > SIZE) {
      this.remove(turn.id);
      return { isKept: false, removed: [] };
    }
    const others = this.#entries().filter(({ turn: { id } }) => id !== turn.id);
    const sizes = [...others.map(({ size }) => size), text.length];
    const removed = others.splice(0, surplus(sizes)).map((entry) => entry.turn.id);
    for (;;) {
      for (const id of removed) this.remove(id);
      try {
        this.#storage.setItem(PREFIX + turn.id, text);
        return { isKept: true, removed };
      } catch {
        const oldest = others.shift(); // the browser has less room than we would take
        if (!oldest) return { isKept: false, removed };
        removed.push(oldest.turn.id);
      }
    }
  }

  /** @param {string} id */
  remove(id) {
    this.#storage?.removeItem(PREFIX + id);
  }

  /**
   * Hear of what other tabs keep (a turn) and remove (null).
   *
   * @param {(id: string, turn: Turn | null) => void} listener
   * @param {EventTarget} target
   */
  listen(listener, target = globalThis) {
    target.addEventListener("storage", (event) => {
      const { key, newValue, storageArea } = /** @type {StorageEvent} */ (event);
      if (storageArea !== this.#storage || !key?.startsWith(PREFIX)) return;
      listener(key.slice(PREFIX.length), read(newValue));
    });
  }

  /** @returns {{turn: Turn, size: number}[]} */
  #entries() {
    const found = [];
    for (let n = 0; n < (this.#storage?.length ?? 0); n += 1) {
      const key = this.#storage?.key(n) ?? "";
      if (!key.startsWith(PREFIX)) continue;
      const text = this.#storage?.getItem(key) ?? "";
      const turn = read(text);
      if (turn) found.push({ turn, size: text.length });
    }
    return found.sort((one, other) => one.turn.at - other.turn.at || (one.turn.id < other.turn.id ? -1 : 1));
  }
}

/**
 * @param {string | null} text
 * @returns {Turn | null} null also for what is no turn of ours
 */
function read(text) {
  try {
    const turn = JSON.parse(text ?? "null");
    const texts = [turn?.id, turn?.key, turn?.question, turn?.text, turn?.state];
    const isTurn = texts.every((value) => typeof value === "string");
    return isTurn && Array.isArray(turn.nodes) && Number.isFinite(turn.at) ? turn : null;
  } catch {
    return null;
  }
}
