// @ts-check
import { parsed } from "./ticket.js";

/**
 * Which channel each event of a stream of ours is of. SSE has no field for it, and an event's name is
 * its publisher's choice; but `ready` names the channels, its id their places in the same order, and
 * in the id of an event of several channels the own one comes first. Pure.
 */
export class Channels {
  /** @type {string[]} */ #names = [];
  /** @type {Map<string, string>} by the tag that stands for it in ids */ #byTag = new Map();

  /**
   * The channel of an event; "" for one that is of none, or of a stream that is not ours.
   *
   * @param {import("./sse-parser.js").SseEvent} event
   */
  of({ event, data, lastEventId }) {
    if (event === "ready") this.#learn(data, lastEventId);
    if (event === "ready" || event === "restart" || event === "close") return "";
    if (event === "gap") return parsed(data)?.channel ?? "";
    if (this.#names.length === 1) return this.#names[0];
    return this.#byTag.get(tags(lastEventId)[0]) ?? "";
  }

  /** @param {string} data @param {string} id */
  #learn(data, id) {
    this.#names = named(data);
    this.#byTag = new Map(tags(id).map((tag, n) => [tag, this.#names[n] ?? ""]));
  }
}

/** @param {string} id */
function tags(id) {
  return id.split(".").map((place) => place.split("_", 1)[0]);
}

/** @param {string} data @returns {string[]} */
function named(data) {
  const channels = parsed(data)?.channels;
  return Array.isArray(channels) && channels.every((name) => typeof name === "string") ? channels : [];
}
