// What `reconnect.js` promises of a connection, whatever it is made of: each kind runs this.
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Backoff } from "../../streaming/static/index.js";
import { assertNothingLeft, freePort, record, states, timers, until } from "./helper.mjs";

export const QUICK = { first: 1, base: 1, cap: 1, limit: 10 };
const SLOW = { first: 60_000, base: 60_000, cap: 60_000, random: () => 1 };

/** Opens connections that their test closes at its end, proving that nothing is left. */
export function opener(Kind) {
  return (t, server, options = {}) => {
    const connection = new Kind(server.url, { backoff: QUICK, ...options });
    t.after(async () => {
      connection.close();
      await assertNothingLeft({ server, signal: options.signal });
    });
    return connection;
  };
}

/**
 * The tests. `serve(t, act, port)` is a server that treats each client as `act(number)` says:
 * "open", "end" (says one thing, and may be asked again), or "hold": no answer until `late()`.
 */
export function connectionTests(Kind, scheme, serve) {
  const open = opener(Kind);

  test("nobody there: it gives up after the limit, and retryNow starts over", async (t) => {
    const port = await freePort(t);
    const nobody = { url: `${scheme}://127.0.0.1:${port}/`, active: 0 };
    const connection = open(t, nobody, { backoff: { ...QUICK, limit: 3 } });
    const seen = states(connection);
    const { reason, kind, attempt, limit } = await seen.next("closed");
    assert.deepEqual([reason, kind, attempt, limit], ["gave up", "limit", 3, 3]);
    const steps = seen.log.map(({ state, attempt }) => `${state} ${attempt}`);
    assert.deepEqual(steps, [
      "connecting 0",
      "waiting 1",
      "connecting 1",
      "waiting 2",
      "connecting 2",
      "waiting 3",
      "connecting 3",
      "closed 3",
    ]);
    assert.match(seen.log[1].reason, /^the server cannot be reached/);
    assert.equal(timers(), 0);

    connection.retryNow();
    assert.deepEqual([connection.state, connection.attempt], ["connecting", 0]);
    assert.equal((await seen.next("waiting")).attempt, 1);
    await seen.next("closed");

    const server = await serve(t, () => "open", port);
    connection.retryNow();
    assert.equal((await seen.next("open")).attempt, 0);
    connection.close();
    await assertNothingLeft({ server });
  });

  test("closing after it gave up is final", async (t) => {
    const server = { url: `${scheme}://127.0.0.1:${await freePort(t)}/`, active: 0 };
    const { signal } = new AbortController();
    const connection = open(t, server, { backoff: { limit: 0 }, signal });
    const seen = states(connection);
    assert.equal((await seen.next("closed")).kind, "limit");
    connection.close();
    assert.equal((await seen.next("closed")).kind, "page");
    connection.retryNow();
    assert.equal(connection.state, "closed");
    assert.deepEqual(getEventListeners(signal, "abort"), []);
  });

  test("a server that accepts and falls over at once uses up the attempts", async (t) => {
    const server = await serve(t, () => "end");
    const seen = states(open(t, server, { backoff: { ...QUICK, limit: 3, stable: 5000 } }));
    await seen.next("closed");
    const attempts = (which) =>
      seen.log.filter(({ state }) => state === which).map(({ attempt }) => attempt);
    assert.deepEqual(attempts("waiting"), [1, 2, 3]);
    assert.deepEqual(attempts("open"), [0, 0, 0, 0]);
    assert.equal(server.requests.length, 4);
  });

  test("after a stable connection the count starts again", async (t) => {
    const server = await serve(t, () => "end");
    const backoff = new Backoff({ ...QUICK, limit: 1, stable: 0 });
    const seen = states(open(t, server, { backoff }));
    for (let round = 0; round < 5; round += 1)
      assert.equal((await seen.next("waiting")).attempt, 1);
  });

  test("a signal that was aborted before stops everything", async (t) => {
    const server = await serve(t, () => "open");
    const signal = AbortSignal.abort();
    const { kind, reason } = await states(open(t, server, { signal })).next("closed");
    assert.deepEqual([kind, reason], ["aborted", "aborted"]);
    assert.equal(server.requests.length, 0);
    await assertNothingLeft({ server, signal });
  });

  const ACTS = { connecting: "hold", open: "open", waiting: "end" };
  for (const [when, act] of Object.entries(ACTS)) {
    for (const how of ["abort", "close"]) {
      test(`${how} while ${when} leaves nothing behind`, async (t) => {
        const server = await serve(t, () => act);
        const controller = new AbortController();
        const { signal } = controller;
        const connection = open(t, server, { signal, backoff: SLOW });
        const seen = states(connection);
        await seen.next(when);
        await until(() => server.requests.length === 1);
        if (how === "abort") controller.abort();
        else connection.close();
        assert.equal(connection.state, "closed");
        assert.equal(seen.log.at(-1).kind, how === "abort" ? "aborted" : "page");
        server.late();
        await assertNothingLeft({ server, signal });
        connection.close();
        connection.retryNow();
        assert.equal(seen.names().filter((name) => name === "closed").length, 1);
        assert.equal(server.requests.length, 1);
      });
    }
  }

  test("close at once makes no request", async (t) => {
    const server = await serve(t, () => "open");
    const connection = open(t, server);
    connection.close();
    await new Promise(setImmediate);
    assert.equal(connection.state, "closed");
    await assertNothingLeft({ server });
    assert.equal(server.requests.length, 0);
  });

  for (const [index, state] of Object.keys(ACTS).entries()) {
    test(`close from a listener of state ${state}: all hear of it in order`, async (t) => {
      const server = await serve(t, () => "end");
      const connection = open(t, server);
      const log = record(connection, "message");
      const before = states(connection);
      connection.addEventListener(
        "state",
        ({ detail }) => detail.state === state && connection.close(),
      );
      const after = states(connection);
      await after.next("closed");
      await assertNothingLeft({ server });
      const expected = [...Object.keys(ACTS).slice(0, index + 1), "closed"];
      assert.deepEqual(before.names(), expected);
      assert.deepEqual(after.names(), expected);
      assert.equal(log.length, state === "waiting" ? 1 : 0);
    });
  }

  test("retryNow does nothing while connecting and open", async (t) => {
    const server = await serve(t, () => "open");
    const connection = open(t, server);
    connection.retryNow();
    const seen = states(connection);
    await seen.next("open");
    connection.retryNow();
    assert.deepEqual(seen.names(), ["connecting", "open"]);
    assert.equal(server.requests.length, 1);
  });

  test("the network coming back is a retryNow, and no listener stays", async (t) => {
    const network = new EventTarget();
    globalThis.addEventListener = network.addEventListener.bind(network);
    globalThis.removeEventListener = network.removeEventListener.bind(network);
    t.after(() => {
      delete globalThis.addEventListener;
      delete globalThis.removeEventListener;
    });
    const server = await serve(t, (number) => (number <= 2 ? "end" : "open"));
    const connection = open(t, server, { backoff: { ...SLOW, limit: 1 } });
    const seen = states(connection);
    await seen.next("waiting");
    network.dispatchEvent(new Event("online"));
    assert.equal((await seen.next("closed")).kind, "limit");
    network.dispatchEvent(new Event("online"));
    await seen.next("open");
    assert.deepEqual(getEventListeners(network, "online"), []);
    connection.close();
    assert.deepEqual(getEventListeners(network, "online"), []);
  });
}
