// @ts-check

/** How much of what was said before goes with a question, in characters, and how many turns of it. */
const CONTEXT = 12_000;
const TURNS = 10;

/** Whoever asked longer ago, and never heard where the answer is, does not ask again by himself. */
const STALE = 600_000;

/**
 * How far a turn has come: `asking`, the server has not said anything yet; `queued`; `thinking`, the
 * answer has no text yet; `writing`; then `done`, `stopped`, `failed`, `interrupted`, or `gone`: the
 * server does not keep the answer any more.
 * @typedef {"asking" | "queued" | "thinking" | "writing" | "done" | "stopped" | "failed" |
 *   "interrupted" | "gone"} Progress
 */

/**
 * A question and its answer. Never changed: what happens makes a new one.
 * @typedef {object} Turn
 * @property {string} id
 * @property {number} at  when it was first asked, by Date.now()
 * @property {string} key  of this asking: asked again, a turn has another
 * @property {number} asked  when that was
 * @property {string} question
 * @property {Progress} state
 * @property {string | null} location  the answer's address
 * @property {string} text  the answer, as it was written
 * @property {any[]} nodes  its blocks, as far as they are finished
 * @property {number} end  up to where in the text the blocks go
 * @property {string} reasoning
 * @property {string} detail  why it ended so
 * @property {number} status  what a failure is over HTTP; 0 if nobody said
 * @property {boolean} isWhole  whether nothing is missing
 */

/** @typedef {import("../streaming/static/answer-parts.js").AnswerPart} AnswerPart */

/** @type {Pick<Turn, "location" | "text" | "nodes" | "end" | "reasoning" | "detail" | "status" | "isWhole">} */
const NOTHING = {
  location: null,
  text: "",
  nodes: [],
  end: 0,
  reasoning: "",
  detail: "",
  status: 0,
  isWhole: true,
};

/**
 * @param {{id: string, key: string, question: string, now: number, at?: number}} asking
 * @returns {Turn}
 */
export function begin({ id, key, question, now, at = now }) {
  return { ...NOTHING, id, at, key, asked: now, question, state: "asking" };
}

/** @param {Turn} turn */
export function isOpen({ state }) {
  return state === "asking" || state === "queued" || state === "thinking" || state === "writing";
}

/**
 * Whether it was asked too long ago to be asked again without a word.
 *
 * @param {Turn} turn @param {number} now
 */
export function isStale({ location, asked }, now) {
  return location === null && now - asked > STALE;
}

/**
 * The turn after the next part of its answer.
 *
 * @param {Turn} turn
 * @param {AnswerPart} part
 * @returns {Turn}
 */
export function after(turn, { kind, data }) {
  switch (kind) {
    case "start":
      return { ...turn, state: data.state === "queued" ? "queued" : "thinking" };
    case "running":
      return { ...turn, state: "thinking" };
    case "snapshot":
      return restored(turn, data);
    case "text":
      return { ...turn, state: "writing", text: turn.text + data };
    case "reasoning":
      return { ...turn, reasoning: turn.reasoning + data };
    case "data":
      return withBlocks(turn, data);
    case "error":
      return { ...turn, detail: data };
    case "gap":
      return { ...turn, isWhole: false };
    case "end":
      // The producer's own words say more than the server's.
      return { ...turn, state: data.state, detail: turn.detail || data.detail || "", status: data.status ?? 0 };
    default:
      return turn;
  }
}

/**
 * @param {Turn} turn
 * @param {import("../streaming/static/answer-parts.js").Snapshot} snapshot
 * @returns {Turn}
 */
function restored(turn, { state, text, parts, whole }) {
  const isGoingOn = state === "running" || state === "queued";
  const going = state === "queued" ? "queued" : text ? "writing" : "thinking";
  const empty = { ...turn, ...NOTHING, location: turn.location, text, isWhole: whole };
  /** @type {Turn} */
  const made = parts.reduce((so, part) => (part.kind === "text" ? so : after(so, /** @type {any} */ (part))), empty);
  return { ...made, state: isGoingOn ? going : state };
}

/**
 * @param {Turn} turn
 * @param {any} data of a `data` part
 * @returns {Turn}
 */
function withBlocks(turn, data) {
  if (!Array.isArray(data?.markdown) || !(data.end >= turn.end)) return turn;
  return { ...turn, nodes: [...turn.nodes, ...data.markdown], end: data.end };
}

/**
 * What was said before, the newest last: for a model that is asked to go on.
 *
 * @param {Turn[]} turns in their order
 */
export function context(turns) {
  const said = [];
  let room = CONTEXT;
  for (const { question, text } of [...turns].reverse()) {
    room -= question.length + text.length;
    if (room < 0 || said.length === TURNS) break;
    if (text) said.unshift({ question, answer: text });
  }
  return said;
}
