import assert from "node:assert/strict";
import { test } from "node:test";
import { Channels } from "../../streaming/static/channels.js";

const READY = { event: "ready", data: '{"channels":["ticker","news"]}', lastEventId: "aa_e-0.bb_f-0" };
const ticker = { event: "message", data: "1", lastEventId: "aa_e-1.bb_f-0" };
const news = { event: "message", data: "1", lastEventId: "bb_f-1.aa_e-1" };

test("of several channels, an event's own comes first in its id", () => {
  const channels = new Channels();
  assert.equal(channels.of(READY), "");
  assert.equal(channels.of(ticker), "ticker");
  assert.equal(channels.of(news), "news");
  assert.equal(channels.of({ ...news, event: "tick" }), "news", "whatever its publisher calls it");
});

test("a lone channel has all events", () => {
  const channels = new Channels();
  channels.of({ event: "ready", data: '{"channels":["news"]}', lastEventId: "e-0" });
  assert.equal(channels.of({ event: "message", data: "x", lastEventId: "e-1" }), "news");
});

test("what the stream itself says is of no channel", () => {
  const channels = new Channels();
  channels.of(READY);
  for (const event of ["restart", "close"]) assert.equal(channels.of({ ...ticker, event }), "");
});

test("a gap is told of the channel that its text names, whose place is not the first of its id", () => {
  const channels = new Channels();
  channels.of(READY);
  assert.equal(channels.of({ ...ticker, event: "gap", data: '{"channel":"news"}' }), "news");
});

test("another ready begins anew", () => {
  const channels = new Channels();
  channels.of(READY);
  channels.of({ event: "ready", data: '{"channels":["x","y"]}', lastEventId: "bb_f-0.cc_g-0" });
  assert.equal(channels.of(news), "x");
  assert.equal(channels.of(ticker), "");
});

for (const data of ["", "null", "7", "[]", "{}", '{"channels":7}', '{"channels":[7]}', "no JSON"]) {
  test(`a stream whose ready says ${data || "nothing"} is not ours`, () => {
    const channels = new Channels();
    channels.of({ ...READY, data });
    assert.equal(channels.of(ticker), "");
  });
}
