// @ts-check

/**
 * A ticket, or what gets one from the page's server: called before each attempt for which no ticket
 * is at hand that is known to be good.
 * @typedef {string | (() => string | Promise<string>)} TicketSource
 */

const PARAMETER = "ticket";

/** Milliseconds for each second that a ticket is good for: it has to arrive before it is over. */
const USED_UP = 900;

/**
 * What a connection shows to be let in: the newest ticket that the server has sent it, if that is
 * good yet; else what the page gives.
 */
export class Ticket {
  /** @type {TicketSource | undefined} */ #source;
  /** @type {() => number} */ #now;
  #newest = "";
  #until = 0;
  #isUsed = false;

  /**
   * @param {TicketSource} [source]  without one, what stands in the address
   * @param {() => number} [now]
   */
  constructor(source, now = Date.now) {
    this.#source = source;
    this.#now = now;
  }

  /**
   * The address to ask at.
   *
   * @param {URL} url
   * @returns {URL | Promise<URL>}
   */
  at(url) {
    const source = this.#source;
    this.#isUsed ||= source !== undefined || url.searchParams.has(PARAMETER);
    if (this.#newest && this.#now() < this.#until) return withTicket(url, this.#newest);
    if (typeof source === "function") {
      return Promise.resolve()
        .then(source)
        .then((ticket) => withTicket(url, ticket));
    }
    return withTicket(url, this.#newest || source || "");
  }

  /**
   * Take what the server has sent. What another server means by a ticket is not ours to show.
   *
   * @param {any} sent
   */
  take(sent) {
    if (!this.#isUsed || typeof sent?.ticket !== "string") return;
    this.#newest = sent.ticket;
    this.#until = this.#now() + Number(sent.seconds) * USED_UP;
  }

  /** It may have been refused. Whether another one can be got. */
  refused() {
    if (typeof this.#source !== "function") return false; // there is no better one
    this.#newest = "";
    return true;
  }
}

/**
 * @param {URL} url
 * @param {string} ticket  "" for none but its own
 */
function withTicket(url, ticket) {
  if (!ticket) return url;
  const shown = new URL(url);
  shown.searchParams.set(PARAMETER, ticket);
  return shown;
}

/**
 * The value that a JSON text stands for; null if it is none.
 *
 * @param {string} text
 */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
