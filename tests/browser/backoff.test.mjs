import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../../streaming/static/index.js";

function bounds(options, count) {
  const backoff = new Backoff({ ...options, random: () => 1 });
  return Array.from({ length: count }, () => backoff.next());
}

test("the first wait is short, then the bound doubles up to the cap, up to the limit", () => {
  const seconds = [1, 2, 4, 8, 16, 30, 30, 30, 30].map((n) => n * 1000);
  assert.deepEqual(bounds({}, 11), [250, ...seconds, null]);
});

test("the cap holds for the first wait too, and without a limit for ever", () => {
  assert.deepEqual(bounds({ first: 9, base: 2, cap: 5, limit: 5 }, 5), [5, 2, 4, 5, 5]);
  const backoff = new Backoff({ limit: Infinity, random: () => 1 });
  for (let attempt = 1; attempt < 5000; attempt += 1) assert.ok(backoff.next() <= 30_000);
});

test("waits are spread over the whole range below the bound", () => {
  for (const [random, wait] of [
    [0, 0],
    [0.5, 125],
    [0.999, 250],
  ]) {
    assert.equal(new Backoff({ random: () => random }).next(), wait);
  }
  const waits = Array.from({ length: 2000 }, () => new Backoff({ first: 1000 }).next());
  for (let tenth = 0; tenth < 10; tenth += 1) {
    const count = waits.filter((wait) => wait >= tenth * 100 && wait < tenth * 100 + 100).length;
    assert.ok(count > 100 && count < 300, `${count} of 2000 in one tenth`);
  }
});

test("attempts are counted up to the limit", () => {
  const backoff = new Backoff({ limit: 2 });
  assert.equal(backoff.limit, 2);
  assert.equal(backoff.attempt, 0);
  backoff.next();
  assert.equal(backoff.attempt, 1);
  backoff.next();
  assert.equal(backoff.next(), null);
  assert.equal(backoff.attempt, 2);
});

test("a limit of zero means no second attempt", () => {
  assert.equal(new Backoff({ limit: 0 }).next(), null);
});

test("the count starts again after a connection that proved stable", () => {
  const backoff = new Backoff({ stable: 5000 });
  backoff.next();
  backoff.next();
  backoff.opened(100);
  backoff.closed(5100);
  assert.equal(backoff.attempt, 0);
});

test("the count goes on after a connection that broke early, or never was", () => {
  const backoff = new Backoff({ stable: 5000 });
  backoff.next();
  backoff.opened(100);
  backoff.closed(5099);
  backoff.closed(99_999);
  backoff.next();
  assert.equal(backoff.attempt, 2);
});

test("reset starts over", () => {
  const backoff = new Backoff({ limit: 1 });
  backoff.next();
  backoff.opened(0);
  backoff.reset();
  assert.equal(backoff.attempt, 0);
  assert.notEqual(backoff.next(), null);
  backoff.closed(99_999);
  assert.equal(backoff.attempt, 1);
});
