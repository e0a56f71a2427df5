// @ts-check
import { make } from "./page.js";

/** How long a button says that it has copied, in milliseconds. */
const SHOWN = 2000;

/**
 * A button that copies a text and says so.
 *
 * @param {import("./i18n.js").Translate} t
 * @param {() => string} text
 * @param {(words: string) => void} speak
 */
export function makeCopyButton(t, text, speak) {
  const button = make("button", { class: "quiet", text: t("action.copy") });
  button.setAttribute("type", "button");
  let timer = 0;
  button.addEventListener("click", async () => {
    const said = t((await copy(text())) ? "action.copied" : "action.uncopied");
    button.textContent = said;
    speak(said);
    clearTimeout(timer);
    timer = window.setTimeout(() => (button.textContent = t("action.copy")), SHOWN);
  });
  return button;
}

/**
 * @param {string} text
 * @returns {Promise<boolean>} whether it is in the clipboard
 */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text); // no HTTPS, or not allowed
  }
}

/** @param {string} text */
function copySelected(text) {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.className = "unseen";
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (before instanceof HTMLElement) before.focus({ preventScroll: true });
  return isCopied;
}
