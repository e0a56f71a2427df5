// @ts-check

/** How many ids are remembered, to tell of no part twice. */
const REMEMBERED = 1000;

/** By the events' names: what a run says as text, and what it says as JSON. */
const TEXTS = new Map([
  ["text", "text"],
  ["reasoning", "reasoning"],
  ["problem", "error"], // `error` is the name of an EventSource's own event
]);
const VALUES = new Set([
  "start",
  "running",
  "snapshot",
  "tool-call",
  "tool-result",
  "data",
  "usage",
  "gap",
  "end",
]);

/** @typedef {"done" | "stopped" | "failed" | "interrupted"} Outcome  how a run has ended */

/**
 * @typedef {object} Snapshot  everything that was said so far
 * @property {string} id  the run's
 * @property {"queued" | "running" | Outcome} state
 * @property {string} text
 * @property {{kind: string, data: any}[]} parts
 * @property {boolean} whole  false if its beginning is no longer held
 */

/**
 * A part of an answer; `id` is where it stands, to resume after it.
 *
 * `snapshot` replaces all that was there before it; `text` and `reasoning` follow what was there;
 * `gap` says that something is missing before what comes next; `end` is the last one.
 *
 * @typedef {{id: string} & (
 *   {kind: "text" | "reasoning" | "error", data: string} |
 *   {kind: "start", data: {id: string, state: "queued" | "running", started?: string}} |
 *   {kind: "snapshot", data: Snapshot} |
 *   {kind: "tool-call", data: {id: string, name: string, arguments: any}} |
 *   {kind: "tool-result", data: {id: string, result: any}} |
 *   {kind: "running" | "data" | "usage" | "gap", data: any} |
 *   {kind: "end", data: {state: Outcome, detail?: string, status?: number, retry_after?: number}}
 * )} AnswerPart
 */

/**
 * The parts of a run out of the events of its streams, each of them once. Pure.
 */
export class AnswerParts {
  /** @type {Set<string>} */ #told = new Set();
  #cursor;

  /** @param {string} cursor  the id of the last part that is known already */
  constructor(cursor) {
    this.#cursor = cursor;
    if (cursor) this.#told.add(cursor);
  }

  /** What to resume after: the id of the last part, or "" for all of it. */
  get cursor() {
    return this.#cursor;
  }

  /** Ask for everything again: something is missing after the cursor. */
  forget() {
    this.#cursor = "";
    this.#told.clear();
  }

  /**
   * @param {import("./sse-parser.js").SseEvent} event
   * @returns {AnswerPart | null}  null for a repetition, and for what is no part
   * @throws {SyntaxError} If its data should be JSON and is not.
   */
  take({ event, data, lastEventId: id }) {
    const kind = /** @type {any} */ (TEXTS.get(event) ?? (VALUES.has(event) ? event : null));
    if (kind === null) return null;
    if (kind !== "snapshot" && this.#told.has(id)) return null;
    const part = { kind, data: TEXTS.has(event) ? data : JSON.parse(data), id };
    this.#remember(id);
    return part;
  }

  /** @param {string} id */
  #remember(id) {
    if (!id) return;
    this.#cursor = id;
    this.#told.add(id);
    if (this.#told.size > REMEMBERED) this.#told.delete(this.#told.values().next().value ?? "");
  }
}
