// @ts-check

export { AnswerStream } from "./answer-stream.js";
export { Backoff } from "./backoff.js";
export { StreamError } from "./errors.js";
export { EventStream } from "./event-stream.js";
export { ReconnectingSocket } from "./reconnecting-socket.js";
export { SseParser } from "./sse-parser.js";
export { readNdjson, readText } from "./text-stream.js";
