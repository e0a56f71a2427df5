// @ts-check
import { streamError } from "./errors.js";
import { MAX_EVENT_SIZE } from "./sse-parser.js";

/**
 * The pieces of a streamed text as they arrive; never half a character. Leaving the loop early, or
 * `init.signal`, closes the connection, which tells the server to stop.
 *
 * @param {Response | URL | string} input  a response, or where to fetch one
 * @param {RequestInit} [init]  for `fetch`; `signal` also ends the reading of a given response
 * @returns {AsyncGenerator<string, void, void>}
 * @throws {import("./errors.js").StreamError} If the server answers with an error status.
 * @throws {DOMException} `AbortError` (or the signal's own reason) if aborted.
 * @throws {TypeError} If the connection is lost.
 */
export async function* readText(input, init = {}) {
  const response = await open(input, init, "text/plain");
  if (!response.body) return;
  const { signal } = init;
  const reader = response.body.getReader();
  const cancel = () => void reader.cancel().catch(() => {});
  signal?.addEventListener("abort", cancel);
  try {
    const decoder = new TextDecoder();
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      const text = decoder.decode(value, { stream: !done });
      if (text) yield text;
      if (done) return;
    }
  } finally {
    signal?.removeEventListener("abort", cancel);
    cancel();
  }
}

/**
 * The values of a stream of JSON lines as they arrive; empty lines are skipped. A last line without
 * its line feed counts. Ends and fails like `readText`.
 *
 * @template [T=any]  what a line holds, if you know; nothing checks it
 * @param {Response | URL | string} input
 * @param {RequestInit & {maxLineSize?: number}} [init]  `maxLineSize` is in characters
 * @returns {AsyncGenerator<T, void, void>}
 * @throws {SyntaxError} If a line is not JSON.
 * @throws {RangeError} If a line exceeds `maxLineSize`.
 */
export async function* readNdjson(input, { maxLineSize = MAX_EVENT_SIZE, ...init } = {}) {
  const response = await open(input, init, "application/x-ndjson");
  let line = "";
  for await (const text of readText(response, init)) {
    for (const [index, part] of text.split("\n").entries()) {
      if (index > 0) {
        if (line.trim()) yield JSON.parse(line);
        init.signal?.throwIfAborted();
        line = "";
      }
      line += part;
      if (line.length > maxLineSize) {
        throw new RangeError(`a line is larger than ${maxLineSize} characters`);
      }
    }
  }
  if (line.trim()) yield JSON.parse(line);
}

/**
 * @param {Response | URL | string} input
 * @param {RequestInit} init
 * @param {string} accept  unless `init` says otherwise
 */
async function open(input, init, accept) {
  let response = input;
  if (!(response instanceof Response)) {
    const headers = new Headers(init.headers);
    if (!headers.has("Accept")) headers.set("Accept", accept);
    response = await fetch(response, { ...init, headers });
  }
  if (init.signal?.aborted) await response.body?.cancel();
  init.signal?.throwIfAborted();
  if (!response.ok) throw await streamError(response);
  return response;
}
