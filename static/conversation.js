// @ts-check
import { Outbox } from "./outbox.js";
import { Requests } from "./requests.js";

const HISTORY = 50; // messages to begin with
const REMEMBERED = 1000; // ids of messages, to tell of none twice

/**
 * @typedef {object} Connection what is needed of a ReconnectingSocket
 * @property {string} state
 * @property {string[]} queue
 * @property {(text: string) => "sent" | "queued" | "dropped"} send
 */

/** @typedef {import("./outbox.js").Entry} Entry */
/** @typedef {{id: string, info: string}} Member */
/** @typedef {{ref: string, members: Member[], more?: string, after?: string}} Page */

/**
 * @typedef {object} Frames what the server sends, by its type; docs/protocols.md says when
 * @property {{client: string}} welcome
 * @property {{channel: string, ref: string, id?: string}} ready
 * @property {Page} joined
 * @property {Page} presence
 * @property {{channel: string, id: string, event: string, data: string, from?: {client: string}}} message
 * @property {{ref: string, id: string}} ack
 * @property {{channel: string, id?: string}} gap
 * @property {{ref: string, status: number, title?: string, detail?: string}} error
 */

/**
 * @typedef {object} News what has happened in the room, by the name of the event
 * @property {{client: string, back: boolean}} welcome there is a connection; `back`: and there was one before
 * @property {null} disconnected there is none
 * @property {null} ready the room is followed; its messages come now
 * @property {{id: string, text: string, from?: string, own: boolean, entry?: Entry}} message
 *   one that was not told yet; `entry`: it was written here
 * @property {null} gap messages are missing here
 * @property {Member[]} members everybody in the room, or the first of many; the others are told as if they came
 * @property {{event: string, data: string}} presence somebody came or left
 * @property {{status: number, title?: string, detail?: string}} error the server says no, to whatever it was
 */

/** @typedef {News & import("./outbox.js").Deliveries} Events */

/**
 * Being in a room, over `streaming.v1.json`, however often the connection breaks: it follows the room
 * from where it stopped, joins it, and sends each message of one's own until the log has it, once.
 *
 * Dispatches a CustomEvent for each of Events. It neither opens nor closes the socket.
 */
export class Conversation extends EventTarget {
  #channel;
  #presence;
  #requests;
  #outbox;
  /** @type {Set<string>} the ids of the newest messages that were told */
  #told = new Set();
  /** @type {Map<string, News["presence"]>} the newest of each member since the list was asked for */
  #meanwhile = new Map();
  /** @type {Set<string>} every client id one has had: it changes with each connection */
  #clients;
  #me = "";
  #name;
  #lastId = "";

  /**
   * @param {EventTarget & Connection} socket one that is not open yet
   * @param {object} options
   * @param {string} options.channel the room
   * @param {string} options.secret whose the messages' keys are: `secret` of the conversation that this one continues
   * @param {string} [options.name] what to be called there
   * @param {Iterable<string>} [options.clients] `clients` of the conversation that this one continues
   * @param {import("./requests.js").Later} [options.later] by default `setTimeout`
   * @param {() => number} [options.random]
   */
  constructor(socket, { channel, secret, name = "", clients = [], later = wait, random = Math.random }) {
    super();
    this.#channel = channel;
    this.#presence = `${channel}:presence`; // who joins and leaves the room is told there
    this.#requests = new Requests({ send: (text) => socket.send(text), later, random });
    this.#outbox = new Outbox(socket, channel, secret, (event, detail) =>
      this.#tell(event, /** @type {any} */ (detail)));
    this.#clients = new Set(clients);
    this.#name = name;
    socket.addEventListener("open", () => this.#begin());
    socket.addEventListener("message", (event) => this.#hear(/** @type {MessageEvent} */ (event).data));
    socket.addEventListener("state", () => socket.state === "open" || this.#pause());
  }

  /** One's own client id, or "" while there is no connection. */
  get me() {
    return this.#me;
  }

  /** The newest 50 ids that one has had. */
  get clients() {
    return [...this.#clients].slice(-50);
  }

  /** What was written and is not acknowledged, oldest first: to be written again, with the same keys. */
  get pending() {
    return this.#outbox.pending;
  }

  /**
   * Whether this is an earlier connection of one's own.
   *
   * @param {string} client
   */
  isOld(client) {
    return client !== this.#me && this.#clients.has(client);
  }

  /**
   * Listen to the events of one name; the listener gets their `detail`.
   *
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(detail: Events[Name]) => void} listener
   */
  on(name, listener) {
    this.addEventListener(name, (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }

  /** @param {string} name what to be called from now on */
  rename(name) {
    this.#name = name;
    if (this.#me) this.#join(); // otherwise the next connection will
  }

  /**
   * Send a message now, or when there is a connection again.
   *
   * @param {string} text
   * @param {string} key one that no other message has; the same for the same message
   */
  write(text, key) {
    this.#outbox.write(text, key);
  }

  /**
   * Try again what was dropped or refused.
   *
   * @param {Entry} entry
   */
  writeAgain(entry) {
    this.#outbox.writeAgain(entry);
  }

  #begin() {
    const place = this.#lastId ? { after: this.#lastId } : { history: HISTORY };
    this.#requests.ask({ type: "subscribe", channel: this.#channel, ...place });
    // Followed before the room is joined: what the list does not have yet, an event tells.
    this.#requests.ask({ type: "subscribe", channel: this.#presence });
    this.#outbox.begin();
  }

  #join() {
    this.#meanwhile.clear();
    this.#requests.ask({ type: "join", channel: this.#channel, info: this.#name });
  }

  #pause() {
    this.#me = "";
    this.#requests.forget();
    this.#tell("disconnected", null);
    this.#outbox.pause();
  }

  /** @param {string} text */
  #hear(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return; // not our protocol
    }
    const type = /** @type {keyof Frames} */ (frame?.type);
    if (Object.hasOwn(this.#handlers, type)) this.#handlers[type](frame);
  }

  /** @type {{[Type in keyof Frames]: (frame: Frames[Type]) => void}} what to do with each type of frame */
  #handlers = {
    welcome: ({ client }) => {
      this.#me = client;
      this.#clients.add(client);
      this.#outbox.become(client);
      this.#join();
      this.#tell("welcome", { client, back: this.#lastId !== "" });
    },

    ready: ({ channel, ref, id }) => {
      this.#requests.answered(ref);
      if (channel !== this.#channel) return;
      this.#lastId ||= id ?? "";
      this.#tell("ready", null);
    },

    joined: (page) => this.#list(page),

    presence: (page) => this.#list(page),

    message: (frame) => {
      const { channel, id, event, data } = frame;
      const from = frame.from?.client;
      if (channel === this.#presence) this.#change({ event, data });
      if (channel !== this.#channel) return;
      this.#lastId = id;
      if (this.#told.has(id) || event !== "message") return;
      this.#told.add(id);
      if (this.#told.size > REMEMBERED) this.#told.delete(this.#told.values().next().value ?? "");
      const entry = this.#outbox.claim({ id, data, from });
      const own = entry !== undefined || this.#clients.has(from ?? "");
      this.#tell("message", { id, text: data, from, own, entry });
    },

    ack: ({ ref, id }) => this.#outbox.acknowledge(ref, id, this.#told.has(id)),

    gap: ({ channel, id }) => {
      if (channel === this.#presence) {
        this.#meanwhile.clear();
        this.#requests.ask({ type: "presence", channel: this.#channel });
      }
      if (channel !== this.#channel) return;
      this.#lastId = id || this.#lastId;
      this.#outbox.skip();
      this.#tell("gap", null);
    },

    error: ({ ref, status, title, detail }) => {
      this.#outbox.refuse(ref);
      this.#requests.refused(ref, status);
      this.#tell("error", { status, title, detail });
    },
  };

  /** Somebody came or left. @param {News["presence"]} change */
  #change(change) {
    const { id } = JSON.parse(change.data);
    this.#meanwhile.delete(id);
    this.#meanwhile.set(id, change);
    if (this.#meanwhile.size > REMEMBERED) this.#meanwhile.delete(this.#meanwhile.keys().next().value ?? "");
    this.#tell("presence", change);
  }

  /** @param {Page} page what an event has told since it was asked for is newer */
  #list({ ref, members, more, after }) {
    this.#requests.answered(ref);
    if (more) this.#requests.ask({ type: "presence", channel: this.#channel, after: more });
    const others = members.filter(({ id }) => !this.#meanwhile.has(id));
    if (after) {
      for (const member of others) this.#tell("presence", { event: "join", data: JSON.stringify(member) });
      return;
    }
    this.#tell("members", others);
    for (const change of this.#meanwhile.values()) if (change.event === "join") this.#tell("presence", change);
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} detail
   */
  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** @type {import("./requests.js").Later} */
function wait(callback, milliseconds) {
  setTimeout(callback, milliseconds);
}
