// Node 20 has a WebSocket client behind a flag only: without it, this file runs itself once more.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ReconnectingSocket } from "../../streaming/static/index.js";
import { QUICK, connectionTests, opener } from "./connection.mjs";
import {
  assertNothingLeft,
  freePort,
  record,
  socketServer,
  states,
  timers,
  until,
} from "./helper.mjs";

const open = opener(ReconnectingSocket);

if (typeof WebSocket === "undefined")
  test("the reconnecting socket, with --experimental-websocket", runAgain);
else socketTests();

async function runAgain() {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const file = fileURLToPath(import.meta.url);
  const child = spawn(
    process.execPath,
    ["--experimental-websocket", "--test-reporter=spec", "--test", file],
    { env },
  );
  let output = "";
  for (const pipe of [child.stdout, child.stderr])
    pipe.setEncoding("utf8").on("data", (text) => (output += text));
  const code = await new Promise((resolve) => child.on("close", resolve));
  assert.equal(code, 0, output);
  assert.match(output, /pass [1-9]\d/, output);
}

function socketTests() {
  connectionTests(ReconnectingSocket, "ws", async (t, act, port) => {
    const held = [];
    const onConnect = (peer, number) => {
      if (act(number) !== "end") return;
      peer.send("a");
      peer.close(1011);
    };
    const server = await socketServer(t, onConnect, port);
    const { onUpgrade } = server;
    server.onUpgrade = (...args) =>
      act(args[2]) === "hold" ? held.push(args) : onUpgrade(...args);
    return Object.assign(server, { late: () => held.forEach((args) => onUpgrade(...args)) });
  });

  test("its handlers are those of a WebSocket, over all of its connections", async (t) => {
    const server = await socketServer(t, (peer, number) => {
      peer.send(`of ${number}`);
      if (number === 1) peer.close(1011);
    });
    const socket = open(t, server, QUICK);
    const told = [];
    socket.onopen = () => told.push("open");
    socket.onmessage = ({ data }) => told.push(data);
    socket.onclose = ({ detail }) => told.push(detail.code);
    await until(() => told.length === 5);
    assert.deepEqual(told, ["open", "of 1", 1011, "open", "of 2"]);
    socket.onclose = null;
    socket.close();
    assert.equal(told.length, 5);
  });

  test("it comes back with the ticket that it was sent, or another one of the page", async (t) => {
    const frame = (n) => JSON.stringify({ type: "ticket", ticket: `sent ${n}`, seconds: 60 });
    const server = await socketServer(t, (peer, number) => {
      peer.send(frame(number));
      if (number < 3) peer.close(1011);
    });
    server.url += "?x=1";
    const shown = () => server.requests.map(({ url }) => url.replaceAll("+", " "));
    const protocols = "streaming.v1.json";
    const socket = open(t, server, { protocols, ticket: async () => "asked" });
    const seen = record(socket, "message");
    await until(() => seen.length === 3);
    assert.deepEqual(shown(), [
      "/?x=1&ticket=asked",
      "/?x=1&ticket=sent 1",
      "/?x=1&ticket=sent 2",
    ]);
  });

  test("what looks like a ticket in another protocol is none", async (t) => {
    const server = await socketServer(t, (peer, number) => {
      peer.send('{"type":"ticket","ticket":"theirs","seconds":60}');
      if (number < 2) peer.close(1011);
    });
    server.url += "?ticket=own";
    const socket = open(t, server);
    await until(() => server.requests.length === 2);
    assert.equal(server.requests[1].url, "/?ticket=own");
    socket.close();
  });

  test("messages go both ways", async (t) => {
    const server = await socketServer(t, (peer) => peer.send("Welcome! 你好"));
    const socket = open(t, server);
    const log = record(socket, "open", "message");
    const seen = states(socket);
    await seen.next("open");
    assert.equal(socket.send("hello 😀"), "sent");
    await until(() => log.length === 2);
    await until(() => server.peers[0].texts.length === 1);
    assert.deepEqual(
      log.map(({ type, data }) => [type, data]),
      [
        ["open", undefined],
        ["message", "Welcome! 你好"],
      ],
    );
    assert.deepEqual(server.peers[0].texts, ["hello 😀"]);
    const still = { attempt: 0, limit: 10, retryAt: null, reason: "", kind: "" };
    assert.deepEqual(seen.log, [
      { state: "connecting", ...still },
      { state: "open", ...still },
    ]);
  });

  test("a message is a MessageEvent with the server's origin", async (t) => {
    const server = await socketServer(t, (peer) => peer.send("hi"));
    const socket = open(t, server);
    const event = await new Promise((resolve) => socket.addEventListener("message", resolve));
    assert.ok(event instanceof MessageEvent);
    assert.equal(event.origin, new URL(server.url).origin);
  });

  test("http addresses and protocols are understood", async (t) => {
    const server = await socketServer(t);
    const url = server.url.replace("ws:", "http:") + "ws?x=1#part";
    const socket = open(
      t,
      {
        ...server,
        url,
        get active() {
          return server.active;
        },
      },
      { protocols: ["streaming.v1.json"] },
    );
    await states(socket).next("open");
    assert.equal(server.requests[0].url, "/ws?x=1");
    assert.equal(server.requests[0].headers["sec-websocket-protocol"], "streaming.v1.json");
  });

  test("what is sent without a connection goes out after the page's hello", async (t) => {
    const server = await socketServer(t);
    const socket = open(t, server);
    const log = record(socket, "drop");
    socket.addEventListener("open", () => assert.equal(socket.send("hello"), "sent"));
    assert.equal(socket.send("one"), "queued");
    assert.equal(socket.send("two"), "queued");
    assert.deepEqual(socket.queue, ["one", "two"]);
    socket.queue.push("a copy");
    assert.equal(socket.queue.length, 2);
    await until(() => server.peers[0]?.texts.length === 3);
    assert.deepEqual(server.peers[0].texts, ["hello", "one", "two"]);
    assert.deepEqual(socket.queue, []);
    assert.equal(log.length, 0);
  });

  test("a full queue keeps the oldest, and says what it refuses", async (t) => {
    const server = await socketServer(t);
    const socket = open(t, server, { queueLimit: 2 });
    const log = record(socket, "drop");
    assert.deepEqual(
      ["1", "2", "3", "4"].map((text) => socket.send(text)),
      ["queued", "queued", "dropped", "dropped"],
    );
    assert.deepEqual(
      log.map(({ detail }) => detail),
      [{ data: "3" }, { data: "4" }],
    );
    await until(() => server.peers[0]?.texts.length === 2);
    assert.deepEqual(server.peers[0].texts, ["1", "2"]);
  });

  test("the queue outlives a lost connection", async (t) => {
    const server = await socketServer(t, (peer, number) => number === 1 && peer.destroy());
    const socket = open(t, server);
    socket.addEventListener("state", ({ detail }) => {
      if (detail.state === "waiting") assert.equal(socket.send("kept"), "queued");
    });
    await until(() => server.peers[1]?.texts.length === 1);
    assert.deepEqual(server.peers[1].texts, ["kept"]);
  });

  test("closing for good drops the queue, text by text", async (t) => {
    const server = await socketServer(t);
    const socket = open(t, server);
    const log = record(socket, "drop", "state");
    socket.send("1");
    socket.send("2");
    socket.close();
    assert.deepEqual(
      log.map(({ type, detail }) => detail.data ?? detail.state),
      ["1", "2", "closed"],
    );
    assert.equal(socket.send("3"), "dropped");
    assert.equal(log.at(-1).detail.data, "3");
    assert.deepEqual(socket.queue, []);
    await new Promise(setImmediate);
    assert.equal(server.requests.length, 0);
  });

  test("only text is sent", async (t) => {
    const server = await socketServer(t);
    assert.throws(() => open(t, server).send(new Uint8Array(2)), TypeError);
  });

  test("a lost connection comes back, and says so", async (t) => {
    t.mock.method(Date, "now", () => 1_000_000); // it is told when, and not late
    const server = await socketServer(t);
    const socket = open(t, server);
    const log = record(socket, "close", "state", "open");
    const seen = states(socket);
    await seen.next("open");
    server.peers[0].destroy();
    const { kind, reason, attempt, retryAt, at } = await seen.next("waiting");
    assert.deepEqual([kind, reason, attempt], ["network", "the connection was lost", 1]);
    assert.ok(retryAt >= at);
    await seen.next("open");
    await until(() => log.length === 8);
    const steps = log.map(({ type, detail }) => detail?.state ?? type);
    assert.deepEqual(steps, [
      "connecting",
      "open",
      "open",
      "close",
      "waiting",
      "connecting",
      "open",
      "open",
    ]);
    assert.deepEqual(log[3].detail, { code: 1006, reason: "", wasClean: false });
  });

  for (const code of [1001, 1005, 1011, 1012, 1013, 1014]) {
    test(`${code} passes: it comes back`, async (t) => {
      t.mock.method(Date, "now", () => 1_000_000);
      const server = await socketServer(t);
      const socket = open(t, server, { backoff: { ...QUICK, random: () => 0.5 } });
      const log = record(socket, "close");
      const seen = states(socket);
      await seen.next("open");
      server.peers[0].close(code === 1005 ? undefined : code, code === 1005 ? "" : "bye");
      const { kind, reason, retryAt, at } = await seen.next("waiting");
      const wait = retryAt - at;
      if (code === 1012 || code === 1013) {
        assert.equal(kind, "restart");
        assert.ok(wait > 1000 && wait <= 1100, `spread: ${wait}`);
      } else {
        assert.equal(kind, "ended");
        assert.ok(wait <= 1);
      }
      assert.match(reason, code === 1005 ? /\(1005\)$/ : /: bye$/);
      assert.deepEqual(
        log.map(({ detail }) => detail.code),
        [code],
      );
      socket.retryNow();
      await seen.next("open");
    });
  }

  for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 4000, 4408]) {
    test(`${code} is final`, async (t) => {
      const server = await socketServer(t);
      const socket = open(t, server);
      const log = record(socket, "close", "drop", "state");
      const seen = states(socket);
      await seen.next("open");
      socket.addEventListener("close", () => socket.send("late"));
      server.peers[0].close(code, "that is why");
      const { kind, reason } = await seen.next("closed");
      assert.equal(kind, code === 1000 ? "done" : "refused");
      assert.match(reason, /: that is why$/);
      const steps = log.slice(2).map(({ type }) => type);
      assert.deepEqual(steps, ["close", "drop", "state"]);
      assert.equal(log[2].detail.code, code);
      assert.equal(log[2].detail.reason, "that is why");
      socket.retryNow();
      assert.equal(socket.state, "closed");
      await assertNothingLeft({ server });
      assert.equal(server.requests.length, 1);
    });
  }

  test("after a restart clients come back spread over two seconds", async (t) => {
    t.mock.method(Date, "now", () => 1_000_000);
    for (const [random, least, most] of [
      [0, 100, 200],
      [0.999, 1900, 2000],
    ]) {
      const server = await socketServer(t, (peer) => peer.close(1012));
      const socket = open(t, server, { backoff: { ...QUICK, random: () => random } });
      const { retryAt, at } = await states(socket).next("waiting");
      const wait = retryAt - at;
      assert.ok(wait > least && wait <= most, `${wait}`);
      socket.close();
    }
  });

  for (const said of [[], [4001, "done here"]]) {
    const [code, reason] = said.length ? said : [1000, ""];
    test(`close(${said}) says goodbye with ${code}`, async (t) => {
      const server = await socketServer(t);
      const socket = open(t, server);
      const log = record(socket, "close");
      const seen = states(socket);
      await seen.next("open");
      socket.close(...said);
      assert.deepEqual(
        log.map(({ detail }) => detail),
        [{ code, reason, wasClean: true }],
      );
      assert.equal(seen.log.at(-1).reason, "closed by the page");
      assert.deepEqual(await until(() => server.peers[0].closed), [code, reason]);
      socket.close();
      assert.equal(log.length, 1);
    });
  }

  test("a goodbye that cannot be sent is refused", async (t) => {
    const server = await socketServer(t);
    const socket = open(t, server);
    await states(socket).next("open");
    for (const code of [0, 999, 1001, 1006, 2999, 5000])
      assert.throws(() => socket.close(code), RangeError);
    assert.throws(() => socket.close(1000, "é".repeat(62)), RangeError);
    assert.equal(socket.state, "open");
  });

  test("the queue outlives giving up", async (t) => {
    const port = await freePort(t);
    const nobody = { url: `ws://127.0.0.1:${port}/`, active: 0 };
    const socket = open(t, nobody, { backoff: { ...QUICK, limit: 0 } });
    const log = record(socket, "close", "drop");
    const seen = states(socket);
    socket.send("kept");
    await seen.next("closed");
    assert.equal(socket.send("this too"), "queued");

    const server = await socketServer(t, undefined, port);
    socket.retryNow();
    await seen.next("open");
    await until(() => server.peers[0]?.texts.length === 2);
    assert.deepEqual(server.peers[0].texts, ["kept", "this too"]);
    assert.equal(log.length, 0);
    socket.close();
    await assertNothingLeft({ server });
  });

  test("a handshake that is refused is tried again", async (t) => {
    const server = await socketServer(t);
    const { onUpgrade } = server;
    server.onUpgrade = (request, socket, number) => {
      if (number > 1) return onUpgrade(request, socket, number);
      socket.end(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
      );
    };
    const seen = states(open(t, server));
    const { kind, reason } = await seen.next("waiting");
    assert.equal(kind, "network");
    assert.equal(reason, "the server cannot be reached, or refuses");
    await seen.next("open");
  });

  test("a handshake that nobody answers is given up in time", async (t) => {
    const server = await socketServer(t);
    const { onUpgrade } = server;
    server.onUpgrade = (request, socket, number) =>
      number > 1 && onUpgrade(request, socket, number);
    const seen = states(open(t, server, { connectTimeout: 200 }));
    const { kind, reason } = await seen.next("waiting");
    assert.deepEqual([kind, reason], ["silence", "nothing was heard from the server for 0.2 s"]);
    await seen.next("open");
    server.sockets.forEach((socket) => socket.destroy());
  });

  test("a ticket that does not come is given up in time, and not used when it comes late", async (t) => {
    const server = await socketServer(t);
    let asked = 0;
    let late;
    const ticket = () => {
      asked += 1;
      return asked === 1 ? new Promise((resolve) => (late = resolve)) : `asked ${asked}`;
    };
    const socket = open(t, server, { ticket, connectTimeout: 200 });
    const seen = states(socket);
    assert.equal((await seen.next("waiting")).kind, "silence");
    late("asked 1");
    await seen.next("open");
    const shown = server.requests.map(({ url }) => url);
    assert.ok(shown.length > 0 && !shown.includes("/?ticket=asked+1"), String(shown));
  });

  test("silence ends in a new attempt, if asked for", async (t) => {
    const server = await socketServer(t);
    const socket = open(t, server, { liveness: 200 });
    const log = record(socket, "close");
    const seen = states(socket);
    assert.equal((await seen.next("waiting")).kind, "silence");
    assert.deepEqual(log[0].detail, { code: 1006, reason: "", wasClean: false });
    await seen.next("open");
    await until(() => server.peers[0].closed);
  });

  test("a message is no silence", async (t) => {
    const server = await socketServer(t, (peer) => {
      const timer = setInterval(() => peer.send("beat"), 10).unref();
      t.after(() => clearInterval(timer));
    });
    const socket = open(t, server, { liveness: 250 });
    const seen = states(socket);
    await seen.next("open");
    const started = performance.now();
    await until(() => performance.now() - started > 500);
    assert.deepEqual(seen.names(), ["connecting", "open"]);
    assert.equal(server.peers.length, 1);
  });

  test("without liveness there is no watchdog on an open connection", async (t) => {
    const server = await socketServer(t);
    await states(open(t, server)).next("open");
    assert.equal(timers(), 0);
  });

  test("a signal that was aborted before drops what is sent", async (t) => {
    const server = await socketServer(t);
    const socket = open(t, server, { signal: AbortSignal.abort() });
    const log = record(socket, "drop");
    socket.send("never");
    await states(socket).next("closed");
    assert.deepEqual(
      log.map(({ detail }) => detail),
      [{ data: "never" }],
    );
  });

  test("close from a listener: no message after it, and the queue is not sent", async (t) => {
    const server = await socketServer(t, (peer) =>
      ["a", "b", "c"].forEach((text) => peer.send(text)),
    );
    const socket = open(t, server);
    const log = record(socket, "message");
    socket.addEventListener("message", ({ data }) => data === "b" && socket.close());
    await states(socket).next("closed");
    await assertNothingLeft({ server });
    assert.deepEqual(
      log.map(({ data }) => data),
      ["a", "b"],
    );
  });

  test("close from a listener of state open: there is no open event", async (t) => {
    const server = await socketServer(t);
    const socket = open(t, server);
    const log = record(socket, "open");
    socket.addEventListener("state", ({ detail }) => detail.state === "open" && socket.close());
    await states(socket).next("closed");
    assert.equal(log.length, 0);
  });

  test("close from the close listener: it is closed, and was never waiting", async (t) => {
    const server = await socketServer(t, (peer) => peer.close(1012));
    const socket = open(t, server);
    socket.addEventListener("close", () => socket.close());
    const seen = states(socket);
    await seen.next("closed");
    assert.deepEqual(seen.names(), ["connecting", "open", "closed"]);
  });

  test("close from the open listener drops the queue", async (t) => {
    const server = await socketServer(t);
    const socket = open(t, server);
    const log = record(socket, "drop");
    socket.send("unsent");
    socket.addEventListener("open", () => socket.close());
    await states(socket).next("closed");
    assert.deepEqual(
      log.map(({ detail }) => detail),
      [{ data: "unsent" }],
    );
    await assertNothingLeft({ server });
    assert.deepEqual(server.peers[0].texts, []);
  });

  test("what can never be connected is final", async () => {
    assert.throws(() => new ReconnectingSocket("no url"), TypeError);
    const socket = new ReconnectingSocket("ws://127.0.0.1:1/", { protocols: ["bad protocol"] });
    const { kind, reason } = await states(socket).next("closed");
    assert.equal(kind, "refused");
    assert.match(reason, /SyntaxError/);
  });
}
