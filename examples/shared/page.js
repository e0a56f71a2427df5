// The language of all examples: Chinese for whoever asks for it with ?lang=zh or has a browser in Chinese.
// The page says both: <p data-zh="你好">Hello</p>, and scripts t("Hello", "你好").

const asked = new URLSearchParams(location.search).get("lang");
if (asked) sessionStorage.setItem("lang", asked); // it stays when a form leads to another address
const zh = (sessionStorage.getItem("lang") ?? navigator.language).startsWith("zh");

/** The text in the page's language. */
function t(english, chinese) {
  return zh ? chinese : english;
}

if (zh) {
  document.documentElement.lang = "zh-CN";
  for (const each of document.querySelectorAll("[data-zh]")) {
    if (each.placeholder) each.placeholder = each.dataset.zh;
    else if (each.dataset.empty) each.dataset.empty = each.dataset.zh; // what an empty list says
    else each.textContent = each.dataset.zh; // text stays text: never innerHTML
  }
}

const other = document.createElement("a");
other.className = "language";
other.href = zh ? "?lang=en" : "?lang=zh";
other.lang = zh ? "en" : "zh-CN";
other.textContent = zh ? "English" : "中文";
document.body.append(other);
