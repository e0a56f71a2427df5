// @ts-check

/** The elements an answer may have, and what may be said of each. Everything else is shown as text. */
const ELEMENTS = new Map(
  ["p", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "hr", "br", "strong", "em", "s"]
    .concat(["a", "table", "thead", "tbody", "tr", "th", "td"])
    .map((name) => [name, name]),
);

const LINK = /^(https?:\/\/|mailto:)/i;
const DEEPEST = 20;

/**
 * An answer's blocks as nodes of the page: each element is made here, of those that are known; no
 * markup is ever parsed. `code` makes what shows a block of code.
 *
 * @param {any[]} nodes  texts, and elements `[tag, {attributes}?, ...children]`
 * @param {(text: string, language: string) => Node} code
 * @param {number} [depth]
 * @returns {Node[]}
 */
export function build(nodes, code, depth = 0) {
  return nodes.map((node) => {
    if (!Array.isArray(node)) return document.createTextNode(String(node));
    const [tag, ...rest] = node;
    const hasAttributes = typeof rest[0] === "object" && !Array.isArray(rest[0]);
    const attributes = hasAttributes ? (rest.shift() ?? {}) : {};
    if (tag === "pre") return code(rest.filter(isText).join(""), String(attributes.language ?? ""));
    return element(tag, attributes, depth < DEEPEST ? build(rest, code, depth + 1) : []);
  });
}

/**
 * @param {string} tag
 * @param {{href?: unknown, start?: unknown}} attributes
 * @param {Node[]} children
 */
function element(tag, { href, start }, children) {
  const made = document.createElement(ELEMENTS.get(tag) ?? "span");
  made.append(...children);
  if (made instanceof HTMLAnchorElement && LINK.test(String(href))) {
    made.href = String(href);
    made.rel = "noopener noreferrer nofollow";
    made.target = "_blank";
  }
  if (made instanceof HTMLOListElement && Number.isInteger(start)) made.start = Number(start);
  if (!(made instanceof HTMLTableElement)) return made;
  const scroll = document.createElement("div"); // a wide table must not widen the page
  scroll.className = "wide";
  scroll.tabIndex = 0;
  scroll.append(made);
  return scroll;
}

/** @param {unknown} node */
function isText(node) {
  return typeof node === "string";
}
