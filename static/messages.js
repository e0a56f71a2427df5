// @ts-check
import { make } from "./page.js";
import { tone } from "./people.js";
import { Rows } from "./rows.js";

/** @typedef {import("./outbox.js").Entry} Entry */

/** The list of messages on the page: own ones with a mark of how far they have come, others', notices. */
export class Messages {
  /** @type {WeakMap<Entry, HTMLElement>} the rows of what was written on this page */
  #entries = new WeakMap();
  #t;
  #list;
  #rows;
  #call;
  #onAgain;

  /**
   * @param {HTMLElement} list
   * @param {object} options
   * @param {import("./i18n.js").Translate} options.t
   * @param {HTMLElement} options.jump the button that leads back to the newest row
   * @param {(client: string) => string} options.call what to call somebody
   * @param {(entry: Entry) => void} options.onAgain somebody wants this sent again
   */
  constructor(list, { t, jump, call, onAgain }) {
    this.#t = t;
    this.#list = list;
    this.#rows = new Rows(list, { jump });
    this.#call = call;
    this.#onAgain = onAgain;
  }

  /**
   * Show what was written here and is not confirmed yet, at the end.
   *
   * @param {Entry} entry
   */
  write(entry) {
    const row = this.#makeOwn(entry.text);
    this.#entries.set(entry, row);
    this.#rows.place(row);
  }

  /**
   * Show a message from the log; if it is an entry's, that moves to its place.
   *
   * @param {import("./conversation.js").News["message"]} message
   */
  show({ id, text, from, own, entry }) {
    const row = (entry && this.#entries.get(entry))
      ?? (own ? this.#makeOwn(text) : this.#makeOther(text, from));
    if (own) this.#mark(row, "sent");
    row.dataset.id = id;
    this.#place(row);
  }

  /**
   * Show how far an entry has come; if it was given up, with a button to send it again.
   *
   * @param {Entry} entry
   */
  mark(entry) {
    const row = this.#entries.get(entry);
    if (!row) return;
    this.#mark(row, entry.delivery);
    if (entry.delivery === "dropped" || entry.delivery === "refused") this.#offerAgain(row, entry);
  }

  /** @param {Entry} entry */
  remove(entry) {
    this.#entries.get(entry)?.remove();
  }

  /**
   * @param {string} name what has happened
   * @param {string} text
   */
  notice(name, text) {
    this.#place(make("li", { class: "notice", data: { kind: "notice", notice: name }, text }));
  }

  /** Go to the newest row, wherever the reader is. */
  follow() {
    this.#rows.follow();
  }

  /** From now on, screen readers speak what comes. */
  speak() {
    this.#rows.scroller.removeAttribute("aria-busy");
  }

  /**
   * Put a row where the log has it: after everything confirmed, before what still waits to be sent.
   *
   * @param {HTMLElement} row
   */
  #place(row) {
    /** @type {NodeListOf<HTMLElement>} */
    const pending = this.#list.querySelectorAll('[data-delivery="sending"], [data-delivery="waiting"]');
    this.#rows.place(row, [...pending].find((candidate) => candidate !== row) ?? null);
  }

  /** @param {string} text */
  #makeOwn(text) {
    return make("li", { data: { kind: "own" } }, make("span", { class: "who", text: this.#t("chat.you") }),
      makeBubble(text), make("span", { class: "mark" }));
  }

  /** @param {string} text @param {string} [from] */
  #makeOther(text, from) {
    const who = from ? this.#call(from) : this.#t("chat.someone");
    const data = { kind: "other", tone: tone(from ?? ""), ...(from && { from }) };
    return make("li", { data }, make("span", { class: "who", text: who }), makeBubble(text));
  }

  /** @param {HTMLElement} row @param {Entry["delivery"]} delivery */
  #mark(row, delivery) {
    if (row.dataset.delivery === delivery) return;
    row.dataset.delivery = delivery;
    const label = row.querySelector(".mark");
    if (label) label.textContent = this.#t(`chat.${delivery}`);
  }

  /** @param {HTMLElement} row @param {Entry} entry */
  #offerAgain(row, entry) {
    const again = make("button", { class: "again", text: this.#t("chat.again") });
    again.setAttribute("type", "button");
    again.addEventListener("click", () => {
      again.remove();
      this.#rows.place(row);
      this.#onAgain(entry);
    }, { once: true });
    row.append(again);
  }
}

/** @param {string} text */
function makeBubble(text) {
  const bubble = make("p", { class: "bubble", text });
  bubble.dir = "auto";
  return bubble;
}
