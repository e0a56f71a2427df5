import assert from "node:assert/strict";
import { test } from "node:test";
import { AnswerStream, StreamError } from "../../streaming/static/index.js";
import {
  assertNothingLeft,
  freePort,
  httpServer,
  states,
  stream,
  until,
} from "./helper.mjs";
import { block, problem, Run, runServer } from "./run-server.mjs";

const QUICK = { first: 1, base: 1, cap: 1, limit: 10 };
const SAID = ["中文 ", "and 😀\n", "é\n\nend"];

/** A run that has said everything there is to say. */
function tell(run) {
  run.say("reasoning", "hm");
  for (const text of SAID) run.say("text", text);
  run.say("tool-call", { id: "t1", name: "look", arguments: { up: true } });
  run.say("tool-result", { id: "t1", result: 7 });
  run.say("data", [1, null]).say("usage", { input: 3, output: 4 }).say("problem", "mind that");
  return run.end();
}

/** One that is short, to be cut everywhere. */
function tellShort(run) {
  return run.say("text", "中😀").say("usage", [1]).say("text", "\n").end();
}

function start(server, options = {}) {
  return AnswerStream.start(server.ask, { backoff: QUICK, body: { question: "?" }, ...options });
}

function resume(server, options = {}) {
  const location = new URL(`runs/${server.run.id}`, server.url);
  return AnswerStream.resume(location, { backoff: QUICK, ...options });
}

async function collect(answer) {
  const parts = [];
  for await (const part of answer) parts.push(part);
  return parts;
}

/** What somebody sees who does with the parts what they are for. */
function fold(parts) {
  let seen = { text: "", parts: [], end: null };
  for (const { kind, data } of parts) {
    if (kind === "snapshot") seen = { text: data.text, parts: [...data.parts], end: null };
    else if (kind === "text") seen.text += data;
    else if (kind === "end") seen.end = data.state;
    else if (kind !== "start" && kind !== "running") seen.parts.push({ kind, data });
  }
  return seen;
}

const WHOLE = {
  text: SAID.join(""),
  parts: tell(new Run("r1")).snapshot().parts,
  end: "done",
};

test("the parts of an answer come as they are said, until its end", async (t) => {
  const server = await runServer(t);
  const answer = start(server);
  const parts = answer[Symbol.asyncIterator]();
  assert.equal((await parts.next()).value.kind, "snapshot");
  for (const text of SAID) {
    server.run.say("text", text);
    const { value } = await parts.next();
    assert.deepEqual(value, { kind: "text", data: text, id: server.run.messages.at(-1).id });
  }
  server.run.say("usage", { output: 4 });
  assert.deepEqual((await parts.next()).value.data, { output: 4 });
  server.run.end("done");
  const { value } = await parts.next();
  assert.deepEqual([value.kind, value.data], ["end", { state: "done" }]);
  assert.equal((await parts.next()).done, true);
  assert.equal(answer.state, "closed");
  await assertNothingLeft({ server });
});

test("a question is a POST with a key of its own, and its answer's address is known", async (t) => {
  const server = await runServer(t, { begin: tell });
  const answers = [1, 2].map(() => start(server, { headers: { "X-Test": "1" } }));
  assert.equal(answers[0].location, null);
  for (const answer of answers) assert.deepEqual(fold(await collect(answer)), WHOLE);
  const [{ method, headers, body }, second] = server.requests;
  assert.deepEqual([method, body, headers["x-test"]], ["POST", '{"question":"?"}', "1"]);
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers.accept, "text/event-stream");
  assert.match(headers["idempotency-key"], /^[0-9a-f]{32}$/);
  assert.notEqual(headers["idempotency-key"], second.headers["idempotency-key"]);
  assert.equal(server.begun, 2);
  assert.match(answers[0].location.href, /\/runs\/r[12]$/);
});

test("a body may be anything that can be sent again, and a key may be given", async (t) => {
  const server = await runServer(t, { begin: tell });
  const body = new URLSearchParams({ question: "why?" });
  await collect(start(server, { body, key: "my key" }));
  const [{ headers, body: sent }] = server.requests;
  assert.equal(sent, "question=why%3F");
  assert.match(headers["content-type"], /^application\/x-www-form-urlencoded/);
  assert.equal(headers["idempotency-key"], "my key");
  assert.throws(() => start(server, { body: new ReadableStream() }), TypeError);
  assert.throws(() => start(server, { headers: { "bad name": "" } }), TypeError);
  assert.throws(() => AnswerStream.resume("http://[", {}), TypeError);
  assert.throws(() => resume(server, { after: "a\nb" }), TypeError);
});

test("an answer that is cut at any byte arrives whole, each part once", async (t) => {
  const server = await runServer(t, { begin: tellShort });
  const length = Buffer.from(tellShort(new Run("r1")).stream(undefined)).length;
  const whole = { text: "中😀\n", parts: [{ kind: "usage", data: [1] }], end: "done" };
  for (let cut = 0; cut <= length; cut += 1) {
    server.cut = cut;
    server.begun = 0;
    assert.deepEqual(fold(await collect(start(server))), whole, `cut at ${cut}`);
    assert.equal(server.begun, 1);
  }
  await assertNothingLeft({ server });
});

test("an answer that is cut at any byte after it was resumed arrives whole, too", async (t) => {
  const server = await runServer(t);
  server.run = tellShort(new Run("r1"));
  const length = Buffer.from(server.run.stream("k-2")).length;
  for (let cut = 0; cut <= length; cut += 1) {
    server.cut = cut;
    const parts = await collect(resume(server, { after: "k-2" }));
    const ids = parts.map(({ id }) => id);
    const expected = server.run.messages.slice(2).map(({ id }) => id);
    assert.deepEqual(ids, expected, `cut at ${cut}`);
  }
});

test("a question whose answer did not come is asked again with its key", async (t) => {
  const server = await runServer(t, { begin: tell });
  const ask = server.handler;
  const gateway = (response) =>
    response.writeHead(502, { "Content-Type": "text/html" }).end("<h1>");
  server.handler = (request, response, number) => {
    if (number === 1) response.destroy();
    else if (number === 2) gateway(response);
    else if (number === 3) stream(response, "event: restart\ndata: {}\nretry: 1\n\n").end();
    else ask(request, response, number);
  };
  assert.deepEqual(fold(await collect(start(server))), WHOLE);
  const keys = server.requests.map(({ method, headers }) => method + headers["idempotency-key"]);
  assert.equal(keys.length, 4);
  assert.equal(new Set(keys).size, 1);
});

test("a lost connection resumes by GET after the last part", async (t) => {
  const server = await runServer(t);
  const answer = start(server);
  const seen = states(answer);
  const parts = answer[Symbol.asyncIterator]();
  await parts.next();
  server.run.say("text", "one");
  assert.equal((await parts.next()).value.data, "one");
  const next = parts.next();
  for (const socket of server.sockets) socket.destroy();
  assert.equal((await seen.next("waiting")).kind, "network");
  server.run.say("text", "two");
  assert.equal((await next).value.data, "two");
  const { method, url, headers } = server.requests.at(-1);
  assert.deepEqual([method, url, headers["last-event-id"]], ["GET", "/runs/r1", "k-2"]);
  assert.equal(headers["idempotency-key"], undefined);
  answer.close();
});

test("a restarting server is come back to, no earlier than it asks for", async (t) => {
  const server = await runServer(t);
  server.run = tell(new Run("r1"));
  const follow = server.handler;
  server.handler = (request, response, number) => {
    const text = block(server.run.messages[1]) + "event: restart\ndata: {}\nretry: 40\n\n";
    if (number === 1) stream(response, text).end();
    else follow(request, response, number);
  };
  const answer = resume(server, { after: "k-1" });
  const seen = states(answer);
  const begun = Date.now();
  const all = collect(answer);
  const waiting = await seen.next("waiting");
  assert.equal(waiting.kind, "restart");
  assert.ok(waiting.retryAt - begun >= 40);
  assert.equal((await all).length, server.run.messages.length - 1);
});

test("what comes twice is told once", async (t) => {
  const server = await runServer(t);
  server.run = tell(new Run("r1"));
  const texts = server.run.messages.slice(1).map(block);
  server.handler = (_, response) => stream(response, [...texts, ...texts].join("")).end();
  const parts = await collect(resume(server, { after: "k-1" }));
  assert.deepEqual(
    parts.map(({ id }) => id),
    server.run.messages.slice(1).map(({ id }) => id),
  );
  const twice = [texts[0], texts[0], texts[1], texts[0], texts.at(-1)];
  server.handler = (_, response) => stream(response, twice.join("")).end();
  const again = await collect(resume(server, { after: "k-1" }));
  assert.deepEqual(
    again.map(({ kind }) => kind),
    ["reasoning", "text", "end"],
  );
});

test("what was known before is not told again", async (t) => {
  const server = await runServer(t);
  server.run = tell(new Run("r1"));
  const texts = server.run.messages.slice(1).map(block);
  server.handler = (_, response) => stream(response, texts.join("")).end();
  const parts = await collect(resume(server, { after: "k-2" }));
  assert.equal(parts[0].id, "k-3");
});

test("a part that is repeated by the next connection is told once", async (t) => {
  const server = await runServer(t);
  server.run = tell(new Run("r1"));
  const texts = server.run.messages.map(block);
  server.handler = (_, response, number) => {
    const from = number === 1 ? [1, 4] : [2];
    stream(response, texts.slice(...from).join("")).end();
  };
  const parts = await collect(resume(server, { after: "k-1" }));
  assert.deepEqual(
    parts.map(({ id }) => id),
    server.run.messages.slice(1).map(({ id }) => id),
  );
});

test("behind a gap the whole answer is asked for again", async (t) => {
  const server = await runServer(t);
  server.run = tell(new Run("r1"));
  const follow = server.handler;
  server.handler = (request, response, number) => {
    const gap = { event: "gap", data: '{"channel":"run:r1"}', id: "k-4" };
    if (request.headers["last-event-id"]) stream(response, block(gap) + server.run.tail("k-4"));
    else follow(request, response, number);
  };
  const parts = await collect(resume(server, { after: "old-2" }));
  assert.equal(parts[0].kind, "snapshot");
  assert.deepEqual(fold(parts), WHOLE);
  assert.equal(server.requests.length, 2);
});

test("a gap in the whole answer is told", async (t) => {
  const server = await runServer(t);
  server.run = tell(new Run("r1"));
  const gap = { event: "gap", data: '{"channel":"run:r1","oldest":"k-4"}', id: "k-4" };
  server.handler = (_, response) => stream(response, block(gap) + server.run.tail("k-4")).end();
  const parts = await collect(resume(server));
  assert.deepEqual(parts[0], {
    kind: "gap",
    data: { channel: "run:r1", oldest: "k-4" },
    id: "k-4",
  });
  assert.equal(parts.at(-1).kind, "end");
});

test("a snapshot says whether the beginning is still held", async (t) => {
  const server = await runServer(t);
  server.run = tell(new Run("r1"));
  for (const whole of [true, false]) {
    server.run.whole = whole;
    const [snapshot] = await collect(resume(server));
    assert.deepEqual([snapshot.kind, snapshot.data.whole], ["snapshot", whole]);
  }
});

test("somebody who has it all already gets nothing more", async (t) => {
  const server = await runServer(t);
  server.run = tell(new Run("r1"));
  const answer = resume(server, { after: server.run.messages.at(-1).id });
  assert.deepEqual(await collect(answer), []);
  await answer.stop();
  assert.deepEqual(
    server.requests.map(({ method }) => method),
    ["GET"],
  );
});

test("an answer that is not kept any more is said to be gone", async (t) => {
  const server = await runServer(t);
  server.run = new Run("r1");
  const known = resume(server);
  server.run = null;
  await assert.rejects(
    collect(known),
    (error) => error instanceof StreamError && error.status === 404,
  );
  assert.equal(server.requests.length, 1);
});

test("what goes wrong before the first part is thrown, with the server's words", async (t) => {
  const server = await runServer(t);
  for (const status of [400, 403, 429, 502, 503]) {
    server.requests.length = 0;
    server.handler = (_, response) => problem(response, status, "No", { "Retry-After": "7" });
    await assert.rejects(collect(start(server)), (error) => {
      assert.ok(error instanceof StreamError);
      assert.deepEqual([error.status, error.problem.detail], [status, "No."]);
      assert.equal(error.retryAfter, 7000);
      return true;
    });
    assert.equal(server.requests.length, 1);
  }
  await assertNothingLeft({ server });
});

test("an answer that is being read waits out refusals that pass", async (t) => {
  const server = await runServer(t);
  server.run = tell(new Run("r1"));
  const follow = server.handler;
  server.handler = (request, response, number) => {
    if (number === 1) problem(response, 503, "Log unavailable");
    else if (number === 2) problem(response, 429, "Too many");
    else follow(request, response, number);
  };
  assert.deepEqual(fold(await collect(resume(server))), WHOLE);
});

test("an answer that is no event stream is an error and not an end", async (t) => {
  const server = await httpServer(t, (_, response) =>
    response.end("<h1>Welcome to the hotel</h1>"),
  );
  await assert.rejects(collect(AnswerStream.resume(server.url)), TypeError);
});

test("data that should be JSON and is not is an error", async (t) => {
  const server = await httpServer(t, (_, response) =>
    stream(response, "event: usage\ndata: {\n\n"),
  );
  await assert.rejects(collect(AnswerStream.resume(server.url)), SyntaxError);
  await assertNothingLeft({ server });
});

test("events that are no parts are passed over", async (t) => {
  const server = await httpServer(t, (_, response) => {
    stream(response, "event: ready\ndata: {}\nid: 1\n\ndata: a\n\nevent: new\ndata: b\nid: 2\n\n");
    response.end("event: text\ndata: c\nid: 3\n\nevent: close\ndata: {}\n\n");
  });
  const parts = await collect(AnswerStream.resume(server.url));
  assert.deepEqual(parts, [{ kind: "text", data: "c", id: "3" }]);
});

test("how it ended is said: failed, interrupted, stopped", async (t) => {
  for (const state of ["failed", "interrupted", "stopped"]) {
    const server = await runServer(t, { begin: (run) => run.say("text", "a") });
    const all = collect(start(server));
    await until(() => server.run?.readers.size);
    server.run.end(state, { detail: "The model is tired." });
    const last = (await all).at(-1);
    assert.deepEqual(last.data, { state, detail: "The model is tired." });
  }
});

test("stop stops the answer, whose text stays", async (t) => {
  const server = await runServer(t);
  const answer = start(server);
  const parts = answer[Symbol.asyncIterator]();
  await parts.next();
  server.run.say("text", "so far");
  await parts.next();
  await answer.stop();
  const { value } = await parts.next();
  assert.deepEqual([value.kind, value.data.state], ["end", "stopped"]);
  assert.deepEqual(
    [server.requests.at(-1).method, server.requests.at(-1).url],
    ["DELETE", "/runs/r1"],
  );
  assert.equal((await parts.next()).done, true);
  await answer.stop(); // nothing to stop any more
  assert.equal(server.requests.length, 2);
  await assertNothingLeft({ server });
});

test("stop before the server has answered waits until there is something to stop", async (t) => {
  const server = await runServer(t);
  const ask = server.handler;
  let go;
  server.handler = (...args) => (go = () => ask(...args));
  const answer = start(server);
  const all = collect(answer);
  const stopped = answer.stop();
  await until(() => go);
  server.handler = ask;
  go();
  await stopped;
  assert.equal((await all).at(-1).data.state, "stopped");
});

test("stopping what was refused or closed is over at once", async (t) => {
  const server = await runServer(t);
  server.handler = (_, response) => problem(response, 400, "Bad Request");
  const answer = start(server);
  const stopped = answer.stop();
  await assert.rejects(collect(answer), { status: 400 });
  await stopped;
  server.handler = () => {};
  const other = start(server);
  const closed = other.stop();
  other.close();
  await closed;
});

test("stop works while the connection is lost, and is tried again", async (t) => {
  const server = await runServer(t);
  const slow = { first: 3_600_000, base: 3_600_000, cap: 3_600_000, random: () => 0.9 };
  const answer = start(server, { backoff: slow });
  const seen = states(answer);
  const all = collect(answer);
  await seen.next("open");
  for (const socket of server.sockets) socket.destroy();
  await seen.next("waiting");
  answer.backoff.first = answer.backoff.base = answer.backoff.cap = 1;
  const handler = server.handler;
  let refused = 0;
  server.handler = (request, response, number) => {
    if (request.method === "DELETE" && (refused += 1) < 3) return response.writeHead(503).end();
    handler(request, response, number);
  };
  await answer.stop();
  assert.equal((await all).at(-1).data.state, "stopped");
  assert.equal(refused, 3);
});

test("a stop that the server refuses is an error", async (t) => {
  const server = await runServer(t);
  server.run = new Run("r1");
  const answer = resume(server);
  const handler = server.handler;
  server.handler = (request, response, number) => {
    if (request.method === "DELETE") problem(response, 403, "Forbidden");
    else handler(request, response, number);
  };
  await assert.rejects(
    answer.stop(),
    (error) => error instanceof StreamError && error.status === 403,
  );
  await server.stop();
  await assert.rejects(answer.stop(), TypeError);
  answer.close();
});

test("an answer that is gone needs no stop", async (t) => {
  const server = await runServer(t);
  const answer = AnswerStream.resume(new URL("runs/r9", server.url));
  await answer.stop();
  await assert.rejects(collect(answer), { status: 404 });
});

test("stopping what has no address ends the connection", async (t) => {
  const server = await httpServer(t, (_, response) =>
    stream(response, "event: ready\ndata: {}\n\n"),
  );
  const answer = AnswerStream.start(server.url, {});
  const all = collect(answer);
  await answer.stop();
  assert.deepEqual(await all, []);
  await assertNothingLeft({ server });
});

test("leaving the loop ends the reading and not the answer", async (t) => {
  const server = await runServer(t, { begin: (run) => run.say("text", "a") });
  for await (const _ of start(server)) break;
  await assertNothingLeft({ server });
  assert.deepEqual(
    server.requests.map(({ method }) => method),
    ["POST"],
  );
  const answer = resume(server);
  const parts = answer[Symbol.asyncIterator]();
  await parts.next();
  answer.close();
  assert.equal((await parts.next()).done, true);
  await answer.stop(); // it still can be stopped
  assert.equal(server.run.ended, true);
});

test("leaving the loop ends the reading, before its first part and while it waits for the next", async (t) => {
  const server = await runServer(t);
  const never = start(server);
  await states(never).next("open");
  await never[Symbol.asyncIterator]().return();
  assert.equal(never.state, "closed");
  await assertNothingLeft({ server });
  const answer = start(server);
  const parts = answer[Symbol.asyncIterator]();
  await parts.next();
  const next = parts.next();
  await parts.return();
  assert.deepEqual(await next, { value: undefined, done: true });
  await assertNothingLeft({ server });
});

for (const how of ["close", "abort"]) {
  for (const isEnded of [false, true]) {
    const when = isEnded ? "after its end has come" : "while it is read";
    test(`${how} ${when}: the part before it is the last`, async (t) => {
      const server = await runServer(t);
      server.run = new Run("r1").say("text", "a").say("text", "b");
      if (isEnded) server.run.end();
      const controller = new AbortController();
      const { signal } = controller;
      const answer = resume(server, { signal, after: "k-1" });
      const parts = answer[Symbol.asyncIterator]();
      assert.equal((await parts.next()).value.data, "a"); // "b" has come with it
      if (isEnded) await until(() => answer.state === "closed");
      if (how === "abort") controller.abort();
      else answer.close();
      if (how === "abort") await assert.rejects(parts.next(), { name: "AbortError" });
      else assert.equal((await parts.next()).done, true);
      await assertNothingLeft({ server, signal });
    });
  }
}

test("an abort behind the last part changes nothing", async (t) => {
  const server = await runServer(t, { begin: tell });
  const controller = new AbortController();
  const answer = start(server, { signal: controller.signal });
  for await (const { kind } of answer) if (kind === "end") controller.abort();
});

test("an abort ends the loop with its reason", async (t) => {
  const server = await runServer(t);
  const controller = new AbortController();
  const { signal } = controller;
  const all = collect(start(server, { signal }));
  await until(() => server.run?.readers.size);
  controller.abort();
  await assert.rejects(all, { name: "AbortError" });
  await assertNothingLeft({ server, signal });
  await assert.rejects(collect(start(server, { signal })), { name: "AbortError" });
  assert.equal(server.requests.length, 1);
});

test("who cannot reach the server gives up in the end", async (t) => {
  const port = await freePort(t);
  const options = { backoff: { ...QUICK, limit: 3 } };
  const answer = AnswerStream.start(`http://127.0.0.1:${port}/ask`, options);
  const seen = states(answer);
  await assert.rejects(collect(answer), { name: "TypeError", message: /gave up after 3 attempts/ });
  assert.deepEqual(seen.names().filter((name) => name === "waiting").length, 3);
  assert.equal(answer.state, "closed");
});

test("a loop that takes nothing has the server wait, and is not taken for silence", async (t) => {
  const piece = "x".repeat(64 * 1024);
  const server = await runServer(t);
  const answer = start(server, { liveness: 200 });
  const parts = answer[Symbol.asyncIterator]();
  await parts.next();
  const answers = [];
  for (let n = 0; n < 400; n += 1) server.run.say("text", piece);
  server.run.end();
  await parts.next();
  const socket = [...server.sockets][0];
  await until(() => socket.writableLength > 0);
  await new Promise((resolve) => setTimeout(resolve, 600)); // three times the liveness
  assert.ok(socket.writableLength > 10 * piece.length);
  for (let part; !(part = await parts.next()).done;) answers.push(part.value);
  assert.equal(answers.filter(({ kind }) => kind === "text").length, 399);
  assert.equal(server.requests.length, 1);
});

test("silence is a broken connection", async (t) => {
  const server = await runServer(t, { begin: (run) => run.say("text", "a") });
  const answer = start(server, { liveness: 30 });
  const seen = states(answer);
  const all = collect(answer);
  assert.equal((await seen.next("waiting")).kind, "silence");
  server.run.end();
  assert.equal((await all).at(-1).kind, "end");
});
