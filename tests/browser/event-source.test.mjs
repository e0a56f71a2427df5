// EventStream behaves as the EventSource of HTML, section 9.2. That both do the same in a real browser
// is in tests/live/test_event_source.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventStream } from "../../streaming/static/index.js";
import { assertNothingLeft, freePort, httpServer, states, stream, until } from "./helper.mjs";

const QUICK = { first: 1, base: 1, cap: 1, limit: 3 };

function open(t, url, options = {}) {
  const events = new EventStream(url, { backoff: QUICK, ...options });
  t.after(() => events.close());
  return events;
}

/** What happens from now on, with the readyState of that moment. */
function follow(events, ...more) {
  const log = [];
  const note = (event) => log.push([event.type, events.readyState, event.data ?? null]);
  events.onopen = events.onmessage = events.onerror = note;
  for (const name of more) events.addEventListener(name, note);
  return log;
}

test("the numbers of the states are on the class and on the object", () => {
  const events = new EventStream("http://127.0.0.1:1/");
  for (const thing of [EventStream, EventStream.prototype, events]) {
    assert.deepEqual([thing.CONNECTING, thing.OPEN, thing.CLOSED], [0, 1, 2]);
  }
  events.close();
  assert.throws(() => {
    EventStream.OPEN = 7;
  }, TypeError);
});

test("url is absolute, withCredentials sends cookies to other origins", async (t) => {
  const sent = [];
  const fetch = async (url, { credentials }) => {
    sent.push([String(url), credentials]);
    return new Response(null, { status: 204 });
  };
  const url = new URL("http://example.org/a/../events?channel=ä#x");
  for (const [options, withCredentials, credentials] of [
    [{}, false, "same-origin"],
    [{ withCredentials: false }, false, "same-origin"],
    [{ withCredentials: true }, true, "include"],
    [{ credentials: "include" }, true, "include"],
    [{ credentials: "omit" }, false, "omit"],
  ]) {
    const events = open(t, url, { fetch, ...options });
    assert.equal(events.url, "http://example.org/events?channel=%C3%A4#x");
    assert.equal(events.withCredentials, withCredentials);
    await states(events).next("closed");
    assert.equal(sent.pop()[1], credentials);
  }
  assert.throws(() => {
    new EventStream(url, { fetch }).url = "elsewhere";
  }, TypeError);
});

test("readyState goes with what is said: open, messages, error and again", async (t) => {
  const server = await httpServer(t, (_, response, number) => {
    if (number === 1) stream(response).end("data: 1\n\n");
    else if (number === 2) stream(response).end("event: named\ndata: 2\n\n");
    else response.writeHead(204).end();
  });
  const events = open(t, server.url);
  assert.equal(events.readyState, EventStream.CONNECTING);
  const log = follow(events, "named");
  await until(() => events.readyState === EventStream.CLOSED);
  assert.deepEqual(log, [
    ["open", 1, null],
    ["message", 1, "1"],
    ["error", 0, null],
    ["open", 1, null],
    ["named", 1, "2"],
    ["error", 0, null],
    ["error", 2, null],
  ]);
  await assertNothingLeft({ server });
});

for (const [what, answer, detail] of [
  ["404", [404, {}], { status: 404, problem: null }],
  [
    "a problem",
    [403, { "Content-Type": "application/problem+json" }, '{"title":"Not allowed"}'],
    { status: 403, problem: { title: "Not allowed" } },
  ],
  ["a page", [200, { "Content-Type": "text/html" }, "<p>"], { status: 200, problem: null }],
]) {
  test(`${what} is an error for good, and says why`, async (t) => {
    const server = await httpServer(t, (_, response) => {
      response.writeHead(answer[0], answer[1]).end(answer[2]);
    });
    const events = open(t, server.url);
    const log = follow(events);
    const error = await new Promise((resolve) => events.addEventListener("error", resolve));
    assert.equal(events.readyState, EventStream.CLOSED);
    const { reason, ...rest } = error.detail;
    assert.deepEqual(rest, detail);
    assert.match(reason, /^the server/);
    assert.deepEqual(log, [["error", 2, null]]);
    assert.equal(server.requests.length, 1);
  });
}

test("a server that is busy or not there is an error each time, and for good at the last", async (t) => {
  const busy = await httpServer(t, (_, response) => response.writeHead(503).end());
  const nobody = `http://127.0.0.1:${await freePort(t)}/`;
  for (const [url, status] of [
    [busy.url, 503],
    [nobody, null],
  ]) {
    const events = open(t, url);
    const details = [];
    events.addEventListener("error", ({ detail }) => details.push([events.readyState, detail.status]));
    await states(events).next("closed");
    assert.deepEqual(details, [...Array(QUICK.limit).fill([0, status]), [2, status]]);
  }
});

test("close() says nothing, and what came with it is not dispatched", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response, "data: 1\n\ndata: 2\n\n"));
  const events = open(t, server.url);
  const log = follow(events);
  events.addEventListener("message", () => events.close());
  await until(() => events.readyState === EventStream.CLOSED);
  await assertNothingLeft({ server });
  assert.deepEqual(log, [
    ["open", 1, null],
    ["message", 1, "1"],
  ]);
});

test("close() before anything was heard says nothing", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response, "data: 1\n\n"));
  const events = open(t, server.url);
  const log = follow(events);
  events.close();
  assert.equal(events.readyState, EventStream.CLOSED);
  await new Promise(setImmediate);
  assert.deepEqual([log, server.requests.length], [[], 0]);
});

test("event: close is the server's own end, and no error", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response, "event: close\ndata: {}\n\n"));
  const events = open(t, server.url);
  const log = follow(events, "close");
  await until(() => events.readyState === EventStream.CLOSED);
  assert.deepEqual(log, [
    ["open", 1, null],
    ["close", 1, "{}"],
  ]);
});

test("an event that a server calls open is not taken for ours", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response, "event: open\ndata: x\n\n"));
  const events = open(t, server.url);
  const log = follow(events, "server-open");
  await until(() => log.length === 2);
  assert.deepEqual(log, [
    ["open", 1, null],
    ["server-open", 1, "x"],
  ]);
});

// ---- the handlers, as HTML section 8.1.8.1 has them ----------------------------------------------

test("a handler has its place among the listeners from the first time it is set", () => {
  const events = new EventStream("http://127.0.0.1:1/");
  const called = [];
  events.addEventListener("message", () => called.push("before"));
  events.onmessage = () => called.push("first");
  events.addEventListener("message", () => called.push("behind"));
  events.onmessage = () => called.push("second");
  events.dispatchEvent(new MessageEvent("message"));
  assert.deepEqual(called.splice(0), ["before", "second", "behind"]);
  events.onmessage = null;
  events.dispatchEvent(new MessageEvent("message"));
  assert.deepEqual(called.splice(0), ["before", "behind"]);
  events.onmessage = () => called.push("third");
  events.dispatchEvent(new MessageEvent("message"));
  assert.deepEqual(called, ["before", "behind", "third"]);
  events.close();
});

test("a handler is called with the event, on the stream; what is no function is no handler", () => {
  const events = new EventStream("http://127.0.0.1:1/");
  const seen = [];
  function handler(event) {
    seen.push([this === events, event.type]);
  }
  for (const name of ["onopen", "onmessage", "onerror"]) {
    assert.equal(events[name], null);
    events[name] = handler;
    assert.equal(events[name], handler);
    events.dispatchEvent(new Event(name.slice(2)));
    for (const nothing of [undefined, 7, "handler"]) {
      events[name] = nothing;
      assert.equal(events[name], null);
    }
    events.dispatchEvent(new Event(name.slice(2)));
  }
  assert.deepEqual(seen, [
    [true, "open"],
    [true, "message"],
    [true, "error"],
  ]);
  events.close();
});
