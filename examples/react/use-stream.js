import { EventStream } from "flask-streaming"; // index.html says where it is
import { useEffect, useState } from "react";

/** The last 200 messages of a stream, the newest first, and its state. */
export function useStream(url) {
  const [messages, setMessages] = useState([]);
  const [state, setState] = useState("connecting");

  useEffect(() => {
    const stream = new EventStream(url); // comes back by itself, behind what it has
    stream.addEventListener("state", ({ detail }) => setState(detail.state));
    stream.addEventListener("message", ({ data, lastEventId }) => {
      setMessages((old) => [{ id: lastEventId, ...JSON.parse(data) }, ...old].slice(0, 200));
    });
    return () => {
      stream.close(); // StrictMode mounts twice: only one stream is left,
      setMessages([]); // and it begins with an empty list
    };
  }, [url]);
  return { messages, state };
}
