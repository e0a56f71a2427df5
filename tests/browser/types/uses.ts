// What `tsc --strict` has to know of the package: each line below an @ts-expect-error is an error, all
// others are none. Nobody runs this.
import {
  AnswerStream,
  Backoff,
  EventStream,
  ReconnectingSocket,
  SseParser,
  StreamError,
  readNdjson,
  readText,
} from "flask-streaming";
import type { AnswerPart, Kind, StateDetail, StreamEvent } from "flask-streaming";

const news = new EventStream("/events", { headers: { "X-A": "b" }, backoff: { limit: 3 } });
const closed: 2 = EventStream.CLOSED;
const phase: 0 | 1 | 2 = news.readyState;

news.addEventListener("state", ({ detail }) => {
  const { state, kind, retryAt, attempt }: StateDetail = detail;
  const seconds: number = retryAt === null ? attempt : (retryAt - Date.now()) / 1000;
  // @ts-expect-error: no such state
  if (state === "opened") console.log(seconds);
  if (kind === "limit") news.retryNow();
});
news.addEventListener("error", ({ detail: { status, problem, reason } }) => {
  const code: number | null = status;
  console.log(code, problem?.title, reason.length);
});
news.addEventListener("price", ({ data, channel, lastEventId }) => {
  const texts: string[] = [data, channel, lastEventId];
  // @ts-expect-error: events of the server's have no detail
  news.addEventListener("price", ({ detail }) => console.log(detail, texts));
});
news.onmessage = ({ data, channel }) => console.log(data.length, channel.length);
news.onmessage = null;
// @ts-expect-error: a state is no message
news.addEventListener("state", ({ lastEventId }) => console.log(lastEventId));
// @ts-expect-error: nobody sets it
EventStream.OPEN = 7;
// @ts-expect-error: a misspelt option
new EventStream("/events", { header: {} });
const heard = (event: StreamEvent) => console.log(event.channel);
for (const name of ["ready", "gap"]) news.addEventListener(name, heard, { once: true });
news.removeEventListener("gap", heard);
const target: EventTarget = news;

const socket = new ReconnectingSocket("/ws", { protocols: ["streaming.v1.json"], ticket: () => "t" });
socket.addEventListener("close", ({ detail: { code, reason, wasClean } }) => {
  const words: [number, string, boolean] = [code, reason, wasClean];
  console.log(words);
});
socket.addEventListener("drop", { handleEvent: ({ detail }) => console.log(detail.data.length) });
socket.onclose = ({ detail: { code } }) => console.log(code.toFixed());
socket.onmessage = ({ data }) => console.log(data);
// @ts-expect-error: there is no such event
socket.onerror = null;
const sent: "sent" | "queued" | "dropped" = socket.send("text");
// @ts-expect-error: only text is sent
socket.send(new ArrayBuffer(1));

function told(part: AnswerPart): string {
  if (part.kind === "text") return part.data;
  if (part.kind === "snapshot") return part.data.text + part.data.parts.length;
  if (part.kind === "end") return part.data.state;
  // @ts-expect-error: what a tool was called with is no text
  if (part.kind === "tool-call") return part.data;
  return part.id;
}

export async function main(signal: AbortSignal): Promise<void> {
  const answer = AnswerStream.start("/ask", { body: { question: "?" }, signal });
  answer.addEventListener("state", ({ detail }) => console.log(detail.reason));
  for await (const part of answer) console.log(told(part), answer.location?.href);
  for await (const piece of readText("/text", { signal })) console.log(piece.length);
  for await (const { n } of readNdjson<{ n: number }>("/lines")) console.log(n.toFixed());
  try {
    await answer.stop();
  } catch (error) {
    if (error instanceof StreamError) console.log(error.status, error.retryAfter, error.problem?.detail);
  }
  const wait: number | null = new Backoff({ random: () => 0 }).next();
  new SseParser({ onEvent: ({ event, data }) => console.log(event, data) }).feed("data: x\n\n");
  const kinds: Kind[] = ["done", "silence"];
  console.log(wait, kinds, closed, phase, sent, target);
}
