// @ts-check
import { Backoff } from "./backoff.js";
import { streamError } from "./errors.js";

/** How often it is tried again. */
const LIMIT = 5;

/**
 * Have a server stop an answer. Returns when it has said yes, or has no such answer.
 *
 * @param {() => URL | Promise<URL>} location  the answer's, with what lets us in now
 * @param {{init: RequestInit, fetch: typeof globalThis.fetch, backoff: Backoff,
 *   passes: (status: number) => boolean}} options  `passes`: whether to try again after this status
 * @throws {import("./errors.js").StreamError} If the server refuses.
 * @throws {TypeError} If the server cannot be reached.
 */
export async function stopAnswer(location, { init, fetch, backoff, passes }) {
  const { first, base, cap, random } = backoff;
  const waits = new Backoff({ first, base, cap, random, limit: LIMIT });
  for (;;) {
    const refusal = await ask(location, { ...init, method: "DELETE" }, fetch);
    if (!refusal) return;
    const { error, status } = refusal;
    const wait = status && !passes(status) ? null : waits.next();
    if (wait === null) throw error;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/**
 * @param {() => URL | Promise<URL>} location
 * @param {RequestInit} init
 * @param {typeof globalThis.fetch} fetch
 * @returns {Promise<{error: unknown, status?: number} | null>}  null: it is stopped; without a
 *   status there was no answer
 */
async function ask(location, init, fetch) {
  try {
    const response = await fetch(await location(), init);
    const { ok, status } = response;
    if (!ok && status !== 404 && status !== 410) return { error: await streamError(response), status };
    response.body?.cancel().catch(() => {});
    return null;
  } catch (error) {
    return { error };
  }
}
