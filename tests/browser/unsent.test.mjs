// static/unsent.js: the keys of what the page of event streams publishes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Unsent } from "../../static/unsent.js";

test("a text goes out with the same key until it has arrived", () => {
  const unsent = new Unsent();
  const key = unsent.keyOf("a");
  assert.match(key, /^[0-9a-f]{32}$/);
  assert.equal(unsent.keyOf("a"), key);
  unsent.arrived(key);
  assert.notEqual(unsent.keyOf("a"), key);
});

test("another text has another key, which stays when the one before arrives late", () => {
  const unsent = new Unsent();
  const [first, second] = ["a", "b"].map((text) => unsent.keyOf(text));
  assert.notEqual(first, second);
  unsent.arrived(first);
  assert.equal(unsent.keyOf("b"), second);
});
