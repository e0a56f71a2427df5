// @ts-check
import { Backoff } from "./backoff.js";
import { streamError } from "./errors.js";
import { passes } from "./sse-request.js";

/** How often it is tried again. */
const LIMIT = 5;

/**
 * Have a server stop an answer. Returns when it has said yes, or has no such answer.
 *
 * @param {URL} location  the answer's
 * @param {{init: RequestInit, fetch: typeof globalThis.fetch, backoff: Backoff}} options
 * @throws {import("./errors.js").StreamError} If the server refuses.
 * @throws {TypeError} If the server cannot be reached.
 */
export async function stopAnswer(location, { init, fetch, backoff }) {
  const { first, base, cap, random } = backoff;
  const waits = new Backoff({ first, base, cap, random, limit: LIMIT });
  for (;;) {
    const { error, isFinal } = await ask(location, { ...init, method: "DELETE" }, fetch);
    if (!error) return;
    const wait = isFinal ? null : waits.next();
    if (wait === null) throw error;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/**
 * @param {URL} location
 * @param {RequestInit} init
 * @param {typeof globalThis.fetch} fetch
 * @returns {Promise<{error?: unknown, isFinal?: boolean}>}
 */
async function ask(location, init, fetch) {
  try {
    const response = await fetch(location, init);
    const isGone = response.status === 404 || response.status === 410;
    const error = response.ok || isGone ? null : await streamError(response);
    response.body?.cancel().catch(() => {});
    return { error, isFinal: !passes(response.status) };
  } catch (error) {
    return { error, isFinal: false };
  }
}
