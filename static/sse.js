// @ts-check
import { loadTexts } from "./i18n.js";
import { describeProblem, find, loadClient, make, randomSecret } from "./page.js";
import { Rows } from "./rows.js";
import { ConnectionStatus } from "./status.js";
import { Unsent } from "./unsent.js";

const CHANNELS = ["ticker", "news"];
const [t, { EventStream }] = await Promise.all([loadTexts(), loadClient()]);

// ---- the live stream ----------------------------------------------------------------------------

const list = find("stream");
const pause = find("pause");
const rows = new Rows(list, { jump: find("jump") });
const status = new ConnectionStatus(t, { onRetry: () => stream?.retryNow() });
const clock = new Intl.DateTimeFormat(document.documentElement.lang, { timeStyle: "medium", hourCycle: "h23" });

/** @type {InstanceType<typeof EventStream> | null} */
let stream = null;
let lastEventId = "";
let received = 0;

/** Open the stream: the first time with a little history, later where it stopped. */
function open() {
  const url = new URL(list.dataset.events, location.href);
  for (const channel of CHANNELS) url.searchParams.append("channel", channel);
  if (!lastEventId) url.searchParams.set("history", "10");
  stream = new EventStream(url.href, { lastEventId });
  for (const name of ["ready", "message", "news", "gap"]) {
    stream.addEventListener(name, take);
  }
  stream.addEventListener("restart", () => notice("restart", t("sse.restart")));
  stream.addEventListener("close", () => notice("close", t("sse.ended")));
  stream.addEventListener("error", ({ detail: { status: code, problem } }) => {
    if (code && stream?.readyState === EventStream.CLOSED) notice("error", describeProblem(t, code, problem));
  });
  status.watch(stream, t("sse.channels", { channels: CHANNELS.join(", ") }));
}

/** @param {MessageEvent & {channel: string}} event */
function take(event) {
  if (event.lastEventId) {
    lastEventId = event.lastEventId;
    find("last-id").textContent = lastEventId;
  }
  if (event.type === "ready") return;
  if (event.type === "gap") {
    notice("gap", t("sse.gap", { channel: event.channel }));
    return;
  }
  received += 1;
  find("received").textContent = String(received);
  // One stream carries both channels. Text and name of an event are its publisher's, who may be anybody.
  if (event.channel === "ticker") showTick(JSON.parse(event.data));
  else showNews(event.data);
}

/** @param {{n: number, at?: string}} tick */
function showTick({ n, at }) {
  find("tick").textContent = String(n);
  const text = t("sse.tick", { n });
  const row = make("li", { data: { channel: "ticker" } }, make("span", { class: "tag", text: t("sse.channel.ticker") }),
    make("span", { class: "text", text }));
  const time = at ? new Date(at) : null;
  if (time && !Number.isNaN(time.getTime())) row.append(make("time", { text: clock.format(time) }));
  rows.place(row);
}

/** @param {string} text */
function showNews(text) {
  const shown = make("span", { class: "text", text });
  shown.dir = "auto";
  rows.place(make("li", { data: { channel: "news" } },
    make("span", { class: "tag", text: t("sse.channel.news") }), shown));
  announce(text);
}

/**
 * @param {string} name what has happened
 * @param {string} text
 */
function notice(name, text) {
  rows.place(make("li", { data: { channel: "notice", notice: name } },
    make("span", { class: "tag", text: t("sse.channel.notice") }), make("span", { class: "text", text })));
  announce(text);
}

/**
 * Have it spoken. The stream itself is silent to screen readers: a tick every two seconds is too much.
 *
 * @param {string} text
 */
function announce(text) {
  find("announce").textContent = text;
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // news is any text
  }
}

pause.addEventListener("click", () => {
  const pausing = stream !== null;
  pause.textContent = t(pausing ? "sse.resume" : "sse.pause");
  if (pausing) notice("pause", t("sse.paused"));
  else notice("resume", t("sse.resumed"));
  if (stream) {
    status.watch(null);
    stream.close();
    stream = null;
    status.show({ state: "paused" });
  } else {
    open();
  }
});
open();
pause.disabled = false;

// ---- publishing to news -------------------------------------------------------------------------

const form = find("publish");
const input = find("news-text");
const send = form.querySelector("button");
const result = find("publish-result");
const secret = randomSecret();
const unsent = new Unsent();

/**
 * @param {string} text
 * @param {boolean} [failed]
 */
function tell(text, failed = false) {
  result.textContent = text;
  result.classList.toggle("failed", failed);
}

form.addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text) return tell(t("error.empty"), true);
  const key = unsent.keyOf(text);
  send.setAttribute("aria-disabled", "true");
  tell(t("sse.publish.busy"));
  try {
    const response = await fetch(form.dataset.url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data: text, event: "news", key, secret }),
    });
    if (response.ok) {
      unsent.arrived(key);
      if (input.value.trim() === text) input.value = "";
      tell(t("sse.publish.done"));
    } else {
      tell(describeProblem(t, response.status, await response.json().catch(() => null)), true);
    }
  } catch {
    tell(t("error.network"), true);
  }
  send.removeAttribute("aria-disabled");
});
send.disabled = false;

// ---- the tutorial's stream ----------------------------------------------------------------------

const tutorial = find("tutorial");
const start = find("tutorial-start");
const tutorialState = find("tutorial-state");
/** @type {EventSource | null} */
let source = null;

/**
 * @param {string} name
 * @param {string} text
 */
function showTutorial(name, text) {
  tutorialState.dataset.state = name;
  tutorialState.textContent = text;
  start.textContent = t(source ? "sse.tutorial.stop" : "sse.tutorial.start");
}

/** @param {string} state @param {string} text */
function endTutorial(state, text) {
  source?.close();
  source = null;
  showTutorial(state, text);
}

start.addEventListener("click", () => {
  if (source) return endTutorial("idle", t("sse.tutorial.stopped"));
  tutorial.replaceChildren();
  source = new EventSource(tutorial.dataset.events);
  source.addEventListener("open", () => showTutorial("open", t("state.open")));
  source.addEventListener("error", () => {
    if (source?.readyState === EventSource.CLOSED) endTutorial("closed", t("state.closed"));
    else showTutorial("waiting", t("state.waiting"));
  });
  source.addEventListener("message", (event) => {
    const greeting = parse(event.data);
    const row = make("li", {}, make("span", { class: "text", text: greeting?.message ?? event.data }));
    if (greeting?.timestamp) row.append(make("time", { text: clock.format(new Date(greeting.timestamp)) }));
    tutorial.append(row);
  });
  source.addEventListener("close", () => {
    tutorial.append(make("li", { data: { channel: "notice" } },
      make("span", { class: "text", text: t("sse.tutorial.event") })));
    endTutorial("closed", t("sse.tutorial.closed"));
  });
  showTutorial("connecting", t("state.connecting"));
});
start.disabled = false;
