"""docs/command-line.md, in both languages: all commands, as they are."""

import re
import shlex
from pathlib import Path

import pytest

from streaming.web.cli.doctor.command import NAMES
from streaming.web.cli.group import commands

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = ["command-line.md", "command-line.zh-CN.md"]


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def blocks(text: str) -> list[str]:
    """The indented blocks of a page, which are code."""
    return re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_every_command_and_calls_them_as_they_are(name: str) -> None:
    text = page(name)
    listed = re.findall(r"^\| \[`(\w+)`\]\(#", text, re.MULTILINE)
    assert sorted(listed) == sorted(commands.all())
    called = set()
    for line in "".join(blocks(text)).splitlines():
        if not line.startswith("    flask streaming "):
            continue
        _, _, command, *args = shlex.split(line.partition(" < ")[0])
        commands.all()[command].make_context(command, args)
        called.add(command)
    assert called == set(commands.all())


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_every_check_of_the_doctor(name: str) -> None:
    section = page(name).partition("\n## doctor\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == list(NAMES)
