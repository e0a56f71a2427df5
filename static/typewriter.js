// @ts-check
import { loadTexts } from "./i18n.js";
import { describeProblem, find, loadClient } from "./page.js";

const [t, { readText }] = await Promise.all([loadTexts(), loadClient()]);

const form = find("ask");
const question = find("question");
const stop = find("stop");
const answer = find("answer");
const state = find("state");
const note = find("note");

/** @type {AbortController | null} */
let running = null;

/**
 * @param {string} name
 * @param {string} [remark]
 */
function show(name, remark = t("typewriter.book")) {
  state.dataset.state = answer.dataset.state = name;
  const nothing = name === "failed" && !answer.textContent;
  state.textContent = t(`typewriter.${nothing ? "unanswered" : name}`);
  note.textContent = remark;
  note.classList.toggle("failed", name === "failed");
}

/** Speaks what has been written sentence by sentence, not piece by piece. */
class Speaker {
  constructor() {
    this.region = find("announce");
    this.text = "";
  }

  /** @param {string} piece */
  feed(piece) {
    this.text += piece;
    const end = /[.!?]\s|[。！？\n]/g;
    let cut = 0;
    while (end.exec(this.text)) cut = end.lastIndex;
    if (cut) this.#say(this.text.slice(0, cut));
    this.text = this.text.slice(cut);
  }

  end() {
    if (this.text.trim()) this.#say(this.text);
    this.text = "";
  }

  /** @param {string} sentence */
  #say(sentence) {
    this.region.textContent = sentence;
  }
}

/** The figures of one answer: time to the first piece, pieces, characters, time. */
class Figures {
  constructor() {
    this.started = performance.now();
    this.pieces = 0;
    this.characters = 0;
    for (const id of ["first", "pieces", "characters", "elapsed"]) find(id).textContent = "–";
  }

  /** @param {string} piece */
  feed(piece) {
    const now = performance.now() - this.started;
    if (this.pieces === 0) {
      find("first").textContent = t("typewriter.milliseconds", { n: Math.max(1, Math.round(now)) });
    }
    this.pieces += 1;
    this.characters += Array.from(piece).length;
    find("pieces").textContent = String(this.pieces);
    find("characters").textContent = String(this.characters);
    find("elapsed").textContent = t("typewriter.seconds", { n: (now / 1000).toFixed(1) });
  }
}

/** @param {string} text */
async function ask(text) {
  running?.abort();
  const controller = new AbortController();
  running = controller;
  stop.disabled = false;
  find("asked").textContent = text;
  answer.textContent = "";
  show("asking");
  const figures = new Figures();
  const speaker = new Speaker();
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/plain" },
    body: JSON.stringify({ question: text, language: document.body.dataset.lang }),
    signal: controller.signal,
  };
  try {
    for await (const piece of readText(new URL(form.dataset.url, location.href), request)) {
      if (running !== controller) return; // somebody asked something else
      if (figures.pieces === 0) show("writing");
      answer.append(piece);
      figures.feed(piece);
      speaker.feed(piece);
    }
    if (running === controller) show(controller.signal.aborted ? "stopped" : "done");
  } catch (error) {
    if (running === controller) fail(error, controller.signal.aborted, figures.pieces);
  }
  if (running !== controller) return;
  running = null;
  if (document.activeElement === stop) question.focus();
  stop.disabled = true;
  answer.normalize();
  speaker.end();
}

/**
 * @param {any} error
 * @param {boolean} aborted
 * @param {number} pieces
 */
function fail(error, aborted, pieces) {
  if (aborted) show("stopped");
  else if (error?.status) show("failed", describeProblem(t, error.status, error.problem));
  else if (pieces > 0) show("failed", t("typewriter.broken", { pieces }));
  else show("failed", t("error.network"));
}

form.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const text = question.value.trim();
  if (text) void ask(text);
  else if (!running) show("idle", t("error.empty"));
});
stop.addEventListener("click", () => running?.abort());
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) running?.abort();
});

for (const chip of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-question]"))) {
  chip.disabled = false;
  chip.addEventListener("click", () => {
    question.value = chip.textContent ?? "";
    void ask(question.value);
  });
}
form.querySelector("button").disabled = false;
