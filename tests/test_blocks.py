"""The code on the pages is code: each block is read by what it is written for.

That examples run is tests/web/test_examples.py's; imports of the package, tests/test_public.py's;
the types of what is TypeScript, tests/browser/package.test.mjs's.
"""

import ast
import configparser
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import click
import pytest
import yaml
from markdown_it import MarkdownIt

from streaming.settings import Settings
from streaming.web.cli.group import commands
from tests.live.server import tool

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
for name in ("docs/api.md", "docs/api.zh-CN.md", "CHANGELOG.md"):
    PAGES.remove(ROOT / name)  # signatures are no programs, and what was is no more

SETTINGS = {f"STREAMING_{field.name.upper()}" for field in fields(Settings)}
SETTINGS |= {f"STREAMING_OPENAI_{name}" for name in ("MODEL", "BASE_URL", "API_KEY")}  # the demo's
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@dataclass(frozen=True)
class Code:
    """A block or, without a line, a code span of a page."""

    page: str
    line: int | None
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.text[:60]!r}"


def read(name: str, text: str) -> Iterator[Code]:
    """The code on a page."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("fence", "code_block"):
            line = token.map[0] + 1 if token.map else 0
            yield Code(name, line, token.info or "shell", token.content)
        for part in token.children or ():
            if part.type == "code_inline":
                yield Code(name, None, "shell", part.content)


CODE = [code for page in PAGES for code in read(page.name, page.read_text("utf-8"))]


def of(*languages: str) -> list[Code]:
    found = [code for code in CODE if code.line and code.language in languages]
    assert found, languages
    return found


def test_every_language_has_its_check() -> None:
    known = {"python", "js", "html", "ts", "nginx", "ini", "shell", "text"}
    known |= {"yaml", "dockerfile"}  # tests/live/test_container.py starts what that starts
    for code in CODE:
        assert code.language in known, f"{code}: how is {code.language} checked?"


def test_python_compiles() -> None:
    for code in of("python"):
        compile(code.text, str(code), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_manifests_are_yaml() -> None:
    for code in of("yaml"):
        assert all(part["kind"] for part in yaml.safe_load_all(code.text)), code


def test_units_are_in_sections() -> None:
    for code in of("ini"):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read_string(code.text)
        assert parser.sections(), code


PARSE = """
const { SourceTextModule } = require("node:vm");
for (const [name, text] of JSON.parse(require("node:fs").readFileSync(0, "utf8"))) {
  try { new SourceTextModule(text); } catch (error) { console.log(`${name}: ${error.message}`); }
}
"""


def unread(scripts: list[tuple[str, str]]) -> str:
    """What node says of scripts that it cannot read."""
    command = ["node", "--experimental-vm-modules", "--no-warnings", "--eval", PARSE]
    done = subprocess.run(
        command, input=json.dumps(scripts), capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_scripts_parse() -> None:
    scripts = [(str(code), code.text) for code in of("js")]
    for code in of("html"):
        inside = re.findall(r"<script[^>]*>(.*?)</script>", code.text, re.DOTALL)
        assert len(inside) == code.text.count("<script"), code
        scripts += [(str(code), text) for text in inside]
    assert unread(scripts) == ""
    assert unread([("a", "let a = ;"), ("b", "await b")]) == "a: Unexpected token ';'\n"


def test_nginx_takes_what_is_for_it(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]
    make += ["ec_paramgen_curve:P-256", "-subj", "/CN=x", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(make, check=True, capture_output=True, timeout=60)
    parts = []
    for number, code in enumerate(of("nginx")):
        listen = f"listen unix:{tmp_path}/{number}.sock"
        text = code.text
        if not re.search(r"^server ", text, re.MULTILINE):
            text = f"server {{ {listen}; {text} }}"
        text = re.sub(r"^( *)listen [^;]*", rf"\1{listen} ssl", text, flags=re.MULTILINE)
        text = re.sub(r"(ssl_certificate_key) [^;]*", rf"\1 {key}", text)
        parts.append(re.sub(r"(ssl_certificate) [^;]*", rf"\1 {cert}", text))
    for number, text in enumerate(parts):  # each alone: two may define one variable
        config = tmp_path / f"{number}.conf"
        config.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {text} }}")
        command = [tool("nginx"), "-t", "-c", str(config), "-e", str(tmp_path / "log")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


PROMPT = re.compile(r"^(?:\$ )?(?:\w+=(?:'[^']*'|\S*) )*")
"""What may stand before a command: a prompt, and the environment."""


def check_command(line: str) -> None:
    """Fail if a command of ours is not called as it is."""
    line = PROMPT.sub("", line)
    if named := re.match(r"make ([\w-]+)", line):
        assert named[1] in TARGETS, f"there is no {line}"
    if run := re.match(r"(?:\S*/)?python3? -m ((?:bench|tests|streaming)[\w.]*)", line):
        assert (ROOT / run[1].replace(".", "/")).with_suffix(".py").is_file(), f"there is no {line}"
    called = re.match(r"flask (?:--app \S+ )?streaming (\S.*)", line)
    if called and called[1] not in ("--help", "…"):
        words = shlex.split(re.split(r" [<>|] | && ", called[1])[0])
        assert words[0] in commands.all(), f"there is no {line}"
        if "…" not in line:
            commands.all()[words[0]].make_context(words[0], words[1:])


def test_commands_of_ours_are_called_as_they_are() -> None:
    for code in CODE:
        if code.language != "shell":
            continue
        for line in code.text.splitlines():
            try:
                check_command(line)
            except (click.MissingParameter, click.BadOptionUsage):
                assert code.line is None, code  # in a sentence a name is enough


@pytest.mark.parametrize(
    "line",
    [
        "make nothing",
        "python -m bench.nothing --quick",
        "PORT=9 make nothing",
        "flask streaming nothing",
        "$ flask --app a streaming tail",
        "STREAMING_LOG='x y' flask streaming tail news --nothing",
    ],
)
def test_a_command_that_is_not_there_is_found(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        check_command(line)


def settings_in(text: str) -> set[str]:
    """The settings that a page names; what ends in "_…" names several."""
    return set(re.findall(r"\bSTREAMING_[A-Z]+(?:_[A-Z]+)*(?![\w…])", text))


def test_every_setting_that_is_named_exists() -> None:
    for page in PAGES:
        assert settings_in(page.read_text("utf-8")) <= SETTINGS, page.name
    assert settings_in("`STREAMING_RETENTION_…` STREAMING_LOGS='x'") == {"STREAMING_LOGS"}


FIGURE = re.compile(r"\d ?(?:ms|µs|[KM]iB|/s)\b|^\|.*\d", re.MULTILINE)
MEASURED = re.compile(r"`(?:make bench|python -m bench)[^`]*`")


def without_command(text: str) -> list[str]:
    """The sections of a page of measurements that do not say how theirs were made."""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    return [s.splitlines()[0] for s in sections if FIGURE.search(s) and not MEASURED.search(s)]


@pytest.mark.parametrize("page", ["benchmarks.md", "benchmarks.zh-CN.md"])
def test_every_figure_of_the_benchmarks_names_its_command(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    sections = without_command(text)
    assert sections in (["How it is measured"], ["怎么测的"])
    assert without_command(MEASURED.sub("", text)) != sections
