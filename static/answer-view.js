// @ts-check
import { makeCopyButton } from "./copying.js";
import { build } from "./markdown.js";
import { make } from "./page.js";

const OPEN_FENCE = /^\s*(?:```|~~~)([^\n]*)\n/;

/** An answer as it is written: the blocks that are finished, and behind them the text of the last. */
export class AnswerView {
  /** @type {any[]} */ #shown = [];
  #t;
  #speak;
  #blocks = make("div", { class: "blocks" });
  #tail = make("div", { class: "tail" });

  /**
   * @param {import("./i18n.js").Translate} t
   * @param {(words: string) => void} speak
   */
  constructor(t, speak) {
    this.#t = t;
    this.#speak = speak;
    this.element = make("div", { class: "said" }, this.#blocks, this.#tail);
    this.element.dir = "auto";
  }

  /** @param {import("./turn.js").Turn} turn */
  update({ nodes, text, end }) {
    if (this.#shown.some((node, index) => node !== nodes[index])) {
      this.#shown = [];
      this.#blocks.replaceChildren();
    }
    const fresh = nodes.slice(this.#shown.length);
    this.#blocks.append(...build(fresh, (code, language) => this.#makeCode(code, language)));
    this.#shown = nodes;
    this.#showTail(text.slice(end).replace(/^\n+/, ""));
  }

  /** @param {string} text */
  #showTail(text) {
    const fence = OPEN_FENCE.exec(text);
    this.#tail.classList.toggle("code", fence !== null);
    this.#tail.textContent = fence ? text.slice(fence[0].length) : text;
  }

  /** @param {string} code @param {string} language */
  #makeCode(code, language) {
    const name = language || this.#t("typewriter.code");
    const text = make("pre", { class: "code" }, make("code", { text: code }));
    text.tabIndex = 0;
    text.setAttribute("role", "region");
    text.setAttribute("aria-label", name);
    const copy = makeCopyButton(this.#t, () => code, this.#speak);
    const bar = make("div", { class: "bar" }, make("span", { text: name }), copy);
    return make("figure", { class: "snippet" }, bar, text);
  }
}
