// @ts-check

/** How much of an error's body is read, in characters. */
const MAX_PROBLEM = 64 * 1024;

/**
 * What a server says about an error (RFC 9457, `application/problem+json`).
 * @typedef {{type?: string, title?: string, status?: number, detail?: string,
 *   [extension: string]: unknown}} Problem
 */

/** The server answered, but not with a stream. Its message is for people. */
export class StreamError extends Error {
  /**
   * @param {number} status  the HTTP status
   * @param {Problem | null} problem  the server's own explanation, if it gave one
   * @param {string} [statusText]
   * @param {number} [wait]  how long the server asks us to stay away, in milliseconds
   */
  constructor(status, problem, statusText = "", wait = 0) {
    const title = problem?.title || statusText;
    const detail = problem?.detail ? `: ${problem.detail}` : "";
    super(`the server answered ${status}${title && ` ${title}`}${detail}`);
    this.name = "StreamError";
    this.status = status;
    this.problem = problem;
    this.retryAfter = wait;
  }
}

/**
 * The error that a response stands for. Its body is read if it is a problem document, and let go
 * of.
 *
 * @param {Response} response
 */
export async function streamError(response) {
  const { status, statusText } = response;
  return new StreamError(status, await readProblem(response), statusText, retryAfter(response));
}

/**
 * @param {Response} response
 * @returns {Promise<Problem | null>}  null also if it cannot be read or understood
 */
async function readProblem(response) {
  if (!response.body) return null;
  const reader = response.body.getReader();
  try {
    if (mediaType(response) !== "application/problem+json") return null;
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      text += decoder.decode(value, { stream: !done });
      if (done) break;
      if (text.length > MAX_PROBLEM) return null;
    }
    const problem = JSON.parse(text);
    return typeof problem === "object" && !Array.isArray(problem) ? problem : null;
  } catch {
    return null;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * A response's content type without parameters.
 *
 * @param {Response} response
 */
export function mediaType(response) {
  return (response.headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
}

/**
 * How long an answer asks us to stay away, in milliseconds; 0 if it does not (Retry-After, RFC
 * 9110, section 10.2.3).
 *
 * @param {Response} response
 */
export function retryAfter(response) {
  const value = response.headers.get("Retry-After") ?? "";
  if (/^[0-9]+$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? 0 : Math.max(0, date - Date.now());
}
