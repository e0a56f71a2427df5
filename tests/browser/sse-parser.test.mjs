import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { SseParser } from "../../streaming/static/index.js";

const vectors = JSON.parse(readFileSync(new URL("../wire/vectors/sse.json", import.meta.url), "utf8"));

function parse(chunks, options = {}) {
  const found = { events: [], retry: null };
  const parser = new SseParser({
    onEvent: (event) => found.events.push(event),
    onRetry: (milliseconds) => (found.retry = milliseconds),
    ...options,
  });
  for (const chunk of chunks) parser.feed(chunk);
  return found;
}

function* cuts(whole) {
  yield [whole];
  for (let at = 0; at <= whole.length; at += 1) yield [whole.slice(0, at), whole.slice(at)];
  yield Array.from({ length: whole.length }, (_, at) => whole.slice(at, at + 1));
  yield Array.from({ length: whole.length }, (_, at) => [
    whole.slice(at, at + 1),
    whole.slice(0, 0),
  ]).flat();
}

for (const { name, stream, bytes_b64: base64, events, retry = null } of vectors) {
  test(`vector, cut everywhere: ${name}`, () => {
    const bytes = new Uint8Array(base64 ? Buffer.from(base64, "base64") : Buffer.from(stream));
    for (const chunks of cuts(bytes)) assert.deepEqual(parse(chunks), { events, retry });
    if (stream === undefined) return;
    for (const chunks of cuts(stream)) assert.deepEqual(parse(chunks), { events, retry });
  });
}

test("a line that ends with CR is complete at once", () => {
  const events = [];
  const parser = new SseParser({ onEvent: (event) => events.push(event.data) });
  parser.feed("data: a\r\n\r");
  assert.deepEqual(events, ["a"]);
  parser.feed("\ndata: b\n\r");
  assert.deepEqual(events, ["a", "b"]);
});

test("comments are reported", () => {
  const comments = [];
  parse([":\n: a\n:b\n:  c: d\n"], { onComment: (text) => comments.push(text) });
  assert.deepEqual(comments, ["", "a", "b", " c: d"]);
});

test("callbacks are optional", () => {
  new SseParser().feed(": c\nretry: 1\ndata: a\n\n");
});

test("lastEventId is that of the last complete event", () => {
  const parser = new SseParser({ lastEventId: "start" });
  assert.equal(parser.lastEventId, "start");
  parser.feed("data: a\n\n");
  assert.equal(parser.lastEventId, "start");
  parser.feed("id: 1\ndata: b\n");
  assert.equal(parser.lastEventId, "start");
  parser.feed("\n");
  assert.equal(parser.lastEventId, "1");
  parser.feed("id: 2\n\n");
  assert.equal(parser.lastEventId, "2");
});

test("reset starts a new stream and keeps where the old one stopped", () => {
  const events = [];
  const parser = new SseParser({ onEvent: (event) => events.push(event) });
  parser.feed(Buffer.from("id: 1\ndata: a\n\nid: 2\nevent: e\ndata: half\ndata: \xe4", "latin1"));
  parser.reset();
  parser.feed(Buffer.from("\ufeffdata: b\n\n"));
  assert.deepEqual(events, [
    { event: "message", data: "a", lastEventId: "1" },
    { event: "message", data: "b", lastEventId: "1" },
  ]);
});

test("reset from a callback drops the rest of the chunk", () => {
  const events = [];
  const parser = new SseParser({
    onEvent({ data }) {
      events.push(data);
      if (data === "b") parser.reset();
    },
  });
  parser.feed("id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\nda");
  assert.deepEqual(events, ["a", "b"]);
  assert.equal(parser.lastEventId, "2");
  parser.feed("data: d\n\n");
  assert.deepEqual(events, ["a", "b", "d"]);
});

test("what is held of an event is bounded, wherever it is cut", () => {
  const fits = "data: 56789\ndata: 5\n\n".repeat(3);
  for (const chunks of cuts(fits)) parse(chunks, { maxEventSize: 13 });
  for (const tooLarge of [
    "data: ok\n\ndata: 678901234",
    "data: ok\n\n: 234567890123\n",
    "data: ok\n\ndata: 56789\ndata: 56\n\n",
  ]) {
    for (const chunks of cuts(tooLarge)) {
      const events = [];
      const options = { maxEventSize: 13, onEvent: (event) => events.push(event.data) };
      assert.throws(() => parse(chunks, options), /larger than 13 characters/);
      assert.deepEqual(events, ["ok"]);
    }
  }
});

test("a large event in small chunks arrives whole", () => {
  const data = "0123456789abcdef".repeat(64 * 1024);
  const text = `data: ${data}\n\n`;
  const chunks = Array.from({ length: Math.ceil(text.length / 100) }, (_, at) =>
    text.slice(at * 100, at * 100 + 100),
  );
  const { events } = parse(chunks);
  assert.equal(events.length, 1);
  assert.ok(events[0].data === data);
});
