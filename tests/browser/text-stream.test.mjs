import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { readNdjson, readText, StreamError } from "../../streaming/static/index.js";
import { httpServer, until } from "./helper.mjs";

async function collect(pieces) {
  const all = [];
  for await (const piece of pieces) all.push(piece);
  return all;
}

/** Writes each chunk as a piece of its own. */
async function trickle(response, chunks) {
  response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" });
  for (const chunk of chunks) {
    response.write(chunk);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  response.end();
}

const bytesOf = (text) => Array.from(Buffer.from(text), (byte) => Buffer.from([byte]));

test("pieces come as they arrive, before the end", async (t) => {
  let answer;
  const server = await httpServer(t, (_, response) =>
    (answer = response).writeHead(200).write("one"),
  );
  const pieces = readText(server.url);
  assert.equal((await pieces.next()).value, "one");
  answer.write("two");
  assert.equal((await pieces.next()).value, "two");
  answer.end();
  assert.equal((await pieces.next()).done, true);
});

test("no character is ever cut", async (t) => {
  const text = "aé中😀!";
  const server = await httpServer(t, (_, response) => trickle(response, bytesOf(text)));
  const pieces = await collect(readText(new URL(server.url)));
  assert.equal(pieces.join(""), text);
  for (const piece of pieces) assert.ok(piece !== "" && !piece.includes("\ufffd"));
});

test("half a character at the end becomes a replacement character", async (t) => {
  const server = await httpServer(t, (_, response) =>
    response.end(Buffer.from("a\xe4\xbd", "latin1")),
  );
  assert.equal((await collect(readText(server.url))).join(""), "a\ufffd");
});

test("the request is the caller's, with an Accept of ours if there is none", async (t) => {
  const server = await httpServer(t, (_, response) => response.end("{}"));
  const init = { method: "POST", body: "why?", headers: { "X-Test": "1" } };
  await collect(readText(server.url, init));
  await collect(readNdjson(server.url, init));
  await collect(readText(server.url, { headers: { Accept: "text/markdown" } }));
  const accepted = server.requests.map(({ headers }) => headers.accept);
  assert.deepEqual(accepted, ["text/plain", "application/x-ndjson", "text/markdown"]);
  const { method, body, headers } = server.requests[0];
  assert.deepEqual([method, body, headers["x-test"]], ["POST", "why?", "1"]);
});

test("a response can be given instead of an address", async (t) => {
  const server = await httpServer(t, (_, response) => response.end("text"));
  assert.deepEqual(await collect(readText(await fetch(server.url))), ["text"]);
});

test("an answer without a body is an empty stream", async (t) => {
  const server = await httpServer(t, (_, response) => response.writeHead(204).end());
  assert.deepEqual(await collect(readText(server.url)), []);
  assert.deepEqual(await collect(readNdjson(server.url)), []);
});

test("an error status throws, with the server's explanation", async (t) => {
  const problem = { title: "Bad Request", status: 400, detail: "The question is empty." };
  const server = await httpServer(t, (_, response) => {
    response
      .writeHead(400, { "Content-Type": "application/problem+json" })
      .end(JSON.stringify(problem));
  });
  for (const read of [readText, readNdjson]) {
    await assert.rejects(collect(read(server.url)), (error) => {
      assert.ok(error instanceof StreamError && error instanceof Error);
      assert.equal(error.name, "StreamError");
      assert.equal(error.status, 400);
      assert.deepEqual(error.problem, problem);
      assert.equal(error.message, "the server answered 400 Bad Request: The question is empty.");
      return true;
    });
  }
});

test("an error status without an explanation throws too, and its body is let go", async (t) => {
  const server = await httpServer(t, (_, response) => response.writeHead(500).write("endless"));
  const expected = {
    status: 500,
    problem: null,
    message: "the server answered 500 Internal Server Error",
  };
  await assert.rejects(collect(readText(server.url)), expected);
  await until(() => server.active === 0);
});

for (const given of ["address", "response"]) {
  test(`abort ends the reading and the connection (${given})`, async (t) => {
    const server = await httpServer(t, (_, response) => response.writeHead(200).write("one"));
    const controller = new AbortController();
    const { signal } = controller;
    const pieces = readText(given === "address" ? server.url : await fetch(server.url), { signal });
    await pieces.next();
    const waiting = pieces.next();
    controller.abort();
    await assert.rejects(waiting, { name: "AbortError" });
    await until(() => server.active === 0);
    if (given === "response") assert.deepEqual(getEventListeners(signal, "abort"), []);
  });

  test(`abort before the start (${given})`, async (t) => {
    const server = await httpServer(t, (_, response) => response.writeHead(200).write("one"));
    const input = given === "address" ? server.url : await fetch(server.url);
    const pieces = readText(input, { signal: AbortSignal.abort() });
    await assert.rejects(pieces.next(), { name: "AbortError" });
    await until(() => server.active === 0);
  });
}

test("abort between two pieces ends the reading", async (t) => {
  const server = await httpServer(t, (_, response) => response.writeHead(200).write("one"));
  const controller = new AbortController();
  const pieces = readText(server.url, { signal: controller.signal });
  await pieces.next();
  controller.abort();
  await assert.rejects(pieces.next(), { name: "AbortError" });
});

test("abort while the reading begins ends it", async (t) => {
  const server = await httpServer(t, (_, response) => response.writeHead(200).flushHeaders());
  for (const read of [readText, readNdjson]) {
    const response = await fetch(server.url);
    const controller = new AbortController();
    queueMicrotask(() => controller.abort()); // before the reading listens for it
    await assert.rejects(read(response, { signal: controller.signal }).next(), {
      name: "AbortError",
    });
    await until(() => server.active === 0);
  }
});

test("abort between two lines ends the reading, though both have come", async (t) => {
  const server = await httpServer(t, (_, response) => response.end("1\n2\n3\n"));
  const controller = new AbortController();
  const values = readNdjson(server.url, { signal: controller.signal });
  assert.equal((await values.next()).value, 1);
  controller.abort();
  await assert.rejects(values.next(), { name: "AbortError" });
});

test("leaving the loop early closes the connection", async (t) => {
  const server = await httpServer(t, (_, response) => response.writeHead(200).write('{"a":1}\n'));
  for (const read of [readText, readNdjson]) {
    for await (const _ of read(server.url)) break;
    await until(() => server.active === 0);
  }
});

test("a lost connection is an error and not an end", async (t) => {
  const server = await httpServer(t, (_, response) => {
    response.writeHead(200).write("one");
    setImmediate(() => response.destroy());
  });
  await assert.rejects(collect(readText(server.url)), TypeError);
});

test("JSON lines arrive as values, however they are cut", async (t) => {
  const text = '{"event":"message","data":"é\u2028中😀"}\n\n  \r\n{"n":2}\r\n[3]\n"last"';
  const server = await httpServer(t, (_, response, number) =>
    trickle(response, number === 1 ? [text] : bytesOf(text)),
  );
  for (const _ of ["whole", "bytes"]) {
    const values = await collect(readNdjson(server.url));
    assert.deepEqual(values, [{ event: "message", data: "é\u2028中😀" }, { n: 2 }, [3], "last"]);
  }
});

test("a line that is no JSON is an error, after what came before it", async (t) => {
  const server = await httpServer(t, (_, response) => response.end('{"n":1}\n{"n":\n{"n":3}\n'));
  const values = readNdjson(server.url);
  assert.deepEqual((await values.next()).value, { n: 1 });
  await assert.rejects(values.next(), SyntaxError);
});

test("a line is bounded", async (t) => {
  const server = await httpServer(t, (_, response) =>
    response.writeHead(200).write(`1\n"${"x".repeat(100)}`),
  );
  const values = readNdjson(server.url, { maxLineSize: 50 });
  assert.equal((await values.next()).value, 1);
  await assert.rejects(values.next(), RangeError);
  await until(() => server.active === 0);
});
