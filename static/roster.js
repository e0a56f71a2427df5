// @ts-check

const REMEMBERED = 1000; // names, also of those who have left: their messages are still on the page
const LONGEST = 40; // letters of a name
// Line breaks and other controls, and what turns the direction of the text around it.
const UNWANTED = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

/** Who is in a room, kept up to date from a first list and the events after it. */
export class Roster {
  constructor() {
    /** @type {Map<string, string>} name by id, in the order they came */
    this.here = new Map();
    /** @type {Map<string, string>} */
    this.names = new Map();
  }

  /** @param {{id: string, info: string}[]} members everybody, as the server lists them */
  replace(members) {
    this.here.clear();
    for (const member of members) this.join(member);
  }

  /** @param {{id: string, info: string}} member */
  join({ id, info }) {
    const name = cleanName(info);
    this.here.set(id, name);
    this.names.delete(id);
    if (name) this.names.set(id, name);
    if (this.names.size > REMEMBERED) this.names.delete(this.names.keys().next().value ?? "");
  }

  /** @param {{id: string}} member */
  leave({ id }) {
    this.here.delete(id);
  }

  /**
   * The name that somebody has or, when they left, had; empty if none is known.
   *
   * @param {string} id
   */
  nameOf(id) {
    return this.names.get(id) ?? "";
  }
}

/**
 * What somebody calls themselves, fit to stand in a line with other text.
 *
 * @param {unknown} info
 */
export function cleanName(info) {
  const line = String(info ?? "").replace(UNWANTED, " ").replace(/\s+/gu, " ").trim();
  return Array.from(line).slice(0, LONGEST).join("").trim();
}
