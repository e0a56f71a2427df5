// @ts-check

/** @typedef {import("./conversation.js").Connection} Connection */

/**
 * @typedef {object} Entry a message of one's own
 * @property {string} key its idempotency key, and its `ref` on the wire
 * @property {string} text
 * @property {string} frame what goes over the socket
 * @property {"sending" | "waiting" | "sent" | "dropped" | "refused"} delivery how far it has come
 * @property {Set<string>} via the client ids it was sent under: one per connection
 */

/**
 * @typedef {object} Deliveries what becomes of entries, by the name of the event
 * @property {Entry} written it is new, and not sent yet
 * @property {Entry} delivery it is `sending` or `waiting` now
 * @property {{entry: Entry, shown: boolean}} acknowledged the log has it; `shown`: as a message told before
 * @property {Entry} dropped it will not be sent: too many were waiting
 * @property {Entry} refused the server did not take it
 */

/**
 * One's own messages until the server has acknowledged them. Each has an idempotency key that stays
 * the same however often it is sent, so sending again is always safe.
 */
export class Outbox {
  #socket;
  #channel;
  #secret;
  #tell;
  /** @type {Map<string, Entry>} by key, in the order of writing */
  #entries = new Map();
  /** @type {Map<string, Entry>} acknowledged, but the message itself has not come back yet: by its id */
  #acknowledged = new Map();
  #me = ""; // the client id of this connection, as soon as it is known

  /**
   * @param {EventTarget & Connection} socket
   * @param {string} channel
   * @param {string} secret whose the keys are
   * @param {<Name extends keyof Deliveries>(name: Name, detail: Deliveries[Name]) => void} tell
   */
  constructor(socket, channel, secret, tell) {
    this.#socket = socket;
    this.#channel = channel;
    this.#secret = secret;
    this.#tell = tell;
    socket.addEventListener("drop", (event) => {
      const { data } = /** @type {CustomEvent} */ (event).detail;
      const entry = [...this.#entries.values()].find(({ frame }) => frame === data);
      if (entry && socket.state !== "closed") this.#drop(entry);
    });
  }

  /** What is not acknowledged, oldest first. */
  get pending() {
    return Array.from(this.#entries.values(), ({ key, text }) => ({ key, text }));
  }

  /** @param {string} text @param {string} key */
  write(text, key) {
    const own = { key, secret: this.#secret };
    const frame = JSON.stringify({ type: "publish", channel: this.#channel, data: text, ...own, ref: key });
    /** @type {Entry} */
    const entry = { key, text, frame, delivery: "waiting", via: new Set() };
    this.#entries.set(key, entry);
    this.#tell("written", entry);
    this.#send(entry);
  }

  /** @param {Entry} entry one that was dropped or refused */
  writeAgain(entry) {
    this.#entries.set(entry.key, entry);
    this.#send(entry);
  }

  /** A connection has begun: what has no answer goes out again. */
  begin() {
    // The socket sends what it has queued by itself; the rest went out before the break, unanswered.
    const queued = new Set(this.#socket.queue);
    for (const entry of this.#entries.values()) {
      if (queued.has(entry.frame)) this.#deliver(entry, "sending");
      else this.#send(entry);
    }
  }

  /** @param {string} me what one is called in this connection, also for what was sent already */
  become(me) {
    this.#me = me;
    for (const { delivery, via } of this.#entries.values()) if (delivery === "sending") via.add(me);
  }

  /** There is no connection. */
  pause() {
    this.#me = "";
    for (const entry of this.#entries.values()) this.#deliver(entry, "waiting");
  }

  /**
   * The log has an entry. The message itself may have come before, and be known as this entry or not.
   *
   * @param {string} key
   * @param {string} id
   * @param {boolean} shown whether a message with this id was told
   */
  acknowledge(key, id, shown) {
    const entry = this.#take(key);
    if (!entry) return; // the message itself was faster
    entry.delivery = "sent";
    if (!shown) this.#acknowledged.set(id, entry);
    this.#tell("acknowledged", { entry, shown });
  }

  /** @param {string} key */
  refuse(key) {
    const entry = this.#take(key);
    if (!entry) return;
    entry.delivery = "refused";
    this.#tell("refused", entry);
  }

  /**
   * A message has come: the entry that it is, if it was written here. If it was faster than its
   * acknowledgement, that is the oldest one with this text that was sent under this client id.
   *
   * @param {{id: string, data: string, from?: string}} message
   */
  claim({ id, data, from = "" }) {
    const acknowledged = this.#acknowledged.get(id);
    this.#acknowledged.delete(id);
    if (acknowledged) return acknowledged;
    const entry = [...this.#entries.values()].find(({ text, via }) => text === data && via.has(from));
    if (!entry) return undefined;
    this.#take(entry.key);
    entry.delivery = "sent";
    return entry;
  }

  /** Messages are missing: those acknowledged may be among them. */
  skip() {
    this.#acknowledged.clear();
  }

  /** @param {string} key */
  #take(key) {
    const entry = this.#entries.get(key);
    this.#entries.delete(key);
    return entry;
  }

  /** @param {Entry} entry */
  #send(entry) {
    const result = this.#socket.send(entry.frame);
    // A socket that has given up keeps nothing; the outbox does, until it is told to try again.
    if (result === "dropped" && this.#socket.state !== "closed") this.#drop(entry);
    else this.#deliver(entry, result === "sent" ? "sending" : "waiting");
    if (result === "sent" && this.#me) entry.via.add(this.#me);
  }

  /** @param {Entry} entry @param {"sending" | "waiting"} delivery */
  #deliver(entry, delivery) {
    entry.delivery = delivery;
    this.#tell("delivery", entry);
  }

  /** @param {Entry} entry */
  #drop(entry) {
    if (!this.#take(entry.key)) return; // known already
    entry.delivery = "dropped";
    this.#tell("dropped", entry);
  }
}
