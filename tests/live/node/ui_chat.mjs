// A chat as useChat makes it, without React: node ui_chat.mjs <api> <chat> ask|resume|leave [text]
// Prints its messages as JSON; "leave" goes away behind the first text, and "resume" makes a file of the name [text].
import { writeFileSync } from "node:fs";
import { AbstractChat, DefaultChatTransport } from "ai";

class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => {
    this.messages = this.messages.map((old, n) => (n === index ? message : old));
    if (!message.parts.some((part) => part.type === "text" && part.text)) return;
    if (what === "leave") leave();
    if (what === "resume" && text) writeFileSync(text, "");
  };
  snapshot = (value) => structuredClone(value);
}

const [api, id, what, text] = process.argv.slice(2);
const state = new State();
class Chat extends AbstractChat {}
const chat = new Chat({ id, state, transport: new DefaultChatTransport({ api }) });

function leave() {
  console.log(JSON.stringify({ messages: state.messages, status: chat.status }));
  process.exit(0);
}

if (what === "resume") await chat.resumeStream();
else await chat.sendMessage({ text });
console.log(
  JSON.stringify({ messages: state.messages, status: chat.status, error: chat.error?.message }),
);
