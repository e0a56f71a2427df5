// What the client's tests share: real servers on free ports of 127.0.0.1, waiting with a deadline.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { getEventListeners } from "node:events";
import { createServer } from "node:http";

/** Poll until `condition` holds (its value is returned). */
export async function until(condition, what = String(condition), deadline = 20_000) {
  const end = performance.now() + deadline;
  for (;;) {
    const value = condition();
    if (value) return value;
    assert.ok(performance.now() < end, `still waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/**
 * Everything of some names that a target dispatches from now on: `{type, data, lastEventId,
 * detail}`.
 */
export function record(target, ...names) {
  const log = [];
  for (const name of names) {
    target.addEventListener(name, ({ type, data, lastEventId, detail }) => {
      log.push({ type, data, lastEventId, detail });
    });
  }
  return log;
}

/**
 * The details of a connection's `state` events; `next(state)` waits for the next one of that
 * state, and says when it came (`at`).
 */
export function states(connection) {
  const log = [];
  const at = new WeakMap();
  let seen = 0;
  connection.addEventListener("state", ({ detail }) => {
    log.push(detail);
    at.set(detail, Date.now());
  });
  return {
    log,
    names: () => log.map(({ state }) => state),
    async next(state) {
      const find = () => log.findIndex((detail, index) => index >= seen && detail.state === state);
      await until(() => find() !== -1, `state ${state} after ${JSON.stringify(log.slice(seen))}`);
      seen = find() + 1;
      return { ...log[seen - 1], at: at.get(log[seen - 1]) };
    },
  };
}

/** Have this process do nothing for so many milliseconds, as a page that is frozen. */
export function standStill(milliseconds) {
  const until = performance.now() + milliseconds;
  while (performance.now() < until);
}

/** A timer of ours would be listed here; those of the runtime do not hold the process. */
export function timers() {
  return process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
}

/** Check that a connection that was closed has left nothing behind. */
export async function assertNothingLeft({ server, signal }) {
  assert.equal(timers(), 0);
  if (signal) assert.deepEqual(getEventListeners(signal, "abort"), []);
  await until(() => server.active === 0, "the server's connections to end");
}

/** An HTTP server; `active` counts unfinished answers and sockets, `requests` says what arrived. */
export async function httpServer(t, handler, port = 0) {
  const state = { requests: [], active: 0, handler };
  const server = createServer((request, response) => {
    const { method, url, headers } = request;
    const seen = { method, url, headers, body: "" };
    state.active += 1;
    response.on("close", () => (state.active -= 1));
    request.setEncoding("utf8").on("data", (text) => (seen.body += text));
    request.on("end", () => {
      state.requests.push(seen);
      state.handler(request, response, state.requests.length);
    });
  });
  server.on("upgrade", (request, socket) => {
    state.active += 1;
    socket.on("close", () => (state.active -= 1));
    socket.on("error", () => {});
    socket.on("end", () => socket.end());
    state.requests.push({ url: request.url, headers: request.headers });
    state.onUpgrade?.(request, socket, state.requests.length);
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  server.unref(); // a failed test must not hold the process
  state.port = server.address().port;
  state.url = `http://127.0.0.1:${state.port}/`;
  state.sockets = new Set();
  server.on("connection", (socket) => {
    state.sockets.add(socket);
    socket.on("close", () => state.sockets.delete(socket));
  });
  state.stop = () =>
    new Promise((resolve) => {
      server.close(resolve);
      for (const socket of state.sockets) socket.destroy();
    });
  t.after(state.stop);
  return state;
}

/** Answer with an event stream: what is given now, what the caller writes later. */
export function stream(response, text = "") {
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  response.flushHeaders();
  if (text) response.write(text);
  return response;
}

/** A port of this machine on which nobody listens. */
export async function freePort(t) {
  const server = await httpServer(t, () => {});
  await server.stop();
  return server.port;
}

/**
 * A WebSocket server (RFC 6455, text and close frames up to 64 KiB). `onConnect(peer, number)` is
 * called after the handshake; a peer has `send(text)`, `close(code, reason)`, `destroy()`, `texts`,
 * `closed` ([code, reason]).
 */
export async function socketServer(t, onConnect = () => {}, port = 0) {
  const state = await httpServer(t, (_, response) => response.writeHead(426).end(), port);
  state.url = state.url.replace("http", "ws");
  state.peers = [];
  state.onConnect = onConnect;
  state.onUpgrade = (request, socket, number) => {
    const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const accept = createHash("sha1").update(key).digest("base64");
    const protocol = request.headers["sec-websocket-protocol"]?.split(",")[0].trim();
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Accept: ${accept}\r\n` +
        (protocol ? `Sec-WebSocket-Protocol: ${protocol}\r\n\r\n` : "\r\n"),
    );
    const peer = new Peer(socket);
    state.peers.push(peer);
    state.onConnect(peer, number);
  };
  return state;
}

class Peer {
  texts = [];
  closed = null;
  #socket;
  #buffer = Buffer.alloc(0);

  constructor(socket) {
    this.#socket = socket;
    socket.on("data", (data) => {
      this.#buffer = Buffer.concat([this.#buffer, data]);
      while (this.#takeFrame());
    });
  }

  send(text) {
    this.#frame(1, Buffer.from(text));
  }

  close(code, reason = "") {
    const payload = Buffer.alloc(code ? 2 : 0);
    if (code) payload.writeUInt16BE(code);
    this.#frame(8, Buffer.concat([payload, Buffer.from(reason)]));
    this.#socket.end();
  }

  destroy() {
    this.#socket.destroy();
  }

  #frame(opcode, payload) {
    const short = payload.length < 126;
    const head = Buffer.from([0x80 | opcode, short ? payload.length : 126]);
    const size = Buffer.alloc(short ? 0 : 2);
    if (!short) size.writeUInt16BE(payload.length);
    if (this.#socket.writable) this.#socket.write(Buffer.concat([head, size, payload]));
  }

  #takeFrame() {
    const frame = this.#buffer;
    if (frame.length < 2) return false;
    const short = frame[1] & 0x7f;
    const start = short === 126 ? 8 : 6;
    if (frame.length < start) return false;
    const length = short === 126 ? frame.readUInt16BE(2) : short;
    if (frame.length < start + length) return false;
    const mask = frame.subarray(start - 4, start);
    const payload = Buffer.from(frame.subarray(start, start + length));
    payload.forEach((byte, index) => (payload[index] = byte ^ mask[index % 4]));
    this.#buffer = frame.subarray(start + length);
    const opcode = frame[0] & 0x0f;
    if (opcode === 1) this.texts.push(payload.toString());
    if (opcode === 8) {
      this.closed = length ? [payload.readUInt16BE(0), payload.subarray(2).toString()] : [1005, ""];
      this.close(this.closed[0] === 1005 ? undefined : this.closed[0]);
    }
    return true;
  }
}
