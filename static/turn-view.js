// @ts-check
import { AnswerView } from "./answer-view.js";
import { makeCopyButton } from "./copying.js";
import { make } from "./page.js";
import { isOpen } from "./turn.js";

/** @typedef {import("./turn.js").Turn} Turn */

/**
 * @typedef {object} Doing  what can be done with a turn
 * @property {(words: string) => void} speak
 * @property {(question?: string) => void} onAgain  ask again, the same or something else
 * @property {() => boolean} hasLater  whether others come after it
 */

/** A question with its answer, and what can be done with them. */
export class TurnView {
  #t;
  #doing;
  /** @type {Turn} */ #turn;
  #question = make("h3", { class: "asked" });
  #thoughts = make("details", { class: "thoughts" });
  #answer;
  #outcome = make("p", { class: "outcome" });
  #tools = make("div", { class: "tools" });
  #again = make("button", { class: "quiet" });
  #edit = make("button", { class: "quiet" });
  #copy;
  /** @type {HTMLElement | null} */ #editor = null;

  /**
   * @param {import("./i18n.js").Translate} t
   * @param {Turn} turn
   * @param {Doing} doing
   */
  constructor(t, turn, doing) {
    this.#t = t;
    this.#turn = turn;
    this.#doing = doing;
    this.#question.dir = "auto";
    this.#answer = new AnswerView(t, doing.speak);
    this.#copy = makeCopyButton(t, () => this.#turn.text, doing.speak);
    this.#thoughts.append(make("summary", { text: t("typewriter.reasoning") }), make("p", { class: "reasoning" }));
    this.#edit.textContent = t("action.edit");
    for (const button of [this.#again, this.#edit]) button.setAttribute("type", "button");
    this.#again.addEventListener("click", () => this.#do());
    this.#edit.addEventListener("click", () => this.#openEditor());
    this.#tools.append(this.#copy, this.#again, this.#edit);
    const said = [this.#question, this.#thoughts, this.#answer.element];
    this.row = make("li", { class: "turn" }, ...said, this.#outcome, this.#tools);
    this.row.tabIndex = -1;
    this.update(turn);
  }

  /** @param {Turn} turn */
  update(turn) {
    this.#turn = turn;
    const { state, question, reasoning, text } = turn;
    this.row.dataset.state = state;
    this.row.setAttribute("aria-busy", String(isOpen(turn)));
    if (this.#question.textContent !== question) this.#question.textContent = question;
    this.#thoughts.hidden = !reasoning;
    if (reasoning) /** @type {HTMLElement} */ (this.#thoughts.lastChild).textContent = reasoning;
    this.#answer.update(turn);
    const words = this.#words(turn);
    this.#outcome.textContent = words;
    this.#outcome.hidden = !words;
    this.#tools.hidden = isOpen(turn);
    this.#copy.hidden = !text;
    const isComplete = state === "done" || state === "stopped";
    this.#again.textContent = this.#t(isComplete ? "action.regenerate" : "action.again");
    this.#again.classList.toggle("wanted", !isComplete);
  }

  focus() {
    this.row.focus({ preventScroll: true });
  }

  /** What is to be said of how it stands, if anything. @param {Turn} turn */
  #words({ state, detail, status, isWhole, text }) {
    const words = [];
    if (!isWhole && text) words.push(this.#t("typewriter.outcome.gap"));
    if (state === "failed") words.push(this.#t("typewriter.outcome.failed", { detail: this.#reason(status, detail) }));
    else if (state === "done") words.push(detail);
    else if (state !== "writing") words.push(this.#t(`typewriter.outcome.${state}`));
    return words.join(" ");
  }

  /** @param {number} status @param {string} detail */
  #reason(status, detail) {
    const key = { 429: "busy", 502: "refused", 503: "busy" }[status];
    return key ? this.#t(`typewriter.reason.${key}`) : detail || this.#t("typewriter.reason.none");
  }

  /** @param {string} [question] */
  #do(question) {
    this.focus(); // its button is about to go
    this.#doing.onAgain(question);
  }

  #openEditor() {
    const field = document.createElement("textarea");
    field.value = this.#turn.question;
    field.maxLength = 2000;
    field.rows = Math.min(6, field.value.split("\n").length + 1);
    field.setAttribute("aria-label", this.#t("typewriter.edit"));
    const ask = make("button", { class: "button primary", text: this.#t("action.again") });
    const cancel = make("button", { class: "button", text: this.#t("action.cancel") });
    cancel.setAttribute("type", "button");
    const warning = make("p", { class: "hint", text: this.#t("typewriter.edit.later") });
    warning.hidden = !this.#doing.hasLater();
    const form = make("form", { class: "editor" }, field, warning, make("div", { class: "actions" }, ask, cancel));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (!text) return field.focus();
      this.#closeEditor();
      this.#do(text);
    });
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Escape") {
        event.stopPropagation();
        this.#cancel();
      }
      if (event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      /** @type {HTMLFormElement} */ (form).requestSubmit();
    });
    cancel.addEventListener("click", () => this.#cancel());
    this.#editor = form;
    this.#question.hidden = true;
    this.#edit.hidden = true;
    this.#question.after(form);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  #cancel() {
    this.#closeEditor();
    this.#edit.focus();
  }

  #closeEditor() {
    this.#editor?.remove();
    this.#editor = null;
    this.#question.hidden = false;
    this.#edit.hidden = false;
  }
}
