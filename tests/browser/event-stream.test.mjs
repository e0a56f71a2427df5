import assert from "node:assert/strict";
import { test } from "node:test";
import { EventStream } from "../../streaming/static/index.js";
import { QUICK, connectionTests, opener } from "./connection.mjs";
import {
  assertNothingLeft,
  httpServer,
  record,
  standStill,
  states,
  stream,
  timers,
  until,
} from "./helper.mjs";

const open = opener(EventStream);

connectionTests(EventStream, "http", async (t, act, port) => {
  const held = [];
  const server = await httpServer(
    t,
    (_, response, number) => {
      const what = act(number);
      if (what === "open") stream(response);
      else if (what === "end") stream(response).end("data: a\n\n");
      else held.push(response);
    },
    port,
  );
  return Object.assign(server, { late: () => held.forEach((response) => stream(response)) });
});

test("events arrive by name, with their data and id", async (t) => {
  const server = await httpServer(t, (_, response) => {
    stream(response, ":\n\nevent: ready\ndata: {}\nid: k-0\n\ndata: 你好\ndata: 2\nid: k-1\n\n");
  });
  const events = open(t, server);
  assert.equal(events.state, "connecting");
  const log = record(events, "ready", "message");
  const seen = states(events);
  await until(() => log.length === 2);
  assert.deepEqual(log, [
    { type: "ready", data: "{}", lastEventId: "k-0", detail: undefined },
    { type: "message", data: "你好\n2", lastEventId: "k-1", detail: undefined },
  ]);
  assert.equal(events.lastEventId, "k-1");
  const still = { attempt: 0, limit: 10, retryAt: null, reason: "", kind: "" };
  assert.deepEqual(seen.log, [
    { state: "connecting", ...still },
    { state: "open", ...still },
  ]);
});

test("an event says of which channel it is", async (t) => {
  const ready = 'event: ready\ndata: {"channels":["a","b"]}\nid: aa_e-0.bb_f-0\n\n';
  const server = await httpServer(t, (_, response) => {
    stream(response, `${ready}data: x\nid: bb_f-1.aa_e-0\n\nevent: close\ndata: {}\n\n`);
  });
  const events = open(t, server);
  const heard = [];
  for (const name of ["ready", "message", "close"])
    events.addEventListener(name, ({ type, channel }) => heard.push([type, channel]));
  await until(() => heard.length === 3);
  assert.deepEqual(heard, [["ready", ""], ["message", "b"], ["close", ""]]);
});

test("an event is a MessageEvent with the stream's origin", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response, "data: a\n\n"));
  const events = open(t, server);
  const event = await new Promise((resolve) => events.addEventListener("message", resolve));
  assert.ok(event instanceof MessageEvent);
  assert.equal(event.origin, new URL(server.url).origin);
});

test("a stream cut anywhere on its way arrives the same", async (t) => {
  const bytes = Buffer.from("\ufeff" + "data: 中😀\r\nid: é\r\n\r\n".repeat(2));
  const server = await httpServer(t, async (_, response) => {
    stream(response);
    for (const byte of bytes) {
      response.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
  });
  const log = record(open(t, server), "message");
  await until(() => log.length === 2);
  assert.deepEqual(
    log.map(({ data, lastEventId }) => [data, lastEventId]),
    [
      ["中😀", "é"],
      ["中😀", "é"],
    ],
  );
});

test("the request is a GET that asks for an event stream and no cache", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response));
  await states(open(t, server)).next("open");
  const [{ method, headers }] = server.requests;
  assert.equal(method, "GET");
  assert.equal(headers.accept, "text/event-stream");
  assert.equal(headers["cache-control"], "no-cache");
  assert.equal("last-event-id" in headers, false);
});

test("headers, method and body are sent with every attempt", async (t) => {
  const server = await httpServer(t, (_, response, number) => {
    stream(response, "id: 7\ndata: a\n\n");
    if (number === 1) response.end();
  });
  const options = { headers: { Authorization: "Bearer x" }, body: '{"question":"why?"}' };
  const seen = states(open(t, server, options));
  await seen.next("open");
  await seen.next("waiting");
  await seen.next("open");
  const [first, second] = server.requests;
  for (const { method, headers, body } of [first, second]) {
    assert.equal(method, "POST");
    assert.equal(headers.authorization, "Bearer x");
    assert.equal(body, options.body);
  }
  assert.equal(first.headers["last-event-id"], undefined);
  assert.equal(second.headers["last-event-id"], "7");
});

test("another Accept and another method can be chosen", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response));
  const options = { method: "PUT", headers: { accept: "text/event-stream;v=2" } };
  await states(open(t, server, options)).next("open");
  assert.equal(server.requests[0].method, "PUT");
  assert.equal(server.requests[0].headers.accept, "text/event-stream;v=2");
});

test("it resumes after the last complete event, whatever its id is made of", async (t) => {
  const server = await httpServer(t, (_, response, number) => {
    if (number === 1) stream(response, "id: é中😀\ndata: a\n\nid: 8\ndata: torn");
    else stream(response, "data: b\n\n");
    if (number === 1) setImmediate(() => response.destroy());
  });
  const events = open(t, server, { lastEventId: "é-start" });
  const log = record(events, "message");
  const seen = states(events);
  const waiting = await seen.next("waiting");
  assert.equal(waiting.kind, "network");
  assert.equal(waiting.reason, "the connection was lost");
  assert.equal(waiting.attempt, 1);
  await until(() => log.length === 2);
  assert.deepEqual(
    log.map(({ data, lastEventId }) => [data, lastEventId]),
    [
      ["a", "é中😀"],
      ["b", "é中😀"],
    ],
  );
  const sent = server.requests.map(({ headers }) =>
    Buffer.from(headers["last-event-id"], "latin1").toString(),
  );
  assert.deepEqual(sent, ["é-start", "é中😀"]);
});

test("event: close is the end: dispatched, nothing after it, no second attempt", async (t) => {
  const server = await httpServer(t, (_, response) => {
    stream(response, "id: 1\nevent: close\ndata: {}\n\nid: 2\ndata: late\n\n");
  });
  const events = open(t, server);
  const log = record(events, "close", "message", "error");
  const closed = await states(events).next("closed");
  assert.deepEqual([closed.kind, closed.reason], ["done", "the server closed the stream"]);
  assert.deepEqual(
    log.map(({ type, data }) => [type, data]),
    [["close", "{}"]],
  );
  assert.equal(events.lastEventId, "1");
  await assertNothingLeft({ server });
  events.retryNow();
  assert.equal(events.state, "closed");
  assert.equal(server.requests.length, 1);
});

test("event: restart ends in a new attempt after the server's retry, once", async (t) => {
  const server = await httpServer(t, (_, response, number) => {
    if (number === 1) stream(response).end("event: restart\nretry: 60\ndata: {}\n\n");
    else if (number === 2) stream(response).end();
    else stream(response);
  });
  const events = open(t, server);
  const log = record(events, "restart");
  const seen = states(events);
  const started = Date.now();
  const first = await seen.next("waiting");
  assert.deepEqual([first.kind, first.reason], ["restart", "the server is restarting"]);
  await seen.next("open");
  assert.ok(Date.now() - started >= 59);
  assert.equal(log.length, 1);
  const second = await seen.next("waiting");
  assert.deepEqual([second.kind, second.reason], ["ended", "the server ended the stream"]);
  assert.ok(second.retryAt - Date.now() <= 1);
  await seen.next("open");
});

test("the server's retry is the least wait, with a little jitter", async (t) => {
  t.mock.method(Date, "now", () => 1_000_000);
  const server = await httpServer(t, (_, response) => stream(response).end("retry: 100000\n\n"));
  for (const [random, wait] of [
    [0, 100_000],
    [0.5, 105_000],
    [0.999, 109_990],
  ]) {
    const events = open(t, server, { backoff: { ...QUICK, random: () => random } });
    const { retryAt, at } = await states(events).next("waiting");
    assert.ok(Math.abs(retryAt - at - wait) < 1);
    assert.equal(events.retryAt, retryAt);
    events.close();
    assert.equal(events.retryAt, null);
  }
});

test("an absurd retry is a day, not an overflow", async (t) => {
  t.mock.method(Date, "now", () => 1_000_000);
  const server = await httpServer(t, (_, response) =>
    stream(response).end(`retry: ${"9".repeat(400)}\n\n`),
  );
  const events = open(t, server);
  const { retryAt, at } = await states(events).next("waiting");
  const day = 86_400_000;
  assert.ok(retryAt - at >= day && retryAt - at < day * 1.11);
});

const FINAL = [
  [204, {}, "", "done", "the server has nothing more to send (204 No Content)", null],
  [400, {}, "what?", "refused", "the server answered 400 Bad Request", null],
  [
    401,
    { "Content-Type": "application/problem+json" },
    "{broken",
    "refused",
    "the server answered 401 Unauthorized",
    null,
  ],
  [
    404,
    { "Content-Type": "application/problem+json; charset=utf-8" },
    '{"title":"No such channel","detail":"There is no channel x."}',
    "refused",
    "the server answered 404 No such channel: There is no channel x.",
    { title: "No such channel", detail: "There is no channel x." },
  ],
  [
    403,
    { "Content-Type": "application/problem+json" },
    " ".repeat(200_000),
    "refused",
    "the server answered 403 Forbidden",
    null,
  ],
  [
    200,
    { "Content-Type": "text/html" },
    "<p>",
    "refused",
    "the server sent text/html instead of text/event-stream",
    null,
  ],
  [200, {}, "", "refused", "the server sent no Content-Type instead of text/event-stream", null],
];

for (const [status, headers, body, kind, reason, problem] of FINAL) {
  test(`final: ${reason}`, async (t) => {
    const server = await httpServer(t, (_, response) =>
      response.writeHead(status, headers).end(body),
    );
    const events = open(t, server);
    const log = record(events, "error", "state");
    await states(events).next("closed");
    assert.deepEqual(
      log.map(({ type }) => type),
      ["state", "error", "state"],
    );
    assert.deepEqual(log[1].detail, { status, problem, reason });
    const detail = { state: "closed", attempt: 0, limit: 10, retryAt: null, reason, kind };
    assert.deepEqual(log[2].detail, detail);
    await assertNothingLeft({ server });
    events.retryNow();
    assert.equal(events.state, "closed");
  });
}

test("an endless answer that is no event stream is let go", async (t) => {
  const server = await httpServer(t, (_, response) => response.writeHead(200).write("endless"));
  const events = open(t, server);
  await states(events).next("closed");
  await assertNothingLeft({ server });
});

for (const status of [408, 425, 429, 500, 501, 502, 503, 504]) {
  test(`${status} passes: it tries again`, async (t) => {
    const server = await httpServer(t, (_, response, number) => {
      if (number === 1) response.writeHead(status, { "Content-Type": "text/html" }).write("busy");
      else stream(response);
    });
    const events = open(t, server);
    const errorStates = [];
    events.onerror = () => errorStates.push(events.readyState);
    const seen = states(events);
    const { kind, reason } = await seen.next("waiting");
    assert.equal(kind, "refused");
    assert.match(reason, new RegExp(`^the server answered ${status} [A-Z]`));
    await seen.next("open");
    assert.deepEqual(errorStates, [EventStream.CONNECTING]);
  });
}

for (const [status, after] of [
  [429, () => "60"],
  [503, () => "60"],
  [503, () => new Date(Date.now() + 60_000).toUTCString()],
]) {
  test(`${status} with Retry-After ${after().slice(0, 3)} is obeyed`, async (t) => {
    t.mock.method(Date, "now", () => 1_000_000);
    const server = await httpServer(t, (_, response, number) => {
      if (number === 1) response.writeHead(status, { "Retry-After": after() }).end();
      else stream(response);
    });
    const events = open(t, server);
    const seen = states(events);
    const { retryAt, at } = await seen.next("waiting");
    assert.ok(retryAt - at >= 60_000 && retryAt - at <= 66_000);
    events.retryNow();
    await seen.next("open");
  });
}

test("a Retry-After that nobody understands is ignored", async (t) => {
  const server = await httpServer(t, (_, response, number) => {
    if (number === 1) response.writeHead(503, { "Retry-After": "soon" }).end();
    else stream(response);
  });
  await states(open(t, server)).next("open");
});

test("silence on an open stream ends in a new attempt", async (t) => {
  const server = await httpServer(t, (_, response, number) =>
    stream(response, number === 1 ? "" : "data: a\n\n"),
  );
  const events = open(t, server, { liveness: 200 });
  const log = record(events, "message");
  const seen = states(events);
  await seen.next("open");
  const { kind, reason } = await seen.next("waiting");
  assert.deepEqual([kind, reason], ["silence", "nothing was heard from the server for 0.2 s"]);
  await until(() => log.length > 0);
});

test("silence before the answer ends in a new attempt", async (t) => {
  const server = await httpServer(t, (_, response, number) => number > 1 && stream(response));
  const seen = states(open(t, server, { liveness: 200 }));
  assert.equal((await seen.next("waiting")).kind, "silence");
  await seen.next("open");
});

test("a heartbeat is no silence", async (t) => {
  const liveness = 250;
  let beats = 0;
  const server = await httpServer(t, (_, response) => {
    stream(response);
    const timer = setInterval(() => response.write(":\n\n") && (beats += 1), 10).unref();
    response.on("close", () => clearInterval(timer));
  });
  const events = open(t, server, { liveness });
  const seen = states(events);
  await seen.next("open");
  const started = performance.now();
  await until(() => performance.now() - started > 2 * liveness);
  assert.ok(beats > 3);
  assert.deepEqual(seen.names(), ["connecting", "open"]);
});

test("what came while the page stood still is no silence", async (t) => {
  let answer;
  const server = await httpServer(t, (_, response) => stream((answer = response)));
  const events = open(t, server, { liveness: 2000 });
  const log = record(events, "message");
  const seen = states(events);
  await seen.next("open");
  answer.write("data: a\n\n");
  standStill(2500);
  await until(() => log.length === 1);
  assert.deepEqual(seen.names(), ["connecting", "open"]);
});

test("without liveness there is no watchdog", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response));
  await states(open(t, server, { liveness: null })).next("open");
  assert.equal(timers(), 0);
});

test("an event that is too large ends in a new attempt", async (t) => {
  const server = await httpServer(t, (_, response, number) => {
    stream(response, "id: 1\ndata: a\n\n");
    if (number === 1) response.write(`data: ${"x".repeat(200)}`);
  });
  const events = open(t, server, { maxEventSize: 100 });
  const log = record(events, "message");
  const seen = states(events);
  const { kind, reason } = await seen.next("waiting");
  assert.deepEqual([kind, reason], ["size", "an event is larger than 100 characters"]);
  await until(() => log.length === 2);
  assert.equal(server.requests[1].headers["last-event-id"], "1");
});

test("close from a listener: the last event seen is the last, and its id stays", async (t) => {
  const server = await httpServer(t, (_, response) => {
    stream(response, "id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\n");
  });
  const events = open(t, server);
  const log = record(events, "message");
  events.addEventListener("message", ({ data }) => data === "b" && events.close());
  await states(events).next("closed");
  await assertNothingLeft({ server });
  assert.deepEqual(
    log.map(({ data }) => data),
    ["a", "b"],
  );
  assert.equal(events.lastEventId, "2");
});

test("close while a refusal is being read: no error event", async (t) => {
  const server = await httpServer(t, (_, response) => {
    response.writeHead(404, { "Content-Type": "application/problem+json" }).write('{"title":');
  });
  let answered = false;
  const events = open(t, server, {
    async fetch(input, init) {
      const response = await fetch(input, init);
      answered = true;
      return response;
    },
  });
  const log = record(events, "error");
  await until(() => answered);
  events.close();
  await assertNothingLeft({ server });
  await new Promise(setImmediate);
  assert.equal(log.length, 0);
});

test("an event that a server names like one of ours cannot be taken for it", async (t) => {
  const server = await httpServer(t, (_, response) => {
    stream(response, "event: state\ndata: a\n\nevent: error\ndata: b\n\n");
  });
  const events = open(t, server);
  const log = record(events, "server-state", "server-error", "error");
  await until(() => log.length === 2);
  assert.deepEqual(
    log.map(({ type, data }) => [type, data]),
    [
      ["server-state", "a"],
      ["server-error", "b"],
    ],
  );
});

test("fetch can be replaced, and is not called as a method", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response));
  let self = "never called";
  const events = open(t, server, {
    fetch(input, init) {
      self = this;
      return fetch(input, init);
    },
  });
  await states(events).next("open");
  assert.equal(self, undefined);
});

test("an answer that comes late, to an attempt that was given up, is no matter of the next one", async (t) => {
  const server = await httpServer(t, (_, response) =>
    stream(response, "retry: 3600000\ndata: a\n\n"),
  );
  let asked = 0;
  let late;
  const events = open(t, server, {
    liveness: 60,
    async fetch(input, init) {
      const response = await fetch(input, init);
      asked += 1;
      if (asked === 1) await new Promise((resolve) => (late = resolve));
      return response;
    },
  });
  const seen = states(events);
  assert.equal((await seen.next("waiting")).kind, "silence");
  events.addEventListener("message", () => late());
  await seen.next("open");
  const { retryAt, at } = await seen.next("waiting");
  assert.ok(retryAt - at >= 3_600_000, `${retryAt - at}`);
});

test("what can never be sent is refused at once", () => {
  const url = "http://127.0.0.1:1/";
  assert.throws(() => new EventStream("no url"), TypeError);
  assert.throws(() => new EventStream(url, { headers: { "bad name": "x" } }), TypeError);
  assert.throws(() => new EventStream(url, { lastEventId: "a\nb" }), TypeError);
  assert.throws(() => new EventStream(url, { method: "GET", body: "x" }), TypeError);
  assert.throws(() => new EventStream(url, { body: new ReadableStream() }), TypeError);
});
