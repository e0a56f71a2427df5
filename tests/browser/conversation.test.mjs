// static/conversation.js: being in a room, over a socket that is lost and comes back.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversation } from "../../static/conversation.js";

/** A ReconnectingSocket without a network: its order of events, and a queue for three texts. */
class FakeSocket extends EventTarget {
  state = "connecting";
  queue = [];
  #sent = [];

  send(text) {
    if (this.state === "open") {
      this.#sent.push(JSON.parse(text));
      return "sent";
    }
    if (this.state !== "closed" && this.queue.length < 3) {
      this.queue.push(text);
      return "queued";
    }
    this.#drop(text);
    return "dropped";
  }

  open() {
    this.#become("open");
    this.dispatchEvent(new Event("open"));
    for (const text of this.queue.splice(0)) this.send(text);
  }

  lose() {
    this.#become("waiting");
  }

  close() {
    this.state = "closed";
    for (const text of this.queue.splice(0)) this.#drop(text);
    this.#become("closed");
  }

  hear(type, frame) {
    this.hearText(JSON.stringify({ type, ...frame }));
  }

  hearText(data) {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  /** The frames that were sent since the last time. */
  take() {
    return this.#sent.splice(0);
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state } }));
  }

  #drop(data) {
    this.dispatchEvent(new CustomEvent("drop", { detail: { data } }));
  }
}

/** What an event tells, in a line. */
const LINES = {
  welcome: ({ client, back }) => `welcome${back ? " back" : ""}, ${client}`,
  disconnected: () => "disconnected",
  ready: () => "ready",
  message: ({ id, text, from, own, entry }) =>
    `message ${id} of ${from}: ${text}${own ? " (own)" : ""}${entry ? ` (written ${entry.key})` : ""}`,
  gap: () => "gap",
  members: (members) => `members ${members.map(({ id }) => id)}`,
  presence: ({ event, data }) => `presence ${event} ${data}`,
  error: ({ status, title, detail }) => `error ${status} ${title} ${detail}`,
  written: ({ key }) => `written ${key}`,
  delivery: ({ key, delivery }) => `${key} ${delivery}`,
  acknowledged: ({ entry, shown }) => `acknowledged ${entry.key} ${entry.delivery}${shown ? " (shown)" : ""}`,
  dropped: ({ key, delivery }) => `${key} ${delivery}`,
  refused: ({ key, delivery }) => `${key} ${delivery}`,
};

/** A conversation with its socket, the lines of what it tells, and what it wants to do later. */
function start(options = {}) {
  const socket = new FakeSocket();
  const lines = [];
  const timers = [];
  const later = (callback, milliseconds) => timers.push({ callback, milliseconds });
  const conversation = new Conversation(socket, { channel: "chat", secret: "s1", later, random: () => 0.5, ...options });
  for (const [name, line] of Object.entries(LINES)) {
    conversation.on(name, (detail) => lines.push(line(detail)));
  }
  return { conversation, socket, timers, take: () => lines.splice(0) };
}

/** Let a connection begin; what was sent in it is returned, what was told is not kept. */
function connect({ socket, take }, client) {
  socket.open();
  socket.hear("welcome", { client });
  socket.hear("ready", { channel: "chat", id: "e-0", ref: "subscribe chat" });
  socket.hear("ready", { channel: "chat:presence", id: "p-0", ref: "subscribe chat:presence" });
  socket.hear("joined", { channel: "chat", members: [], ref: "join chat" });
  take();
  return socket.take();
}

function connected(options) {
  const room = start(options);
  connect(room, "c1");
  return room;
}

function hear(socket, id, data, from, more = {}) {
  socket.hear("message", { channel: "chat", id, event: "message", data, from: from && { client: from }, ...more });
}

const acknowledge = (socket, key, id) => socket.hear("ack", { channel: "chat", id, ref: key });
const refuse = (socket, ref, status) => socket.hear("error", { ref, status, title: "No", detail: "Why" });
const publish = (text, key) => ({ type: "publish", channel: "chat", data: text, key, secret: "s1", ref: key });
const follow = (channel, place = {}) => ({ type: "subscribe", channel, ...place, ref: `subscribe ${channel}` });
const join = (info) => ({ type: "join", channel: "chat", info, ref: "join chat" });

// ---- the room -----------------------------------------------------------------------------------

test("a connection follows the room with its history, then who comes and leaves, and then joins", () => {
  const { conversation, socket, take } = start({ name: "Ann" });
  socket.open();
  assert.deepEqual(socket.take(), [follow("chat", { history: 50 }), follow("chat:presence")]);
  assert.equal(conversation.me, "");
  socket.hear("welcome", { client: "c1" });
  assert.deepEqual(socket.take(), [join("Ann")]);
  assert.equal(conversation.me, "c1");
  socket.hear("ready", { channel: "chat", id: "e-0", ref: "subscribe chat" });
  socket.hear("ready", { channel: "chat:presence", id: "p-0", ref: "subscribe chat:presence" });
  assert.deepEqual(take(), ["welcome, c1", "ready"]);
});

test("a new name is told at once, or by the next connection", () => {
  const room = connected({ name: "Ann" });
  room.conversation.rename("Anna");
  assert.deepEqual(room.socket.take(), [join("Anna")]);
  room.socket.lose();
  room.conversation.rename("Anne");
  assert.deepEqual(room.socket.queue, []);
  assert.deepEqual(connect(room, "c2").slice(2), [join("Anne")]);
});

test("who is there is told as a list, and then by what happens", () => {
  const { socket, take } = connected();
  socket.hear("joined", { channel: "chat", members: [{ id: "c1", info: "" }], ref: "join chat" });
  socket.hear("message", { channel: "chat:presence", id: "p-1", event: "leave", data: '{"id":"c1"}' });
  assert.deepEqual(take(), ["members c1", 'presence leave {"id":"c1"}']);
});

test("a list of many comes in pages, and what happens meanwhile counts", () => {
  const { socket, take } = connected();
  socket.take();
  const [c1, c2, c3] = ["c1", "c2", "c3"].map((id) => ({ id, info: "" }));
  socket.hear("joined", { channel: "chat", members: [c1], more: "c1", ref: "join chat" });
  const next = { type: "presence", channel: "chat", ref: "presence chat" };
  assert.deepEqual(socket.take(), [{ ...next, after: "c1" }]);
  socket.hear("message", { channel: "chat:presence", id: "p-1", event: "leave", data: '{"id":"c1"}' });
  socket.hear("presence", { channel: "chat", members: [c2], after: "c1", more: "c2", ref: "presence chat" });
  assert.deepEqual(socket.take(), [{ ...next, after: "c2" }]);
  socket.hear("presence", { channel: "chat", members: [c3], after: "c2", ref: "presence chat" });
  assert.deepEqual(socket.take(), []);
  assert.deepEqual(take(), [
    "members c1",
    'presence leave {"id":"c1"}',
    'presence join {"id":"c2","info":""}',
    'presence join {"id":"c3","info":""}',
  ]);
});

test("what happens while a list is on its way is newer than the list", () => {
  const { conversation, socket, take } = connected();
  const [c1, c2, c3] = ["c1", "c2", "c3"].map((id) => ({ id, info: "" }));
  const happens = (event, data) =>
    socket.hear("message", { channel: "chat:presence", id: "p-1", event, data: JSON.stringify(data) });
  conversation.rename("Ann");
  happens("leave", { id: "c1" });
  happens("join", c3);
  take();
  socket.hear("joined", { channel: "chat", members: [c1, c2], more: "c2", ref: "join chat" });
  assert.deepEqual(take(), ["members c2", 'presence join {"id":"c3","info":""}']);
  happens("leave", { id: "c3" });
  take();
  socket.hear("presence", { channel: "chat", members: [c3], after: "c2", ref: "presence chat" });
  assert.deepEqual(take(), []);
  conversation.rename("Bob"); // a list that is asked for now has all of that
  socket.hear("joined", { channel: "chat", members: [c1, c2, c3], ref: "join chat" });
  assert.deepEqual(take(), ["members c1,c2,c3"]);
});

test("the next connection goes on behind the last message, not behind an acknowledgement", () => {
  const { conversation, socket, take } = connected();
  hear(socket, "e-1", "hi", "c9");
  conversation.write("ahead", "k1");
  acknowledge(socket, "k1", "e-3");
  socket.take();
  take();
  socket.lose();
  assert.equal(conversation.me, "");
  socket.open();
  assert.deepEqual(socket.take(), [follow("chat", { after: "e-1" }), follow("chat:presence")]);
  socket.hear("welcome", { client: "c2" });
  assert.deepEqual(take(), ["disconnected", "welcome back, c2"]);
});

test("before the first message, the next connection goes on where this one began", () => {
  const room = connected();
  room.socket.lose();
  assert.deepEqual(connect(room, "c2")[0], follow("chat", { after: "e-0" }));
});

test("other events of the room move the cursor and are not told; other channels do neither", () => {
  const room = connected();
  hear(room.socket, "e-1", "a note", "c9", { event: "note" });
  hear(room.socket, "x-9", "elsewhere", "c9", { channel: "other" });
  assert.deepEqual(room.take(), []);
  for (const client of ["c2", "c3"]) {
    room.socket.lose();
    assert.deepEqual(connect(room, client)[0], follow("chat", { after: "e-1" }));
  }
});

test("a message that comes twice is told once", () => {
  const { socket, take } = connected();
  for (const id of ["e-1", "e-2", "e-1", "e-2"]) hear(socket, id, "hi", "c9");
  assert.deepEqual(take(), ["message e-1 of c9: hi", "message e-2 of c9: hi"]);
});

test("only so many messages are remembered, the newest", () => {
  const { socket, take } = connected();
  for (let n = 1; n <= 1001; n += 1) hear(socket, `e-${n}`, "hi", "c9");
  take();
  hear(socket, "e-2", "hi", "c9");
  assert.deepEqual(take(), []);
  hear(socket, "e-1", "hi", "c9");
  assert.deepEqual(take(), ["message e-1 of c9: hi"]);
});

test("a gap is told, and is where the next connection goes on", () => {
  const room = connected();
  room.socket.hear("gap", { channel: "chat", requested: "e-0", oldest: "f-8", newest: "f-9", id: "f-7" });
  assert.deepEqual(room.take(), ["gap"]);
  room.socket.lose();
  assert.deepEqual(connect(room, "c2")[0], follow("chat", { after: "f-7" }));
});

test("after a gap in who came and left, the list is asked for again", () => {
  const { socket, take } = connected();
  socket.hear("gap", { channel: "chat:presence", requested: "p-0", oldest: null, newest: null, id: "q-0" });
  assert.deepEqual(socket.take(), [{ type: "presence", channel: "chat", ref: "presence chat" }]);
  socket.hear("presence", { channel: "chat", members: [{ id: "c4", info: "" }], ref: "presence chat" });
  assert.deepEqual(take(), ["members c4"]);
});

test("what is not of this protocol is ignored", () => {
  const { socket, take } = connected();
  for (const text of ["hello", "null", "3", "[]", "{}", '{"type":"__defineGetter__"}', '{"type":"unsubscribed"}']) {
    socket.hearText(text);
  }
  assert.deepEqual([take(), socket.take()], [[], []]);
});

// ---- one's own messages -------------------------------------------------------------------------

test("a message that is acknowledged first is told as the one that was written", () => {
  const { conversation, socket, take } = connected();
  conversation.write("hi", "k1");
  assert.deepEqual(socket.take(), [publish("hi", "k1")]);
  assert.deepEqual(take(), ["written k1", "k1 sending"]);
  acknowledge(socket, "k1", "e-1");
  assert.deepEqual(conversation.pending, []);
  assert.deepEqual(take(), ["acknowledged k1 sent"]);
  hear(socket, "e-1", "hi", "c1");
  assert.deepEqual(take(), ["message e-1 of c1: hi (own) (written k1)"]);
});

test("an acknowledged message is one's own, whichever connection the log had it from", () => {
  const { conversation, socket, take } = connected();
  conversation.write("hi", "k1");
  acknowledge(socket, "k1", "e-1");
  take();
  hear(socket, "e-1", "hi", "forgotten");
  assert.deepEqual(take(), ["message e-1 of forgotten: hi (own) (written k1)"]);
});

test("a message that comes back before its acknowledgement is told as the one that was written", () => {
  const { conversation, socket, take } = connected();
  conversation.write("hi", "k1");
  take();
  hear(socket, "e-1", "hi", "c1");
  assert.deepEqual(take(), ["message e-1 of c1: hi (own) (written k1)"]);
  assert.deepEqual(conversation.pending, []);
  acknowledge(socket, "k1", "e-1");
  assert.deepEqual(take(), []);
});

test("of two with the same text, the one that was written first comes back first", () => {
  const { conversation, socket, take } = connected();
  conversation.write("hi", "k1");
  conversation.write("hi", "k2");
  take();
  hear(socket, "e-1", "hi", "c1");
  hear(socket, "e-2", "hi", "c1");
  assert.deepEqual(take(), [
    "message e-1 of c1: hi (own) (written k1)",
    "message e-2 of c1: hi (own) (written k2)",
  ]);
});

test("what somebody else writes with the same text is not taken for one's own", () => {
  const { conversation, socket, take } = connected();
  conversation.write("hi", "k1");
  take();
  hear(socket, "e-1", "hi", "c9");
  hear(socket, "e-2", "hi", undefined);
  assert.deepEqual(take(), ["message e-1 of c9: hi", "message e-2 of undefined: hi"]);
  assert.deepEqual(conversation.pending, [{ key: "k1", text: "hi" }]);
});

test("what goes out before the welcome is known by the id that the welcome brings", () => {
  const { conversation, socket, take } = start();
  conversation.write("early", "k1");
  assert.deepEqual(take(), ["written k1", "k1 waiting"]);
  socket.open();
  socket.hear("welcome", { client: "c1" });
  hear(socket, "e-1", "early", "c1");
  assert.deepEqual(take(), ["k1 sending", "welcome, c1", "message e-1 of c1: early (own) (written k1)"]);
});

test("another connection begins in the middle: what has no answer goes out again, and is told once", () => {
  const { conversation, socket, take } = connected();
  conversation.write("on its way", "k1");
  socket.lose();
  conversation.write("unsent", "k2");
  assert.deepEqual(take(), ["written k1", "k1 sending", "disconnected", "k1 waiting", "written k2", "k2 waiting"]);
  socket.take();
  socket.open();
  assert.deepEqual(socket.take().slice(2), [publish("on its way", "k1"), publish("unsent", "k2")]);
  socket.hear("welcome", { client: "c2" });
  assert.deepEqual(take(), ["k1 sending", "k2 sending", "welcome back, c2"]);
  hear(socket, "e-1", "on its way", "c1"); // the log had it before the break
  acknowledge(socket, "k1", "e-1");
  hear(socket, "e-2", "unsent", "c2");
  assert.deepEqual(take(), [
    "message e-1 of c1: on its way (own) (written k1)",
    "message e-2 of c2: unsent (own) (written k2)",
  ]);
});

test("messages of earlier connections are known as own, also those of an earlier conversation", () => {
  const room = connected({ clients: ["b1", "b2"] });
  room.socket.lose();
  connect(room, "c2");
  for (const [n, client] of ["b1", "c1", "c2", "x1"].entries()) hear(room.socket, `e-${n}`, "hi", client);
  assert.deepEqual(room.take(), [
    "message e-0 of b1: hi (own)",
    "message e-1 of c1: hi (own)",
    "message e-2 of c2: hi (own)",
    "message e-3 of x1: hi",
  ]);
  const { conversation } = room;
  assert.deepEqual(["b1", "c1", "c2", "x1"].map((id) => conversation.isOld(id)), [true, true, false, false]);
  assert.deepEqual(conversation.clients, ["b1", "b2", "c1", "c2"]);
});

test("what an earlier conversation has left may be in the log already: then it is told which one it was", () => {
  const { conversation, socket, take } = start({ clients: ["b1"] });
  conversation.write("left over", "k1");
  socket.open();
  socket.hear("welcome", { client: "c1" });
  take();
  hear(socket, "e-1", "left over", "b1");
  acknowledge(socket, "k1", "e-1");
  assert.deepEqual(take(), ["message e-1 of b1: left over (own)", "acknowledged k1 sent (shown)"]);
});

test("what is pending is known in the order of writing, and the newest fifty ids", () => {
  const { conversation } = start({ clients: Array.from({ length: 60 }, (_, n) => `c${n}`) });
  conversation.write("one", "k1");
  conversation.write("two", "k2");
  assert.deepEqual(conversation.pending, [{ key: "k1", text: "one" }, { key: "k2", text: "two" }]);
  assert.equal(conversation.clients.length, 50);
  assert.equal(conversation.clients[49], "c59");
});

test("a message that is acknowledged and then lost in a gap is forgotten", () => {
  const { conversation, socket, take } = connected();
  conversation.write("hi", "k1");
  acknowledge(socket, "k1", "e-1");
  take();
  socket.hear("gap", { channel: "chat", id: "f-0" });
  hear(socket, "e-1", "hi", "c9");
  assert.deepEqual(take(), ["gap", "message e-1 of c9: hi"]);
});

test("one too many for the queue is dropped, told once, and can be written again", () => {
  const { conversation, socket, take } = start();
  let last;
  conversation.on("dropped", (entry) => (last = entry));
  for (const n of [1, 2, 3, 4]) conversation.write(`text ${n}`, `k${n}`);
  assert.deepEqual(take().slice(-2), ["written k4", "k4 dropped"]);
  assert.equal(conversation.pending.length, 3);
  connect({ socket, take }, "c1");
  conversation.writeAgain(last);
  assert.deepEqual(socket.take(), [publish("text 4", "k4")]);
  assert.deepEqual(take(), ["k4 sending"]);
});

test("when the socket is closed, what is unsent waits for another connection", () => {
  const { conversation, socket, take } = start();
  conversation.write("before", "k1");
  socket.close();
  conversation.write("after", "k2");
  assert.deepEqual(take(), ["written k1", "k1 waiting", "disconnected", "k1 waiting", "written k2", "k2 waiting"]);
  socket.open();
  assert.deepEqual(socket.take().slice(2), [publish("before", "k1"), publish("after", "k2")]);
});

// ---- refusals -----------------------------------------------------------------------------------

test("a message that is refused is told with the reason, and can be written again under its key", () => {
  const { conversation, socket, take } = connected();
  let refused;
  conversation.on("refused", (entry) => (refused = entry));
  conversation.write("hi", "k1");
  socket.take();
  take();
  refuse(socket, "k1", 403);
  assert.deepEqual(take(), ["k1 refused", "error 403 No Why"]);
  assert.deepEqual(conversation.pending, []);
  conversation.writeAgain(refused);
  assert.deepEqual(socket.take(), [publish("hi", "k1")]);
  assert.deepEqual(take(), ["k1 sending"]);
  assert.deepEqual(conversation.pending, [{ key: "k1", text: "hi" }]);
});

test("a request that is refused for a passing reason is asked again, after 2 to 5 seconds", () => {
  for (const [random, milliseconds] of [[0, 2000], [0.5, 3500], [1, 5000]]) {
    const { conversation, socket, take, timers } = connected({ random: () => random });
    conversation.rename("Ann");
    socket.take();
    refuse(socket, "join chat", 503);
    assert.deepEqual(take(), ["error 503 No Why"]);
    assert.deepEqual(timers.map((timer) => timer.milliseconds), [milliseconds]);
    assert.deepEqual(socket.take(), []);
    timers[0].callback();
    assert.deepEqual(socket.take(), [join("Ann")]);
  }
});

test("a request that is refused for good is told, and not asked again", () => {
  const { conversation, socket, take, timers } = connected();
  conversation.rename("Ann");
  refuse(socket, "join chat", 403);
  assert.deepEqual(take(), ["error 403 No Why"]);
  assert.deepEqual(timers, []);
});

test("an error of something else, or of what was answered, has nothing asked again", () => {
  const { socket, take, timers } = connected();
  for (const ref of ["join chat", "k9", undefined]) refuse(socket, ref, 503);
  assert.equal(take().length, 3);
  assert.deepEqual(timers, []);
});

test("what was answered meanwhile is not asked again", () => {
  const { conversation, socket, timers } = connected();
  conversation.rename("Ann");
  refuse(socket, "join chat", 503);
  socket.hear("joined", { channel: "chat", members: [], ref: "join chat" });
  socket.take();
  timers[0].callback();
  assert.deepEqual(socket.take(), []);
});

test("the answer to what was asked before is none to what has taken its place", () => {
  const { conversation, socket, timers } = connected();
  conversation.rename("Ann");
  conversation.rename("Bob");
  socket.take();
  socket.hear("joined", { channel: "chat", members: [], ref: "join chat" }); // as Ann
  refuse(socket, "join chat", 503);
  timers[0]?.callback();
  assert.deepEqual(socket.take(), [join("Bob")]);
  socket.hear("joined", { channel: "chat", members: [], ref: "join chat" });
  refuse(socket, "join chat", 503);
  assert.equal(timers.length, 1);
});

test("another connection does not ask again what this one was refused", () => {
  const room = connected();
  room.conversation.rename("Ann");
  refuse(room.socket, "join chat", 503);
  room.socket.lose();
  room.timers[0].callback();
  assert.deepEqual(room.socket.queue, []);
  room.socket.open();
  room.socket.hear("welcome", { client: "c2" });
  room.socket.take();
  room.timers[0].callback(); // nor while its own request is unanswered
  assert.deepEqual(room.socket.take(), []);
});
