import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useStream } from "./use-stream.js";

function Feed({ events, say }) {
  const { messages, state } = useStream(events);
  const [text, setText] = useState("");

  async function send(event) {
    event.preventDefault();
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(say, { method: "POST", headers, body: JSON.stringify({ text }) });
    if (answer.ok) setText(""); // the message itself comes over the stream, as everybody's
  }

  return (
    <>
      <p className="state" data-state={state}>
        {{ open: t("Live", "已连接"), connecting: t("Connecting…", "正在连接……") }[state]}
      </p>
      <ul className="lines" role="log" data-empty={t("Nothing yet.", "还没有消息。")}>
        {messages.map(({ id, at, text }) => <li key={id}><time>{at}</time>{text}</li>)}
      </ul>
      <form onSubmit={send}>
        <label>
          {t("Message", "消息")}
          <input value={text} onChange={(event) => setText(event.target.value)} required maxLength="500" />
        </label>
        <button className="primary">{t("Send", "发送")}</button>
      </form>
    </>
  );
}

const root = document.querySelector("#root");
createRoot(root).render(<StrictMode><Feed {...root.dataset} /></StrictMode>);
