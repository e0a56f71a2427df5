// @ts-check
import { find, make } from "./page.js";
import { cleanName, Roster } from "./roster.js";

const STORE = "flask-streaming.name";
const SHOWN = 100; // rows of the list; the number says how many there are

/** Who is here: the line above the messages, the list in it, and the form for one's own name. */
export class People {
  /**
   * @param {import("./i18n.js").Translate} t
   * @param {{onRename: () => void, isOld: (id: string) => boolean}} options `isOld`: whether this
   *   is an earlier connection of this page, which the server may not have given up yet
   */
  constructor(t, { onRename, isOld }) {
    this.t = t;
    this.isOld = isOld;
    this.roster = new Roster();
    this.me = "";
    this.name = cleanName(recall());
    this.drawing = false;

    const field = find("name");
    field.value = this.name;
    find("naming").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      this.name = field.value = cleanName(field.value);
      remember(this.name);
      find("name-hint").textContent = t("chat.name.saved");
      onRename();
    });
    field.addEventListener("input", () => {
      find("name-hint").textContent = t("chat.name.hint");
    });
  }

  /** @param {string} me one's own id, or "" while there is no connection */
  become(me) {
    this.me = me;
    this.draw();
  }

  /** @param {{id: string, info: string}[]} members */
  replace(members) {
    this.roster.replace(members);
    this.draw();
  }

  /**
   * An event of the presence channel.
   *
   * @param {string} event @param {string} data
   */
  hear(event, data) {
    if (event === "join") this.roster.join(JSON.parse(data));
    if (event === "leave") this.roster.leave(JSON.parse(data));
    this.draw();
  }

  /**
   * What to call somebody.
   *
   * @param {string} id
   */
  call(id) {
    return (id === this.me && this.name) || this.roster.nameOf(id)
      || this.t("chat.guest", { id: id.slice(-4) });
  }

  /** Draw soon, once for all that happens at the same time. */
  draw() {
    if (this.drawing) return;
    this.drawing = true;
    setTimeout(() => {
      this.drawing = false;
      this.#draw();
    }, 50);
  }

  #draw() {
    const { t, me } = this;
    const others = [...this.roster.here.keys()].filter((id) => id !== me && !this.isOld(id));
    const all = this.roster.here.has(me) ? [me, ...others] : others;
    find("people").dataset.state = me ? "open" : "waiting";
    find("here").textContent = me ? t("chat.here", { count: all.length }) : t("chat.here.unknown");
    const names = all.slice(0, SHOWN).map((id) => (id === me ? t("chat.you") : this.call(id)));
    find("names").textContent = me ? names.join(t("chat.and")) : "";
    const rows = all.slice(0, SHOWN).map((id) => this.#row(id));
    if (all.length > SHOWN) {
      rows.push(make("li", { class: "more", text: t("chat.more", { count: all.length - SHOWN }) }));
    }
    find("members").replaceChildren(...rows);
    for (const row of document.querySelectorAll("#messages [data-from]")) {
      const who = row.querySelector(".who");
      const name = this.call(/** @type {HTMLElement} */ (row).dataset.from ?? "");
      if (who && who.textContent !== name) who.textContent = name;
    }
  }

  /** @param {string} id */
  #row(id) {
    const own = id === this.me;
    const text = own ? this.t("chat.you.here", { who: this.call(id) }) : this.call(id);
    const row = make("li", { text, data: own ? { kind: "own" } : { tone: tone(id) } });
    row.dir = "auto";
    return row;
  }
}

/**
 * One of six tones to tell people apart.
 *
 * @param {string} id
 */
export function tone(id) {
  return String(Array.from(id).reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % 6);
}

function recall() {
  try {
    return localStorage.getItem(STORE);
  } catch {
    return ""; // a browser that lets pages keep nothing
  }
}

/** @param {string} name */
function remember(name) {
  try {
    localStorage.setItem(STORE, name);
  } catch {
    // it holds for this page, then
  }
}
