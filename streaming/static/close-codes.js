// @ts-check

/** @typedef {import("./reconnect.js").Ending} Ending */
/** @typedef {import("./reconnect.js").Kind} Kind */

/**
 * Close codes after which we come back (RFC 6455, section 7.4, and the IANA registry): going away,
 * no code, lost, internal error, restart, try again later, bad gateway, TLS. All others are final:
 * a normal end (1000), a fault that would only be repeated (1002, 1003, 1007 to 1010), and whatever
 * an application means by a code of its own (3000 to 4999).
 */
const PASSING = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014, 1015]);

/** Codes that a server sends to all its clients at once. */
const CROWDED = new Set([1012, 1013]);

/**
 * What the end of a WebSocket connection means for the next attempt. Pure.
 *
 * @param {number} code
 * @param {string} said  the server's own reason
 * @param {boolean} opened  whether there was a connection at all
 * @param {() => number} random
 * @returns {Ending}
 */
export function meaning(code, said, opened, random) {
  const minimum = CROWDED.has(code) ? Math.round(200 + random() * 1800) : 0;
  const because = said ? `: ${said}` : "";
  /** @type {(kind: Kind, what: string) => Ending} */
  const again = (kind, what) => ({ kind, reason: what + because, minimum });
  /** @type {(kind: Kind, what: string) => Ending} */
  const final = (kind, what) => ({ kind, reason: what + because, final: true });

  if (code === 1000) return final("done", "the server closed the connection");
  if (code === 1006 && !opened) return again("network", "the server cannot be reached, or refuses");
  if (code === 1006) return again("network", "the connection was lost");
  if (code === 1012) return again("restart", "the server is restarting");
  if (code === 1013) return again("restart", "the server has no room at the moment");
  if (PASSING.has(code)) return again("ended", `the server ended the connection (${code})`);
  return final("refused", `the server refused the connection (${code})`);
}
