import assert from "node:assert/strict";
import { test } from "node:test";
import { AnswerStream, EventStream } from "../../streaming/static/index.js";
import { Ticket } from "../../streaming/static/ticket.js";
import { opener } from "./connection.mjs";
import { httpServer, states, stream, until } from "./helper.mjs";

const open = opener(EventStream);
const URL_OF = new URL("http://127.0.0.1/events?channel=a%3Ab");

/** What the server gets to see. */
const shown = async (ticket, url = URL_OF) => (await ticket.at(url)).searchParams.get("ticket");

test("the newest that the server has sent is shown, whatever the page gave first", async () => {
  const inAddress = new URL(`${URL_OF}&ticket=first`);
  for (const [ticket, url] of [[new Ticket("first"), URL_OF], [new Ticket(), inAddress]]) {
    assert.equal(await shown(ticket, url), "first");
    ticket.take({ ticket: "second", seconds: 60 });
    assert.equal(await shown(ticket, url), "second");
    assert.equal((await ticket.at(url)).searchParams.get("channel"), "a:b");
    assert.equal(ticket.refused(), false);
    assert.equal(await shown(ticket, url), "second");
  }
});

test("a page that has shown none shows none that a server sends", async () => {
  const ticket = new Ticket();
  assert.equal(await shown(ticket), null);
  ticket.take({ ticket: "theirs", seconds: 60 });
  assert.equal(await shown(ticket), null);
});

test("what is no ticket is not taken", async () => {
  const ticket = new Ticket("first");
  await ticket.at(URL_OF);
  for (const sent of [null, 7, "second", {}, { ticket: 7 }]) ticket.take(sent);
  assert.equal(await shown(ticket), "first");
});

test("another one is asked for when none is known to be good", async () => {
  let now = 0;
  let asked = 0;
  const ticket = new Ticket(async () => `asked ${++asked}`, () => now);
  assert.equal(await shown(ticket), "asked 1");
  assert.equal(await shown(ticket), "asked 2");
  ticket.take({ ticket: "sent", seconds: 60 });
  assert.equal(await shown(ticket), "sent");
  now = 59_000; // it would not arrive in time: the machine has slept
  assert.equal(await shown(ticket), "asked 3");
  ticket.take({ ticket: "sent", seconds: 60 });
  assert.equal(ticket.refused(), true);
  assert.equal(await shown(ticket), "asked 4");
});

/** The tickets that a server has seen. */
const seenBy = ({ requests }) =>
  requests.map(({ url }) => new URL(url, URL_OF).searchParams.get("ticket"));

test("a stream comes back with the ticket that it was sent", async (t) => {
  const sent = (n) => `event: ticket\ndata: {"ticket":"sent ${n}","seconds":60}\n\n`;
  const server = await httpServer(t, (_, response, number) => {
    const opened = stream(response, `event: ready\ndata: {}\nid: k-1\n\n${sent(number)}`);
    if (number < 3) opened.end();
  });
  server.url += "?ticket=first";
  const events = open(t, server);
  await until(() => server.requests.length === 3);
  assert.deepEqual(seenBy(server), ["first", "sent 1", "sent 2"]);
  assert.equal(events.lastEventId, "k-1");
  assert.equal(server.requests[1].headers["last-event-id"], "k-1");
});

test("a stream whose ticket is refused comes back if the page can get another one", async (t) => {
  const refuse = (_, response) => response.writeHead(401).end();
  const server = await httpServer(t, refuse);
  let asked = 0;
  const events = open(t, server, { ticket: () => `asked ${++asked}` });
  const seen = states(events);
  await seen.next("waiting");
  server.handler = (_, response) => stream(response);
  await seen.next("open");
  assert.deepEqual(seenBy(server), server.requests.map((_, n) => `asked ${n + 1}`));
  server.handler = refuse;
  const other = open(t, server, { ticket: "a text" });
  assert.equal((await states(other).next("closed")).kind, "refused");
});

test("a page that cannot get a ticket now tries again", async (t) => {
  const server = await httpServer(t, (_, response) => stream(response));
  let asked = 0;
  const get = async () => {
    if (++asked < 3) throw new Error("nobody there");
    return "at last";
  };
  await states(open(t, server, { ticket: get })).next("open");
  assert.deepEqual(seenBy(server), ["at last"]);
});

test("an answer is joined and stopped with a ticket", async (t) => {
  const server = await httpServer(t, (request, response) => {
    if (request.method === "DELETE") response.writeHead(200).end();
    else stream(response, `event: ticket\ndata: {"ticket":"sent","seconds":60}\n\n`);
  });
  const answer = AnswerStream.resume(server.url, { ticket: "first" });
  t.after(() => answer.close());
  await states(answer).next("open");
  await until(() => server.requests.length === 1);
  await answer.stop();
  assert.deepEqual(seenBy(server).slice(0, 1), ["first"]);
  assert.equal(server.requests[1].method, "DELETE");
});

test("a stop that is tried again shows a ticket that is good then", async (t) => {
  const refusals = [503, 401];
  const server = await httpServer(t, (request, response) => {
    if (request.method !== "DELETE") stream(response);
    else response.writeHead(refusals.shift() ?? 200).end();
  });
  let asked = 0;
  const quick = { first: 1, base: 1, cap: 1 };
  const ticket = () => `asked ${++asked}`; // each is good once
  const answer = AnswerStream.resume(server.url, { ticket, backoff: quick });
  t.after(() => answer.close());
  await states(answer).next("open");
  await answer.stop();
  assert.deepEqual(seenBy(server), ["asked 1", "asked 2", "asked 3", "asked 4"]);
});

test("a stop whose newest ticket is refused asks for another one", async (t) => {
  const server = await httpServer(t, (request, response) => {
    if (request.method !== "DELETE")
      stream(response, `event: ticket\ndata: {"ticket":"used","seconds":60}\n\nevent: text\ndata: a\n\n`);
    else response.writeHead(request.url.endsWith("=used") ? 401 : 200).end();
  });
  const quick = { first: 1, base: 1, cap: 1 };
  const answer = AnswerStream.resume(server.url, { ticket: () => "asked", backoff: quick });
  t.after(() => answer.close());
  await answer[Symbol.asyncIterator]().next();
  await answer.stop();
  assert.deepEqual(seenBy(server), ["asked", "used", "asked"]);
});
