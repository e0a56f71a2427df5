// @ts-check

export { AnswerStream } from "./answer-stream.js";
export { Backoff } from "./backoff.js";
export { StreamError } from "./errors.js";
export { EventStream } from "./event-stream.js";
export { ReconnectingSocket } from "./reconnecting-socket.js";
export { SseParser } from "./sse-parser.js";
export { readNdjson, readText } from "./text-stream.js";

// The types that programs name.
/** @typedef {import("./answer-parts.js").AnswerPart} AnswerPart */
/** @typedef {import("./answer-parts.js").Outcome} Outcome */
/** @typedef {import("./answer-parts.js").Snapshot} Snapshot */
/** @typedef {import("./answer-stream.js").AnswerOptions} AnswerOptions */
/** @typedef {import("./answer-stream.js").Beginning} Beginning */
/** @typedef {import("./backoff.js").BackoffOptions} BackoffOptions */
/** @typedef {import("./errors.js").Problem} Problem */
/** @typedef {import("./event-source.js").ErrorDetail} ErrorDetail */
/** @typedef {import("./event-source.js").StreamEvent} StreamEvent */
/** @typedef {import("./event-stream.js").EventStreamOptions} EventStreamOptions */
/** @typedef {import("./reconnect.js").Kind} Kind */
/** @typedef {import("./reconnect.js").State} State */
/** @typedef {import("./reconnect.js").StateDetail} StateDetail */
/** @typedef {import("./reconnecting-socket.js").ReconnectingSocketOptions} ReconnectingSocketOptions */
/** @typedef {import("./sse-parser.js").SseEvent} SseEvent */
/** @typedef {import("./ticket.js").TicketSource} TicketSource */
