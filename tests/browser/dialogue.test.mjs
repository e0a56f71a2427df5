// static/dialogue.js, turn.js, turn-store.js: the conversation of the typewriter page, without the page.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Dialogue } from "../../static/dialogue.js";
import { MOST, SIZE, surplus, TurnStore } from "../../static/turn-store.js";
import { after, begin, context, isOpen } from "../../static/turn.js";
import * as client from "../../streaming/static/index.js";
import { stream, until } from "./helper.mjs";
import { problem, runServer } from "./run-server.mjs";

/** localStorage as browsers have it, with room for so many characters. */
class Storage {
  constructor(room = Infinity) {
    this.room = room;
    this.entries = new Map();
    this.tabs = new Set();
  }

  get length() {
    return this.entries.size;
  }

  key(n) {
    return [...this.entries.keys()][n] ?? null;
  }

  getItem(key) {
    return this.entries.get(key) ?? null;
  }

  setItem(key, value) {
    const others = [...this.entries].filter(([name]) => name !== key);
    const used = others.reduce((sum, [, text]) => sum + text.length, value.length);
    if (used > this.room) throw new DOMException("full", "QuotaExceededError");
    this.entries.set(key, value);
  }

  removeItem(key) {
    this.entries.delete(key);
  }
}

/** One tab's view of a storage: the other tabs hear of what it does. */
class Tab extends EventTarget {
  constructor(storage) {
    super();
    this.storage = storage;
    storage.tabs.add(this);
    const tell = (key, newValue) => {
      for (const tab of storage.tabs) {
        if (tab === this) continue;
        const event = new Event("storage");
        tab.dispatchEvent(Object.assign(event, { key, newValue, storageArea: tab.view }));
      }
    };
    this.view = {
      get length() {
        return storage.length;
      },
      key: (n) => storage.key(n),
      getItem: (key) => storage.getItem(key),
      setItem(key, value) {
        storage.setItem(key, value);
        tell(key, value);
      },
      removeItem(key) {
        storage.removeItem(key);
        tell(key, null);
      },
    };
  }
}

/** A tab with the conversation in it; `close` is what happens when it is left. */
function open(t, server, { storage = new Storage(), now = Date.now, ...more } = {}) {
  const tab = new Tab(storage);
  const store = new TurnStore(() => tab.view);
  const quick = { first: 1, base: 1, cap: 1, limit: 3, ...more };
  const AnswerStream = {
    start: (url, options) => client.AnswerStream.start(url, { backoff: quick, ...options }),
    resume: (url, options) => client.AnswerStream.resume(url, { backoff: quick, ...options }),
  };
  const describe = (error) => `described ${error.status}`;
  const url = server.ask;
  const dialogue = new Dialogue({ store, client: { AnswerStream }, url, describe, now });
  dialogue.log = [];
  dialogue.store = store;
  for (const name of ["turn", "removed", "lost", "trouble", "kept"]) {
    dialogue.on(name, (detail) => dialogue.log.push({ name, ...detail }));
  }
  store.listen = (
    (listen) => (listener) =>
      listen.call(store, listener, tab)
  )(store.listen);
  dialogue.close = () => {
    storage.tabs.delete(tab);
    dialogue.keep();
    for (const { id } of dialogue.turns) dialogue.answer(id)?.close();
  };
  t.after(dialogue.close);
  dialogue.start();
  return dialogue;
}

const last = (dialogue) => dialogue.turns.at(-1);
const states = (dialogue) => dialogue.turns.map(({ state }) => state);

/** Wait until the newest turn has come so far. */
function reached(dialogue, state) {
  return until(() => last(dialogue)?.state === state, `${state}, not ${last(dialogue)?.state}`);
}

test("a question is answered, and all is kept", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  const dialogue = open(t, server, { storage });
  dialogue.ask("why?");
  assert.equal(last(dialogue).state, "asking");
  await reached(dialogue, "thinking");
  server.run.say("text", "be").say("text", "cause\n\n");
  await until(() => last(dialogue).text === "because\n\n");
  assert.equal(dialogue.open.state, "writing");
  server.run.say("data", { markdown: [["p", "because"]], end: 9 }).end();
  await reached(dialogue, "done");
  assert.equal(dialogue.open, null);
  const { question, text, nodes, end } = last(dialogue);
  assert.deepEqual([question, text, end], ["why?", "because\n\n", 9]);
  assert.deepEqual(nodes, [["p", "because"]]);
  const { body } = server.requests[0];
  assert.deepEqual(JSON.parse(body), { question: "why?", language: "en", history: [] });
  assert.deepEqual(open(t, server, { storage }).turns, dialogue.turns);
});

test("after a reload the answer goes on, and is there once", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  const before = open(t, server, { storage });
  before.ask("why?");
  await reached(before, "thinking");
  server.run.say("text", "one ");
  await reached(before, "writing");
  before.close();
  server.run.say("text", "two ");
  const reloaded = open(t, server, { storage });
  assert.equal(last(reloaded).text, "one ");
  await until(() => last(reloaded).text === "one two ");
  server.run.say("text", "three").end();
  await reached(reloaded, "done");
  assert.equal(last(reloaded).text, "one two three");
  assert.equal(server.begun, 1);
});

test("a question whose answer was not heard of before a reload is asked with its key", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  const ask = server.handler;
  server.handler = () => {};
  const before = open(t, server, { storage });
  before.ask("why?");
  await until(() => server.requests.length);
  before.close();
  server.handler = ask;
  const reloaded = open(t, server, { storage });
  await reached(reloaded, "thinking");
  const keys = server.requests.map(({ headers }) => headers["idempotency-key"]);
  assert.equal(keys.length, 2);
  assert.equal(keys[0], keys[1]);
});

test("a question that was never answered long ago is not asked again by itself", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  server.handler = () => {};
  const before = open(t, server, { storage });
  before.ask("why?");
  before.close();
  const asked = server.requests.length;
  const later = open(t, server, { storage, now: () => Date.now() + 3_600_000 });
  assert.deepEqual(states(later), ["interrupted"]);
  assert.equal(server.requests.length, asked);
});

test("a second tab reads along, and may stop it for both", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  const one = open(t, server, { storage });
  const two = open(t, server, { storage });
  one.ask("why?");
  await until(() => two.turns.length === 1);
  await reached(two, "thinking");
  server.run.say("text", "because");
  for (const tab of [one, two]) await until(() => last(tab).text === "because");
  await two.stop();
  for (const tab of [one, two]) await reached(tab, "stopped");
  assert.equal(server.begun, 1);
});

test("a second tab goes on alone when the first is closed", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  const one = open(t, server, { storage });
  const two = open(t, server, { storage });
  one.ask("why?");
  await reached(two, "thinking");
  server.run.say("text", "be");
  await reached(one, "writing");
  one.close();
  server.run.say("text", "cause").end();
  await reached(two, "done");
  assert.equal(last(two).text, "because");
});

test("what another tab has read of an answer does not set back who reads it too", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  const [one, two] = [1, 2].map(() => open(t, server, { storage }));
  one.ask("why?");
  await reached(two, "thinking");
  server.run.say("text", "because");
  for (const tab of [one, two]) await until(() => last(tab).text === "because");
  const asked = server.requests.length;
  const old = { ...last(two), text: "be", state: "writing" };
  one.store.keep(old);
  assert.equal(last(two).text, "because");
  const [elsewhere] = [...storage.tabs];
  const key = `flask-streaming.turn.${old.id}`;
  const event = Object.assign(new Event("storage"), { key, newValue: null, storageArea: {} });
  elsewhere.dispatchEvent(event); // of sessionStorage
  assert.equal(one.turns.length, 1);
  assert.equal(server.requests.length, asked);
});

test("a tab that goes keeps nothing of what another one has whole, or has removed", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  const never = 3_600_000;
  const behind = open(t, server, { storage, first: never, cap: never });
  const ahead = open(t, server, { storage });
  ahead.ask("why?");
  await reached(behind, "thinking");
  server.run.say("text", "be");
  for (const tab of [ahead, behind]) await until(() => last(tab).text === "be");
  for (const socket of server.sockets) socket.destroy();
  await until(() => behind.answer(last(behind).id).state === "waiting");
  server.run.say("text", "cause").end();
  await reached(ahead, "done");
  behind.keep();
  assert.deepEqual(ahead.store.all().map(({ text }) => text), ["because"]);
  assert.equal(last(ahead).text, "because");
  storage.entries.clear(); // by a tab of which this one has not heard, since it was frozen
  behind.keep();
  assert.deepEqual(ahead.store.all(), []);
});

test("what is too much to be kept is no longer shown", async (t) => {
  const server = await runServer(t, { begin: (run) => run.say("text", "x".repeat(400)).end() });
  const dialogue = open(t, server, { storage: new Storage(1800) });
  for (const question of ["a", "b", "c", "d"]) {
    dialogue.ask(question);
    await reached(dialogue, "done");
  }
  assert.deepEqual(
    dialogue.turns.map(({ question }) => question),
    ["c", "d"],
  );
  assert.equal(dialogue.log.filter(({ name }) => name === "removed").length, 2);
});

test("what is removed or asked again in one tab is so in the other", async (t) => {
  const storage = new Storage();
  const server = await runServer(t, { begin: (run) => run.say("text", run.id).end() });
  const [one, two] = [1, 2].map(() => open(t, server, { storage }));
  one.ask("a");
  await reached(one, "done");
  await reached(two, "done");
  two.again(last(two).id);
  for (const tab of [one, two]) await until(() => last(tab).text === "r2");
  assert.equal(one.turns.length, 1);
  one.clear();
  assert.deepEqual([one.turns, two.turns], [[], []]);
  assert.equal(storage.length, 0);
});

test("asking something else stops the answer before it", async (t) => {
  const server = await runServer(t);
  const dialogue = open(t, server);
  dialogue.ask("a");
  await reached(dialogue, "thinking");
  dialogue.ask("b");
  await until(() => states(dialogue)[0] === "stopped");
  await until(() => server.begun === 2);
});

test("what is cleared or asked again before the server has answered is stopped, too", async (t) => {
  const server = await runServer(t);
  const { handler } = server;
  for (const act of ["clear", "again"]) {
    const dialogue = open(t, server);
    let answer;
    server.handler = (...args) => (answer = () => handler(...args));
    dialogue.ask("a");
    await until(() => answer);
    server.handler = handler;
    dialogue[act](last(dialogue).id);
    answer();
    const { run } = server;
    const isStop = ({ method, url }) => method === "DELETE" && url === `/runs/${run.id}`;
    await until(() => server.requests.some(isStop));
    await until(() => run.readers.size === 0);
    if (act === "clear") assert.deepEqual(dialogue.turns, []);
    else await reached(dialogue, "thinking");
    dialogue.clear();
  }
});

test("asked again, a turn keeps its place; with another question the rest goes", async (t) => {
  const server = await runServer(t, { begin: (run) => run.say("text", run.id).end() });
  const dialogue = open(t, server);
  for (const question of ["a", "b", "c"]) {
    dialogue.ask(question);
    await reached(dialogue, "done");
  }
  const [first, second] = dialogue.turns;
  dialogue.again(first.id);
  await until(() => dialogue.turns[0].text === "r4");
  assert.deepEqual(
    dialogue.turns.map(({ question }) => question),
    ["a", "b", "c"],
  );
  dialogue.again(second.id, "B");
  await until(() => last(dialogue).text === "r5");
  assert.deepEqual(
    dialogue.turns.map(({ question }) => question),
    ["a", "B"],
  );
  assert.equal(dialogue.turns[1].at, second.at);
  const { history } = JSON.parse(server.requests.at(-1).body);
  assert.deepEqual(history, [{ question: "a", answer: "r4" }]);
});

test("what goes wrong is said, and asking again works", async (t) => {
  const server = await runServer(t, { begin: (run) => run.end() });
  const ask = server.handler;
  const dialogue = open(t, server);
  server.handler = (_, response) => problem(response, 502, "Bad Gateway");
  dialogue.ask("a");
  await reached(dialogue, "failed");
  assert.deepEqual([last(dialogue).detail, last(dialogue).status], ["described 502", 502]);
  server.handler = ask;
  dialogue.again(last(dialogue).id);
  await reached(dialogue, "done");
  assert.deepEqual([last(dialogue).detail, last(dialogue).status], ["", 0]);
});

test("an answer that is interrupted, or ends without an end, is so", async (t) => {
  const server = await runServer(t);
  const dialogue = open(t, server);
  dialogue.ask("a");
  await reached(dialogue, "thinking");
  server.run.say("text", "half");
  server.run.end("interrupted");
  await reached(dialogue, "interrupted");
  assert.equal(last(dialogue).text, "half");
  server.handler = (_, response) => stream(response, "event: close\ndata: {}\n\n").end();
  dialogue.ask("b");
  await reached(dialogue, "interrupted");
});

test("an answer that was lost can be stopped", async (t) => {
  const server = await runServer(t);
  const dialogue = open(t, server);
  dialogue.ask("a");
  await reached(dialogue, "thinking");
  const handler = server.handler;
  server.handler = (_, response) => response.writeHead(502).end();
  for (const socket of server.sockets) socket.destroy();
  await until(() => dialogue.log.some(({ name }) => name === "lost"));
  server.handler = handler;
  await dialogue.stop();
  await reached(dialogue, "stopped");
});

test("what another tab asks again is no longer what was asked before", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  const [one, two] = [1, 2].map(() => open(t, server, { storage }));
  one.ask("a");
  await reached(two, "thinking");
  server.run.say("text", "old");
  for (const tab of [one, two]) await until(() => last(tab).text === "old");
  const old = server.run;
  const handler = server.handler;
  server.handler = (request, response, number) => {
    if (request.method !== "POST") handler(request, response, number);
  };
  two.again(last(two).id);
  await until(() => old.ended);
  await until(() => old.readers.size === 0 && server.active === 1);
  await new Promise((resolve) => setTimeout(resolve, 50)); // in which nothing may happen
  assert.deepEqual([last(one).state, last(one).text], ["asking", ""]);
});

test("an answer that is not kept any more is gone, what was read of it stays", async (t) => {
  const storage = new Storage();
  const server = await runServer(t);
  const before = open(t, server, { storage });
  before.ask("a");
  await reached(before, "thinking");
  server.run.say("text", "half");
  await reached(before, "writing");
  before.close();
  server.run = null;
  const reloaded = open(t, server, { storage });
  await reached(reloaded, "gone");
  assert.equal(last(reloaded).text, "half");
});

test("an answer that cannot be reached is lost until somebody tries again", async (t) => {
  const server = await runServer(t);
  const dialogue = open(t, server);
  dialogue.ask("a");
  await reached(dialogue, "thinking");
  const handler = server.handler;
  server.handler = (_, response) => response.writeHead(502).end();
  for (const socket of server.sockets) socket.destroy();
  await until(() => dialogue.log.some(({ name }) => name === "lost"));
  assert.equal(dialogue.open.state, "thinking");
  server.handler = handler;
  server.run.say("text", "b").end();
  dialogue.wake();
  await reached(dialogue, "done");
  assert.equal(last(dialogue).text, "b");
});

test("an answer that cannot be stopped is said", async (t) => {
  const server = await runServer(t);
  const dialogue = open(t, server);
  dialogue.ask("a");
  await reached(dialogue, "thinking");
  server.handler = (_, response) => problem(response, 403, "Forbidden");
  await dialogue.stop();
  assert.equal(dialogue.log.at(-1).name, "trouble");
  const asked = server.requests.length;
  await Promise.all([dialogue.stop(), dialogue.stop()]);
  assert.equal(server.requests.length, asked + 1); // again, but once
});

test("where nothing can be kept the conversation goes on, and says so", async (t) => {
  const server = await runServer(t, { begin: (run) => run.end() });
  const dialogue = open(t, server, { storage: new Storage(10) });
  for (let n = 0; n < MOST + 3; n += 1) dialogue.ask(String(n));
  await reached(dialogue, "done");
  assert.equal(dialogue.turns.length, MOST);
  assert.equal(dialogue.turns[0].question, "3");
  assert.ok(dialogue.log.filter(({ name }) => name === "kept").every(({ isKept }) => !isKept));
  const forbidden = new TurnStore(() => {
    throw new DOMException("no", "SecurityError");
  });
  assert.deepEqual(forbidden.all(), []);
  assert.deepEqual(forbidden.keep(last(dialogue)), { isKept: false, removed: [] });
  forbidden.remove("x");
});

// ---- what is kept -------------------------------------------------------------------------------

const turn = (id, more = {}) => ({
  ...begin({ id, key: "k", question: id, now: Number(id) }),
  ...more,
});

test("the newest turns are kept, and only so much of them", () => {
  assert.equal(surplus([]), 0);
  assert.equal(surplus(Array(MOST).fill(1)), 0);
  assert.equal(surplus(Array(MOST + 2).fill(1)), 2);
  assert.equal(surplus([SIZE - 1, 2]), 1);
  assert.equal(surplus([1, SIZE - 1]), 0);
  const storage = new Storage();
  const store = new TurnStore(() => storage);
  for (let n = 0; n < MOST + 5; n += 1) {
    const { isKept, removed } = store.keep(turn(String(n)));
    assert.deepEqual([isKept, removed], [true, n < MOST ? [] : [String(n - MOST)]]);
  }
  assert.deepEqual(
    store.all().map(({ at }) => at),
    Array.from({ length: MOST }, (_, n) => n + 5),
  );
  const big = "x".repeat(SIZE - 2000);
  assert.equal(store.keep(turn("99", { text: big })).isKept, true);
  const kept = [...storage.entries.values()].reduce((sum, text) => sum + text.length, 0);
  assert.ok(kept <= SIZE && kept > SIZE - 2000, String(kept));
  assert.deepEqual(store.keep(turn("100", { text: big + big })), { isKept: false, removed: [] });
});

test("where the browser has less room the oldest go", () => {
  const storage = new Storage(1500);
  const store = new TurnStore(() => storage);
  for (const id of ["1", "2", "3"])
    assert.equal(store.keep(turn(id, { text: "x".repeat(400) })).isKept, true);
  assert.deepEqual(
    store.all().map(({ id }) => id),
    ["2", "3"],
  );
});

test("what is no turn of ours is passed over", () => {
  const storage = new Storage();
  const store = new TurnStore(() => storage);
  storage.setItem("something else", "{}");
  for (const [n, text] of ["", "{", "null", "[]", '{"id":"a"}'].entries()) {
    storage.setItem(`flask-streaming.turn.${n}`, text);
  }
  assert.deepEqual(store.all(), []);
});

// ---- turns --------------------------------------------------------------------------------------

test("a turn follows the parts of its answer", () => {
  const follow = (...parts) =>
    parts.reduce((so, [kind, data]) => after(so, { kind, data, id: "" }), turn("1"));
  assert.equal(follow(["start", { state: "queued" }]).state, "queued");
  assert.equal(follow(["start", { state: "queued" }], ["running", {}]).state, "thinking");
  assert.equal(follow(["reasoning", "a"], ["reasoning", "b"]).reasoning, "ab");
  assert.equal(follow(["gap", {}]).isWhole, false);
  assert.equal(follow(["data", { other: 1 }], ["tool-call", {}], ["usage", {}]).nodes.length, 0);
  const block = (end) => ["data", { markdown: [["hr"]], end }];
  assert.equal(follow(block(3), block(2), block(3), ["data", { markdown: [[]] }]).nodes.length, 2);
  const failed = follow(
    ["error", "My words."],
    ["end", { state: "failed", detail: "Failed.", status: 500 }],
  );
  assert.deepEqual([failed.state, failed.detail, failed.status], ["failed", "My words.", 500]);
  assert.equal(isOpen(failed), false);
});

test("a snapshot replaces what was there", () => {
  const parts = [
    { kind: "reasoning", data: "hm" },
    { kind: "text", data: "a\n\n" },
    { kind: "data", data: { markdown: [["p", "a"]], end: 3 } },
    { kind: "text", data: "b" },
  ];
  const snapshot = { id: "r", state: "running", text: "a\n\nb", parts, whole: true };
  const old = turn("1", {
    text: "old",
    nodes: [["p", "old"]],
    end: 5,
    location: "there",
    isWhole: false,
  });
  const made = after(old, { kind: "snapshot", data: snapshot, id: "" });
  assert.deepEqual([made.text, made.nodes, made.end], ["a\n\nb", [["p", "a"]], 3]);
  assert.deepEqual(
    [made.state, made.reasoning, made.location, made.isWhole],
    ["writing", "hm", "there", true],
  );
  const cut = after(old, { kind: "snapshot", data: { ...snapshot, whole: false }, id: "" });
  assert.equal(cut.isWhole, false);
  const states = ["queued", "running", "done"].map((state) => ({
    ...snapshot,
    state,
    text: "",
    parts: [],
  }));
  const found = states.map((data) => after(old, { kind: "snapshot", data, id: "" }).state);
  assert.deepEqual(found, ["queued", "thinking", "done"]);
});

test("what was said before is bounded, the newest of it goes along", () => {
  const turns = Array.from({ length: 30 }, (_, n) => turn(String(n), { text: `answer ${n}` }));
  const said = context(turns);
  assert.equal(said.length, 10);
  assert.deepEqual(said.at(-1), { question: "29", answer: "answer 29" });
  const long = turn("30", { text: "x".repeat(20_000) });
  assert.deepEqual(context([...turns, long]), []);
  assert.deepEqual(context([turn("1"), turn("2", { text: "a" })]), [
    { question: "2", answer: "a" },
  ]);
});
