// @ts-check
import { absolute } from "./reconnect.js";

/** Refusals that pass: time-out, too early, too many requests. Any other 4xx is final. */
const PASSING = new Set([408, 425, 429]);

/**
 * Whether a refusal passes.
 *
 * @param {number} status
 */
export function passes(status) {
  return status >= 500 || PASSING.has(status);
}

/**
 * `headers` that ask for what follows an id.
 *
 * @param {Headers} headers
 * @param {string} id  "" asks for nothing
 */
export function after(headers, id) {
  const sent = new Headers(headers);
  // A header takes bytes: UTF-8, as EventSource sends it.
  const bytes = Array.from(new TextEncoder().encode(id), (byte) => String.fromCharCode(byte));
  if (id) sent.set("Last-Event-ID", bytes.join(""));
  return sent;
}

/**
 * Throw now what every attempt would throw.
 *
 * @param {string | URL} url
 * @param {RequestInit} init
 * @throws {TypeError} If the URL, the headers or the body cannot be sent again and again.
 */
export function checked(url, init) {
  if (init.body instanceof ReadableStream)
    throw new TypeError("a stream cannot be sent a second time");
  const target = absolute(url);
  new Request(target, init);
  return target;
}
