// The client as `npm pack` makes it: what is in it, and what TypeScript knows of it.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as served from "../../streaming/static/index.js";

const ROOT = join(import.meta.dirname, "../..");
const MODULES = join(ROOT, "streaming/static");
const PAGES = ["browser/README.md", "docs/browser-client.md", "docs/browser-client.zh-CN.md"];

const read = (...path) => readFileSync(join(ROOT, ...path), "utf8");
const blocks = (page) => Array.from(read(page).matchAll(/```ts\n(.*?)```/gs), ([, block]) => block);

let folder, installed;

before(() => {
  folder = mkdtempSync(join(tmpdir(), "flask-streaming-"));
  installed = join(folder, "node_modules/flask-streaming");
  mkdirSync(installed, { recursive: true });
  const pack = ["pack", "--silent", "--pack-destination", folder];
  const name = execFileSync("npm", pack, { cwd: join(ROOT, "browser"), encoding: "utf8" }).trim();
  execFileSync("tar", ["-xzf", join(folder, name), "-C", installed, "--strip-components=1"]);
});

after(() => rmSync(folder, { recursive: true, force: true }));

test("it holds what the blueprint serves, types beside it, a page and the licence, and nothing else", () => {
  const modules = readdirSync(MODULES).filter((name) => name.endsWith(".js"));
  const types = modules.map((name) => name.replace(/\.js$/, ".d.ts"));
  assert.deepEqual(readdirSync(join(installed, "dist")).sort(), [...modules, ...types].sort());
  assert.deepEqual(readdirSync(installed).sort(), ["LICENSE", "README.md", "dist", "package.json"]);
  for (const name of modules) {
    assert.equal(readFileSync(join(installed, "dist", name), "utf8"), read("streaming/static", name));
  }
});

test("its version is the Python package's", () => {
  const [, version] = read("streaming/__init__.py").match(/^__version__ = "(.*)"$/m);
  assert.equal(JSON.parse(read("browser/package.json")).version, version);
});

test("a program imports it by its name", () => {
  const program = 'import * as all from "flask-streaming"; console.log(Object.keys(all).join())';
  const argv = ["--input-type=module", "--eval", program];
  const said = execFileSync(process.execPath, argv, { cwd: folder, encoding: "utf8" });
  assert.equal(said.trim(), Object.keys(served).join());
});

test("every export stands on the pages, and every type on those of the documentation", () => {
  const types = Array.from(read("streaming/static/index.js").matchAll(/@typedef .* (\w+) \*\//g), ([, name]) => name);
  assert.ok(types.length > 10);
  for (const page of PAGES) {
    const names = [...Object.keys(served), ...(page.startsWith("docs/") ? types : [])];
    for (const name of names) assert.ok(read(page).includes(`\`${name}\``), `${name} in ${page}`);
  }
});

test("tsc --strict knows its events, the pages' examples and the demo's scripts", () => {
  const programs = ["uses.ts"];
  cpSync(join(import.meta.dirname, "types/uses.ts"), join(folder, "uses.ts"));
  for (const page of PAGES) {
    for (const [number, block] of blocks(page).entries()) {
      programs.push(`${page.replaceAll("/", "-")}-${number}.ts`);
      writeFileSync(join(folder, programs.at(-1)), block);
    }
  }
  const compilerOptions = {
    strict: true,
    noEmit: true,
    allowJs: true,
    checkJs: true,
    target: "es2024",
    module: "esnext",
    moduleResolution: "bundler",
    moduleDetection: "force",
    lib: ["es2024", "dom", "dom.iterable", "dom.asynciterable"],
    types: [],
  };
  const demo = readdirSync(join(ROOT, "static")).filter((name) => name.endsWith(".js"));
  const files = [...programs, ...demo.map((name) => join(ROOT, "static", name))];
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  const tsc = join(ROOT, "browser/node_modules/.bin/tsc");
  const { stdout, status } = spawnSync(process.execPath, [tsc, "--project", folder], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});
