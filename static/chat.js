// @ts-check
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { loadTexts } from "./i18n.js";
import { Messages } from "./messages.js";
import { find, forget, loadClient, randomSecret, recall, remember } from "./page.js";
import { People } from "./people.js";
import { ConnectionStatus } from "./status.js";

const STORE = "flask-streaming.chat";
const [t, { ReconnectingSocket }] = await Promise.all([loadTexts(), loadClient()]);
const list = find("messages");

// What the page before a reload (or a change of language) has left us. Taken out at once, so that a
// duplicated tab does not believe it is somebody else.
const left = JSON.parse(recall(STORE) || "{}");
forget(STORE);

const secret = left.secret ?? randomSecret();
const socket = new ReconnectingSocket(list.dataset.socket, { protocols: ["streaming.v1.json"] });
const people = new People(t, { onRename: rename, isOld: (id) => conversation.isOld(id) });
/** @type {Conversation} */
const conversation = new Conversation(socket, {
  channel: "chat", secret, name: people.name, clients: left.clients,
});
const status = new ConnectionStatus(t, { onRetry: () => socket.retryNow() });
const messages = new Messages(list, {
  t,
  jump: find("jump"),
  call: (id) => people.call(id),
  onAgain: (entry) => {
    conversation.writeAgain(entry);
    composer.focus();
  },
});
const composer = new Composer(t, (text) => {
  conversation.write(text, randomSecret());
  messages.follow();
});

function rename() {
  conversation.rename(people.name);
  if (conversation.me) sayWho();
}

function sayWho() {
  status.say(t("chat.you.are", { who: people.call(conversation.me) }));
}

// ---- the room -----------------------------------------------------------------------------------

conversation.on("welcome", ({ client, back }) => {
  people.become(client);
  sayWho();
  messages.notice("welcome", t(back ? "chat.welcome.back" : "chat.welcome", { who: people.call(client) }));
});
conversation.on("disconnected", () => people.become(""));
// The history is there to be read, not to be read out: speak what comes after it.
conversation.on("ready", () => setTimeout(() => messages.speak(), 500));
conversation.on("members", (members) => people.replace(members));
conversation.on("presence", ({ event, data }) => people.hear(event, data));
conversation.on("message", (message) => messages.show(message));
conversation.on("gap", () => messages.notice("gap", t("chat.gap")));
conversation.on("error", ({ status: code, title, detail }) => {
  messages.notice("error", t("chat.error", { status: code, detail: detail || title || "–" }));
});

// ---- one's own messages -------------------------------------------------------------------------

conversation.on("written", (entry) => messages.write(entry));
conversation.on("delivery", (entry) => messages.mark(entry));
conversation.on("acknowledged", ({ entry, shown }) => {
  if (shown) messages.remove(entry);
  else messages.mark(entry);
});
conversation.on("refused", (entry) => messages.mark(entry));
conversation.on("dropped", (entry) => {
  messages.mark(entry);
  const start = Array.from(entry.text).slice(0, 40).join("");
  const text = start.length < entry.text.length ? `${start}…` : start;
  messages.notice("drop", t("chat.drop", { text }));
});

// ---- the page, from its begin to its end --------------------------------------------------------

addEventListener("pagehide", () => {
  const { clients, pending } = conversation;
  remember(STORE, JSON.stringify({ clients, secret, pending, draft: composer.draft }));
});
addEventListener("pageshow", () => forget(STORE));

status.watch(socket);
for (const { key, text } of left.pending ?? []) conversation.write(text, key);
composer.open(left.draft);
