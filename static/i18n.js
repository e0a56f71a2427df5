// @ts-check

/** @typedef {(key: string, values?: Record<string, string | number>) => string} Translate */

/**
 * The texts of the page's language, as a function from key to text; `{name}` is filled in from `values`.
 * An unknown key comes back as itself, so that a missing text shows up and breaks nothing.
 *
 * @param {string} [url] the JSON file; by default the one the page names
 * @returns {Promise<Translate>}
 */
export async function loadTexts(url = document.body.dataset.texts ?? "") {
  const response = await fetch(url);
  /** @type {Record<string, string>} */
  const texts = response.ok ? await response.json() : {};
  return (key, values = {}) =>
    (texts[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
