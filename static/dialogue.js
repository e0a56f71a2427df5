// @ts-check
import { randomSecret } from "./page.js";
import { MOST } from "./turn-store.js";
import { after, begin, context, isOpen, isStale } from "./turn.js";

/** @typedef {import("./turn.js").Turn} Turn */
/** @typedef {import("../streaming/static/index.js").AnswerStream} Answer */

/**
 * @typedef {object} News what happens, by the name of the event
 * @property {{turn: Turn, part?: import("./turn.js").AnswerPart}} turn  a turn is new or has changed
 * @property {{id: string}} removed  a turn is no longer there
 * @property {{id: string, detail: import("../streaming/static/reconnect.js").StateDetail}} connection
 *   of the answer that is being read
 * @property {{id: string}} lost  the server cannot be reached any more; `resume` tries again
 * @property {{error: any}} trouble  an answer could not be stopped
 * @property {{isKept: boolean}} kept  whether the browser keeps the conversation
 */

/**
 * The conversation of all tabs: turns, one after the other, and the answers that are being read. It
 * goes on by itself with what was begun before a reload, or in another tab.
 *
 * Dispatches a CustomEvent for each of News.
 */
export class Dialogue extends EventTarget {
  /** @type {Map<string, Turn>} in their order */ #turns = new Map();
  /** @type {Map<string, Answer>} */ #answers = new Map();
  /** @type {WeakSet<Answer>} those that are told to stop */ #stopped = new WeakSet();
  #store;
  #client;
  #url;
  #describe;
  #language;
  #now;

  /**
   * @param {object} options
   * @param {Pick<import("./turn-store.js").TurnStore, "all" | "keep" | "remove" | "listen">} options.store
   * @param {Pick<typeof import("../streaming/static/index.js"), "AnswerStream">} options.client
   * @param {URL} options.url  where questions go
   * @param {(error: any) => string} options.describe  what the server has said, for the reader
   * @param {string} [options.language]
   * @param {() => number} [options.now]
   */
  constructor({ store, client, url, describe, language = "en", now = Date.now }) {
    super();
    this.#store = store;
    this.#client = client;
    this.#url = url;
    this.#describe = describe;
    this.#language = language;
    this.#now = now;
  }

  /** The turns in their order. */
  get turns() {
    return [...this.#turns.values()];
  }

  /** The newest turn whose answer is not over, if there is one. */
  get open() {
    return this.turns.reverse().find(isOpen) ?? null;
  }

  /** @param {string} id */
  answer(id) {
    return this.#answers.get(id) ?? null;
  }

  /**
   * Listen to the events of one name; the listener gets their `detail`.
   *
   * @template {keyof News} Name
   * @param {Name} name
   * @param {(detail: News[Name]) => void} listener
   */
  on(name, listener) {
    this.addEventListener(name, (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }

  /** Show what is kept, and go on with what is not over. */
  start() {
    for (const turn of this.#store.all()) {
      this.#change(turn);
      if (isOpen(turn)) this.#goOn(turn);
    }
    this.#store.listen((id, turn) => this.#hear(id, turn));
  }

  /**
   * Ask; an answer that is still being given is stopped first.
   *
   * @param {string} question
   */
  ask(question) {
    void this.stop();
    const id = randomSecret();
    this.#ask({ id, question });
  }

  /**
   * Ask the question of a turn once more. Another question takes the place of the turn and of all
   * that came after it.
   *
   * @param {string} id
   * @param {string} [question]
   */
  again(id, question) {
    const turn = this.#turns.get(id);
    if (!turn) return;
    void this.stop();
    this.#leave(id);
    if (question !== undefined) for (const later of this.#after(id)) this.remove(later.id);
    this.#ask({ id, question: question ?? turn.question, at: turn.at });
  }

  /** Stop every answer that is being given. */
  async stop() {
    await Promise.all(this.turns.filter(isOpen).map((turn) => this.#stop(turn)));
  }

  /**
   * Go on reading an answer that was lost, at once.
   *
   * @param {string} id
   */
  resume(id) {
    const turn = this.#turns.get(id);
    const answer = this.#answers.get(id);
    if (answer) answer.retryNow();
    else if (turn && isOpen(turn)) this.#goOn(turn);
  }

  /** @param {string} id */
  remove(id) {
    this.#store.remove(id);
    this.#forget(id);
  }

  /** Forget everything; what is being given is stopped. */
  clear() {
    void this.stop();
    for (const { id } of this.turns) this.remove(id);
  }

  /** Try at once what waits for its next attempt: the network or the reader is back. */
  wake() {
    for (const { id } of this.turns.filter(isOpen)) this.resume(id);
  }

  /**
   * Keep what there is of the answers that are not over: the page is about to go. What another tab
   * has whole, or has removed or asked again, is no longer ours to keep.
   */
  keep() {
    const kept = this.#store.all().filter(isOpen);
    for (const turn of this.turns.filter(isOpen)) {
      if (kept.some(({ key }) => key === turn.key)) this.#store.keep(turn);
    }
  }

  /** @param {Turn} turn */
  async #stop(turn) {
    if (turn.location) this.resume(turn.id); // if it is not read now, its end must be
    const answer = this.#answers.get(turn.id);
    if (!answer || this.#stopped.has(answer)) return;
    this.#stopped.add(answer);
    try {
      await answer.stop();
    } catch (error) {
      this.#stopped.delete(answer); // it may be tried again
      this.#tell("trouble", { error });
    }
  }

  /** @param {string} id */
  #after(id) {
    const turns = this.turns;
    return turns.slice(turns.findIndex((turn) => turn.id === id) + 1);
  }

  /** @param {{id: string, question: string, at?: number}} asking */
  #ask({ id, question, at }) {
    const turn = begin({ id, key: randomSecret(), question, now: this.#now(), at });
    this.#change(turn, { isKept: true });
    this.#goOn(turn);
  }

  /** @param {Turn} turn */
  #goOn(turn) {
    if (isStale(turn, this.#now())) return this.#change({ ...turn, state: "interrupted" }, { isKept: true });
    const { AnswerStream } = this.#client;
    const before = this.turns.slice(0, this.turns.findIndex(({ id }) => id === turn.id));
    const body = { question: turn.question, language: this.#language, history: context(before) };
    const answer = turn.location
      ? AnswerStream.resume(turn.location)
      : AnswerStream.start(this.#url, { key: turn.key, body });
    this.#answers.set(turn.id, answer);
    answer.addEventListener("state", ({ detail }) => {
      if (this.#answers.get(turn.id) !== answer) return;
      this.#note(turn.id, answer.location);
      this.#tell("connection", { id: turn.id, detail });
    });
    void this.#read(turn.id, answer);
  }

  /** @param {string} id @param {Answer} answer */
  async #read(id, answer) {
    const isCurrent = () => this.#answers.get(id) === answer;
    try {
      for await (const part of answer) {
        const turn = this.#turns.get(id);
        if (!turn || !isCurrent()) return;
        const next = after(turn, part);
        this.#change(next, { part, isKept: !isOpen(next) });
      }
      if (isCurrent()) this.#close(id);
    } catch (error) {
      if (isCurrent()) this.#fail(id, error);
    }
  }

  /** There is nothing more to read. @param {string} id */
  #close(id) {
    this.#answers.delete(id);
    const turn = this.#turns.get(id);
    if (turn && isOpen(turn)) this.#change({ ...turn, state: "interrupted" }, { isKept: true });
  }

  /** @param {string} id @param {any} error */
  #fail(id, error) {
    this.#answers.delete(id);
    const turn = this.#turns.get(id);
    if (!turn) return;
    const isGone = turn.location !== null && (error?.status === 404 || error?.status === 410);
    if (isGone) this.#change({ ...turn, state: "gone" }, { isKept: true });
    else if (error instanceof TypeError) this.#tell("lost", { id });
    else {
      const failed = { ...turn, detail: this.#describe(error), status: error?.status ?? 0 };
      this.#change({ ...failed, state: "failed" }, { isKept: true });
    }
  }

  /** The answer's address is known. @param {string} id @param {URL | null} location */
  #note(id, location) {
    const turn = this.#turns.get(id);
    if (!location || !turn || turn.location === location.href) return;
    this.#change({ ...turn, location: location.href }, { isKept: true });
  }

  /** Another tab has kept or removed a turn. @param {string} id @param {Turn | null} turn */
  #hear(id, turn) {
    const known = this.#turns.get(id);
    if (!turn) return this.#forget(id);
    const isSame = known?.key === turn.key;
    if (isSame && this.#answers.has(id)) return;
    if (!isSame) this.#leave(id);
    this.#change(turn);
    if (isOpen(turn) && turn.location) this.#goOn(turn);
  }

  /** @param {string} id */
  #forget(id) {
    this.#leave(id);
    if (this.#turns.delete(id)) this.#tell("removed", { id });
  }

  /**
   * Read an answer no more. One that is told to stop waits for its address until then.
   *
   * @param {string} id
   */
  #leave(id) {
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    if (answer && (answer.location || !this.#stopped.has(answer))) answer.close();
  }

  /**
   * @param {Turn} turn
   * @param {{part?: import("./turn.js").AnswerPart, isKept?: boolean}} [how]
   */
  #change(turn, { part, isKept = false } = {}) {
    this.#turns.set(turn.id, turn);
    this.#tell("turn", { turn, part });
    if (!isKept) return;
    const kept = this.#store.keep(turn);
    for (const id of kept.removed) this.#forget(id);
    for (const { id } of this.turns.slice(0, -MOST)) this.#forget(id); // where none is kept
    this.#tell("kept", { isKept: kept.isKept });
  }

  /**
   * @template {keyof News} Name
   * @param {Name} name
   * @param {News[Name]} detail
   */
  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
