// @ts-check
import { loadTexts } from "./i18n.js";
import { Outbox } from "./outbox.js";
import { find, loadClient, make } from "./page.js";
import { People, tone } from "./people.js";
import { Rows } from "./rows.js";
import { ConnectionStatus } from "./status.js";

const CHANNEL = "chat";
const PRESENCE = "chat:presence"; // who joins and leaves the room is told there
const STORE = "flask-streaming.chat";
const [t, { ReconnectingSocket }] = await Promise.all([loadTexts(), loadClient()]);

const list = find("messages");
const composer = find("composer");
const text = find("text");

/** @type {Map<string, HTMLElement>} the rows in the list by message id, to show no message twice */
const shown = new Map();
/** @type {Map<string, HTMLElement>} acknowledged, but the message itself has not come back yet */
const acknowledged = new Map();
const rows = new Rows(list, {
  jump: find("jump"),
  onTrim: (row) => shown.delete(row.dataset.id ?? ""),
});
const outbox = new Outbox(CHANNEL, makeOwnRow);
/** @type {Map<string, string>} what this connection has asked for and not got yet: frames by `ref` */
const asked = new Map();

// What the page before a reload (or a change of language) has left us. Taken out at once, so that a
// duplicated tab does not believe it is somebody else.
const left = JSON.parse(sessionStorage.getItem(STORE) ?? "null") ?? {};
sessionStorage.removeItem(STORE);
/** @type {Set<string>} every client id this page has had: it changes with each connection */
const mine = new Set(left.clients);
let me = ""; // the present one
let lastId = "";

// Flask writes the whole address of a WebSocket, as it sees itself; the browser knows it better.
const { pathname } = new URL(list.dataset.socket, location.href);
const socket = new ReconnectingSocket(pathname, { protocols: ["streaming.v1.json"] });
const people = new People(t, { onRename: join, isOld: (id) => id !== me && mine.has(id) });
const status = new ConnectionStatus(t, { onRetry: () => socket.retryNow() });

// ---- rows ---------------------------------------------------------------------------------------

/** @param {string} content */
function makeBubble(content) {
  const bubble = make("p", { class: "bubble", text: content });
  bubble.dir = "auto";
  return bubble;
}

/** @param {string} content */
function makeOwnRow(content) {
  return make("li", { data: { kind: "own" } }, make("span", { class: "who", text: t("chat.you") }),
    makeBubble(content), make("span", { class: "mark" }));
}

/** @param {string} content @param {string} [from] */
function makeOtherRow(content, from) {
  const who = from ? people.call(from) : t("chat.someone");
  const data = { kind: "other", tone: tone(from ?? ""), ...(from && { from }) };
  return make("li", { data }, make("span", { class: "who", text: who }), makeBubble(content));
}

/**
 * Put a row where the log has it: after everything confirmed, before what still waits to be sent.
 *
 * @param {HTMLElement} row
 */
function place(row) {
  const pending = list.querySelectorAll('[data-delivery="sending"], [data-delivery="waiting"]');
  rows.place(row, [...pending].find((candidate) => candidate !== row) ?? null);
}

/**
 * @param {string} name what has happened
 * @param {string} content
 */
function notice(name, content) {
  place(make("li", { class: "notice", data: { kind: "notice", notice: name }, text: content }));
}

/**
 * @param {HTMLElement} row
 * @param {"sending" | "waiting" | "sent" | "dropped" | "refused"} delivery
 */
function mark(row, delivery) {
  if (row.dataset.delivery === delivery) return;
  row.dataset.delivery = delivery;
  const label = row.querySelector(".mark");
  if (label) label.textContent = t(`chat.${delivery}`);
}

// ---- asking -------------------------------------------------------------------------------------

/** @param {{type: string, channel: string} & Record<string, unknown>} frame */
function ask(frame) {
  const ref = `${frame.type} ${frame.channel}`;
  const text = JSON.stringify({ ...frame, ref });
  if (socket.send(text) === "sent") asked.set(ref, text);
}

/** Be in the room, under the name that was chosen. */
function join() {
  if (!me) return; // the next connection will
  ask({ type: "join", channel: CHANNEL, info: people.name });
  status.say(t("chat.you.are", { who: people.call(me) }));
}

/**
 * The server could not do it now; ask again in a moment, if this connection lasts so long.
 *
 * @param {string} ref
 */
function askAgain(ref) {
  const connection = me;
  setTimeout(() => {
    const text = asked.get(ref);
    if (text && me === connection) socket.send(text);
  }, 2000 + 3000 * Math.random());
}

// ---- sending ------------------------------------------------------------------------------------

/** @param {import("./outbox.js").Entry} entry */
function send(entry) {
  const result = socket.send(entry.frame);
  // A socket that has given up keeps nothing; the outbox does, until somebody presses "retry now".
  if (result === "dropped" && socket.state !== "closed") drop(entry);
  else mark(entry.row, result === "sent" ? "sending" : "waiting");
  if (result === "sent" && me) entry.via.add(me);
}

/** @param {import("./outbox.js").Entry} entry */
function drop(entry) {
  if (!outbox.take(entry.key)) return; // known already
  giveUp(entry, "dropped");
  const start = Array.from(entry.text).slice(0, 40).join("");
  notice("drop", t("chat.drop", { text: start.length < entry.text.length ? `${start}…` : start }));
}

/**
 * Mark an entry as not sent and offer to send it again.
 *
 * @param {import("./outbox.js").Entry} entry
 * @param {"dropped" | "refused"} delivery
 */
function giveUp(entry, delivery) {
  mark(entry.row, delivery);
  const again = make("button", { class: "again", text: t("chat.again") });
  again.setAttribute("type", "button");
  again.addEventListener("click", () => {
    again.remove();
    outbox.restore(entry);
    rows.place(entry.row);
    send(entry);
    text.focus();
  }, { once: true });
  entry.row.append(again);
}

// ---- receiving ----------------------------------------------------------------------------------

/** @type {Record<string, (frame: any) => void>} what to do with each type of frame */
const handlers = {
  welcome({ client }) {
    me = client;
    mine.add(client);
    for (const { row, via } of outbox) if (row.dataset.delivery === "sending") via.add(client);
    people.become(client);
    join();
    notice("welcome", t(lastId ? "chat.welcome.back" : "chat.welcome", { who: people.call(me) }));
  },

  ready({ channel, ref, id }) {
    asked.delete(ref);
    if (channel !== CHANNEL) return;
    lastId ||= id ?? "";
    // The history is there to be read, not to be read out: speak what comes after it.
    setTimeout(() => rows.scroller.removeAttribute("aria-busy"), 500);
  },

  joined({ ref, members }) {
    asked.delete(ref);
    people.replace(members);
  },

  presence({ ref, members }) {
    asked.delete(ref);
    people.replace(members);
  },

  message({ channel, id, event, data, from }) {
    if (channel === PRESENCE) people.hear(event, data);
    if (channel !== CHANNEL) return;
    lastId = id;
    if (shown.has(id) || (event ?? "message") !== "message") return;
    const own = mine.has(from);
    const row = acknowledged.get(id) ?? (own ? confirm(data, from) : undefined)
      ?? (own ? makeOwnRow(data) : makeOtherRow(data, from));
    acknowledged.delete(id);
    if (row.dataset.kind === "own") mark(row, "sent");
    row.dataset.id = id;
    shown.set(id, row);
    place(row);
  },

  ack({ ref, id }) {
    const entry = outbox.take(ref);
    if (!entry) return; // the message itself was faster
    if (shown.has(id)) {
      entry.row.remove();
      return;
    }
    mark(entry.row, "sent");
    acknowledged.set(id, entry.row);
  },

  gap({ channel, id }) {
    if (channel === PRESENCE) ask({ type: "presence", channel: CHANNEL });
    if (channel !== CHANNEL) return;
    lastId = id || lastId;
    acknowledged.clear();
    notice("gap", t("chat.gap"));
  },

  error({ ref, status: code, title, detail }) {
    const entry = outbox.take(ref);
    if (entry) giveUp(entry, "refused");
    if (asked.has(ref) && code === 503) askAgain(ref);
    notice("error", t("chat.error", { status: code, detail: detail || title || "–" }));
  },
};

/**
 * A message of ours has come back: the row that was waiting for it, if there is one.
 *
 * @param {string} data
 * @param {string} from
 */
function confirm(data, from) {
  return outbox.take(outbox.byText(data, from)?.key)?.row;
}

socket.addEventListener("message", (event) => {
  let frame;
  try {
    frame = JSON.parse(/** @type {MessageEvent} */ (event).data);
  } catch {
    return; // not our protocol
  }
  if (Object.hasOwn(handlers, frame?.type)) handlers[frame.type](frame);
});

socket.addEventListener("open", () => {
  asked.clear();
  const place = lastId ? { after: lastId } : { history: 50 };
  ask({ type: "subscribe", channel: CHANNEL, ...place });
  ask({ type: "subscribe", channel: PRESENCE }); // and then join: the list, and all that follows it
  // The socket sends what it has queued by itself; the rest went out before the break, unanswered.
  const queued = new Set(socket.queue);
  for (const entry of outbox) {
    if (queued.has(entry.frame)) mark(entry.row, "sending");
    else send(entry);
  }
});

socket.addEventListener("state", () => {
  if (socket.state === "open") return;
  me = "";
  people.become("");
  for (const entry of outbox) mark(entry.row, "waiting");
});

socket.addEventListener("drop", (event) => {
  const entry = outbox.byFrame(/** @type {CustomEvent} */ (event).detail.data);
  if (entry && socket.state !== "closed") drop(entry);
});

// ---- writing ------------------------------------------------------------------------------------

function measure() {
  const room = text.maxLength - text.value.length;
  find("count").textContent = room <= 200 ? t("chat.count", { left: room }) : "";
  text.rows = Math.min(6, text.value.split("\n").length);
}

/** @param {string} content @param {string} [key] */
function write(content, key) {
  const entry = outbox.add(content, key);
  rows.place(entry.row);
  send(entry);
}

composer.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const content = text.value.trim();
  if (!content) return;
  write(content);
  rows.follow();
  text.value = "";
  measure();
  text.focus();
});

text.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  // Enter while an input method is composing chooses a word (keyCode 229: Safari).
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  composer.requestSubmit();
});
text.addEventListener("input", measure);

addEventListener("pagehide", () => {
  const pending = Array.from(outbox, ({ key, text: content }) => ({ key, text: content }));
  const clients = [...mine].slice(-50);
  sessionStorage.setItem(STORE, JSON.stringify({ clients, pending, draft: text.value }));
});
addEventListener("pageshow", () => sessionStorage.removeItem(STORE));

status.watch(socket);
for (const { key, text: content } of left.pending ?? []) write(content, key);
if (left.draft && !text.value) text.value = left.draft;
measure();
find("send").disabled = false;
