// @ts-check
import { Composer } from "./composer.js";
import { Dialogue } from "./dialogue.js";
import { Figures } from "./figures.js";
import { loadTexts } from "./i18n.js";
import { describeProblem, find, loadClient, recall, remember } from "./page.js";
import { Rows } from "./rows.js";
import { Speaker } from "./speaker.js";
import { ConnectionStatus } from "./status.js";
import { MOST, TurnStore } from "./turn-store.js";
import { isOpen } from "./turn.js";
import { TurnView } from "./turn-view.js";

const DRAFT = "flask-streaming.draft";

const [t, client] = await Promise.all([loadTexts(), loadClient()]);

const list = find("turns");
const stop = find("stop");
const clear = find("clear");

const speaker = new Speaker(find("announce"));
const rows = new Rows(list, { jump: find("jump"), limit: MOST + 1 });
const status = new ConnectionStatus(t, { onRetry: () => dialogue.wake() });
const composer = new Composer(t, ask);
const dialogue = new Dialogue({
  store: new TurnStore(),
  client,
  url: new URL(list.dataset.url, location.href),
  language: document.body.dataset.lang,
  describe: (error) => ("status" in error ? describeProblem(t, error.status, error.problem) : String(error.message)),
});

/** @type {Map<string, TurnView>} */
const views = new Map();
/** @type {{id: string, figures: Figures} | null} what was asked here last */
let mine = null;
let isStopping = false;

// ---- what is shown ------------------------------------------------------------------------------

dialogue.on("turn", ({ turn, part }) => {
  const view = views.get(turn.id);
  if (view) view.update(turn);
  else show(turn);
  if (mine?.id === turn.id && part) hear(turn, part);
  rows.settle();
  tell();
});

dialogue.on("removed", ({ id }) => {
  views.get(id)?.row.remove();
  views.delete(id);
  tell();
});

dialogue.on("connection", ({ id, detail }) => {
  if (dialogue.open?.id !== id) return;
  const isTroubled = detail.state === "waiting" || (detail.state === "connecting" && detail.attempt > 0);
  if (isTroubled) status.show(detail);
  else tell();
});

dialogue.on("lost", ({ id }) => {
  if (dialogue.open?.id === id) status.show({ state: "closed", kind: "limit" });
});

dialogue.on("trouble", () => {
  isStopping = false;
  tell();
  status.tell("failed", t("typewriter.unstopped"));
});

dialogue.on("kept", ({ isKept }) => (find("unkept").hidden = isKept));

/** @param {import("./turn.js").Turn} turn */
function show(turn) {
  const view = new TurnView(t, turn, {
    speak: (words) => speaker.say(words),
    onAgain: (question) => again(turn.id, question),
    hasLater: () => dialogue.turns.at(-1)?.id !== turn.id,
  });
  views.set(turn.id, view);
  rows.place(view.row);
}

/**
 * @param {import("./turn.js").Turn} turn
 * @param {import("./turn.js").AnswerPart} part
 */
function hear(turn, { kind, data }) {
  if (kind === "text") {
    mine?.figures.feed(data);
    speaker.feed(data);
  }
  if (!isOpen(turn)) speaker.end();
}

/** Say how far the newest answer has come. */
function tell() {
  const turn = dialogue.open ?? dialogue.turns.at(-1);
  const isBusy = turn !== undefined && isOpen(turn);
  isStopping &&= isBusy;
  find("empty").hidden = turn !== undefined;
  clear.hidden = turn === undefined;
  const canStop = isBusy && !isStopping;
  if (document.activeElement === stop && !canStop) rows.scroller.focus({ preventScroll: true });
  stop.disabled = !canStop;
  const name = isStopping ? "stopping" : (turn?.state ?? "idle");
  const isMine = turn?.id === mine?.id && turn?.text;
  const note = isMine && mine ? t("typewriter.figures", mine.figures.values) : find("state").dataset.note;
  status.tell(name, t(`typewriter.${name}`), note);
}

// ---- what can be done ---------------------------------------------------------------------------

/** @param {string} question */
function ask(question) {
  speaker.end({ isHeard: false });
  dialogue.ask(question);
  begun(dialogue.turns.at(-1)?.id);
  rows.follow();
}

/** @param {string} id @param {string} [question] */
function again(id, question) {
  speaker.end({ isHeard: false });
  dialogue.again(id, question);
  begun(id);
}

/** @param {string | undefined} id */
function begun(id) {
  isStopping = false;
  mine = id === undefined ? null : { id, figures: new Figures() };
  tell();
}

function stopAll() {
  if (!dialogue.open) return;
  isStopping = true;
  tell();
  void dialogue.stop();
}

stop.addEventListener("click", stopAll);
clear.addEventListener("click", () => {
  dialogue.clear();
  composer.focus();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) stopAll();
});
for (const chip of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-question]"))) {
  chip.disabled = false;
  chip.addEventListener("click", () => ask(chip.textContent ?? ""));
}

// ---- the page, from its begin to its end --------------------------------------------------------

addEventListener("online", () => dialogue.wake());
document.addEventListener("visibilitychange", () => document.hidden || dialogue.wake());
addEventListener("pagehide", () => {
  dialogue.keep();
  remember(DRAFT, composer.draft);
});

dialogue.start();
tell();
rows.follow();
composer.open(recall(DRAFT));
