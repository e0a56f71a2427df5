// static/roster.js: who is in a room, from a list and the events after it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { cleanName, Roster } from "../../static/roster.js";

const ann = { id: "a1", info: "Ann" };
const ben = { id: "b2", info: "" };

test("a list replaces what was known, events change it, in the order they came", () => {
  const roster = new Roster();
  roster.join({ id: "old", info: "Gone" });
  roster.replace([ann, ben]);
  assert.deepEqual([...roster.here], [["a1", "Ann"], ["b2", ""]]);
  roster.join({ id: "c3", info: "Cat" });
  roster.leave({ id: "a1" });
  assert.deepEqual([...roster.here.keys()], ["b2", "c3"]);
});

test("an event that comes twice, or tells what the list has already, changes nothing", () => {
  const roster = new Roster();
  roster.replace([ann, ben]);
  roster.join(ann);
  roster.leave({ id: "never here" });
  roster.leave({ id: "b2" });
  roster.leave({ id: "b2" });
  assert.deepEqual([...roster.here], [["a1", "Ann"]]);
});

test("a new name keeps the place", () => {
  const roster = new Roster();
  roster.replace([ann, ben]);
  roster.join({ id: "a1", info: "Anna" });
  assert.deepEqual([...roster.here], [["a1", "Anna"], ["b2", ""]]);
  assert.equal(roster.nameOf("a1"), "Anna");
});

test("who has left is still known by name, for what they wrote", () => {
  const roster = new Roster();
  roster.replace([ann]);
  roster.leave(ann);
  assert.equal(roster.nameOf("a1"), "Ann");
  assert.equal(roster.nameOf("b2"), "");
  roster.join({ id: "a1", info: "" });
  assert.equal(roster.nameOf("a1"), "");
});

test("only so many names are remembered, the newest", () => {
  const roster = new Roster();
  for (let n = 0; n < 1500; n += 1) {
    roster.join({ id: `c${n}`, info: `name ${n}` });
    roster.leave({ id: `c${n}` });
  }
  assert.equal(roster.names.size, 1000);
  assert.equal(roster.nameOf("c499"), "");
  assert.equal(roster.nameOf("c500"), "name 500");
});

test("a name is one line that cannot turn the text around it", () => {
  assert.equal(cleanName("  Ann\n\tB.  "), "Ann B.");
  assert.equal(cleanName("a\u202eb\u2066c\u2028d\u0000e"), "a b c d e");
  assert.equal(cleanName("x".repeat(99)), "x".repeat(40));
  assert.equal(cleanName("😀".repeat(99)), "😀".repeat(40));
  assert.equal(cleanName("👩‍👩‍👧"), "👩‍👩‍👧");
  assert.equal(cleanName("<b>安</b>"), "<b>安</b>");
  assert.equal(cleanName(null), "");
  assert.equal(cleanName("\u202e \n"), "");
});
