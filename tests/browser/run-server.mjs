// A server with runs, as the package's routes speak: POST /ask, GET and DELETE /runs/<id>.
import { httpServer, stream } from "./helper.mjs";

const TEXTS = new Set(["text", "reasoning", "problem"]);
const KINDS = { problem: "error" };

/** One run: what was said, in order; ids are `k-1`, `k-2` … */
export class Run {
  messages = [];
  readers = new Set();
  ended = false;
  whole = true;

  constructor(id) {
    this.id = id;
    this.say("start", { id, state: "running", started: "2026-01-01T00:00:00Z" });
  }

  say(event, value = {}) {
    const data = TEXTS.has(event) ? value : JSON.stringify(value);
    this.messages.push({ event, data, id: `k-${this.messages.length + 1}` });
    this.ended ||= event === "end";
    for (const write of this.readers) write();
    return this;
  }

  end(state = "done", more = {}) {
    return this.say("end", { state, ...more });
  }

  /** Everything so far as the data of one `snapshot` event. */
  snapshot() {
    const parts = this.messages.filter(({ event }) => !["start", "running", "end"].includes(event));
    const text = parts.filter(({ event }) => event === "text").map(({ data }) => data);
    const rest = parts.filter(({ event }) => event !== "text");
    return {
      id: this.id,
      state: "running",
      text: text.join(""),
      parts: rest.map(({ event, data }) => ({
        kind: KINDS[event] ?? event,
        data: TEXTS.has(event) ? data : JSON.parse(data),
      })),
      whole: this.whole,
    };
  }

  /** The whole stream's text for somebody who asks after an id, or for everything. */
  stream(after) {
    const start = this.messages[0];
    const ready = block({ event: "ready", data: "{}", id: start.id });
    if (after === undefined) {
      const last = this.messages.findLast(({ event }) => event !== "end");
      const told = { event: "snapshot", data: JSON.stringify(this.snapshot()), id: last.id };
      return ready + block(told) + this.tail(last.id);
    }
    return ready + this.tail(after);
  }

  tail(after) {
    const number = this.messages.findIndex(({ id }) => id === after) + 1;
    return this.messages.slice(number).map(block).join("") + (this.ended ? CLOSE : "");
  }
}

const CLOSE = "event: close\ndata: {}\n\n";

/** An event of a stream. */
export function block({ event, data, id }) {
  const lines = data.split("\n").map((line) => `data: ${line}\n`);
  return `event: ${event}\n${lines.join("")}${id ? `id: ${id}\n` : ""}\n`;
}

/**
 * A server with one run (`server.run`). `server.cut` may be set: how many bytes of an answer's body
 * are sent before its connection is lost; it counts for one answer.
 */
export async function runServer(t, { begin = (run) => run } = {}) {
  const server = await httpServer(t, (request, response) => {
    const { method, url } = request;
    const after = request.headers["last-event-id"];
    if (method === "POST" && url === "/ask") return ask(request, response);
    if (!server.run || url !== `/runs/${server.run.id}`) return problem(response, 404, "Not Found");
    if (method === "DELETE") return stop(response);
    const { messages, ended } = server.run;
    if (ended && after === messages.at(-1).id) return response.writeHead(204).end();
    follow(response, after);
  });
  server.begun = 0;
  server.keys = new Set();
  server.ask = new URL("ask", server.url);

  function ask(request, response) {
    const key = request.headers["idempotency-key"];
    if (!server.keys.has(key)) {
      server.keys.add(key);
      server.begun += 1;
      server.run = new Run(`r${server.begun}`);
      begin(server.run);
    }
    response.setHeader("Location", `/runs/${server.run.id}`);
    follow(response, undefined);
  }

  function stop(response) {
    if (!server.run.ended) server.run.end("stopped");
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ ...server.run.snapshot(), state: "stopped" }));
  }

  function follow(response, after) {
    const { run } = server;
    let bytes = Buffer.from(run.stream(after));
    if (server.cut !== undefined) {
      bytes = bytes.subarray(0, server.cut);
      server.cut = undefined;
      stream(response);
      // Flushed before the connection goes, so that the client gets every byte of it.
      if (bytes.length) response.write(bytes, () => setImmediate(() => response.destroy()));
      else setImmediate(() => response.destroy());
      return;
    }
    stream(response).write(bytes);
    if (run.ended) return response.end();
    let last = run.messages.at(-1).id;
    const write = () => {
      response.write(run.tail(last));
      last = run.messages.at(-1).id;
      if (run.ended) response.end();
    };
    run.readers.add(write);
    response.on("close", () => run.readers.delete(write));
  }

  return server;
}

export function problem(response, status, title, headers = {}) {
  response.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
  response.end(JSON.stringify({ type: "about:blank", title, status, detail: `${title}.` }));
}
