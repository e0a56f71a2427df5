// @ts-check

/**
 * The element with this id; the templates promise that it is there.
 *
 * @param {string} id
 * @returns {any}
 */
export function find(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no element #${id}.`);
  return element;
}

/**
 * A new element with text in it. The only way texts get into these pages: never as markup.
 *
 * @param {string} name
 * @param {{class?: string, text?: string, data?: Record<string, string>}} [options]
 * @param {...Node} children
 */
export function make(name, options = {}, ...children) {
  const element = document.createElement(name);
  if (options.class) element.className = options.class;
  if (options.text !== undefined) element.textContent = options.text;
  Object.assign(element.dataset, options.data);
  element.append(...children);
  return element;
}

/**
 * The browser client, from wherever the blueprint is mounted.
 *
 * @returns {Promise<typeof import("../streaming/static/index.js")>}
 */
export function loadClient() {
  return import(document.body.dataset.client ?? "");
}

/** What nobody guesses: for idempotency keys, and the secret that they belong to. (`randomUUID` needs HTTPS; this works on plain HTTP too.) */
export function randomSecret() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * What to tell somebody about an answer that was not 2xx.
 *
 * @param {import("./i18n.js").Translate} t
 * @param {number} status
 * @param {any} problem the application/problem+json body, if there was one
 */
export function describeProblem(t, status, problem) {
  const detail = problem?.detail || problem?.title || "–";
  return t("error.problem", { status, detail });
}

/**
 * Keep a text for this tab, until it is recalled. Browsers may forbid it; then nothing is kept.
 *
 * @param {string} key @param {string} text
 */
export function remember(key, text) {
  try {
    sessionStorage.setItem(key, text);
  } catch {
    // what is lost is a convenience
  }
}

/** @param {string} key */
export function recall(key) {
  try {
    return sessionStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} key */
export function forget(key) {
  try {
    sessionStorage.removeItem(key);
  } catch {
    // nothing was kept
  }
}
