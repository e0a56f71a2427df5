"""docs/picture.svg: what the demo's pages have said, as docs/picture.py has recorded it."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from draw_picture import Act, draw, panel

from tests.test_pages import ROOT

PICTURE = ROOT / "docs/picture.svg"
SVG = "{http://www.w3.org/2000/svg}"


def lines(svg: str) -> list[str]:
    return [
        "".join(text.itertext()).strip() for text in ElementTree.fromstring(svg).iter(f"{SVG}text")
    ]


def test_the_picture_shows_what_the_page_has_got() -> None:
    """The twelve published messages, each once and in order; the rest of an answer and a chat."""
    shown = lines(PICTURE.read_text("utf-8"))
    assert [line for line in shown if line.startswith("news")] == [
        f"news  step {n} of 12" for n in range(1, 13)
    ]
    assert {"Connection lost", "Connected", "Complete", "You  Not one message."} <= set(shown)


def test_a_picture_that_github_shows_has_no_script_and_asks_nobody() -> None:
    text = PICTURE.read_text("utf-8")
    assert len(text.encode()) < 60_000
    kinds = {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(text).iter()}
    assert kinds == {"svg", "title", "style", "rect", "circle", "g", "text", "tspan"}
    assert not re.search(r"@import|url\(|href|\bon\w+=", text)
    assert "prefers-color-scheme:dark" in text
    assert "prefers-reduced-motion" in text


def noted(*moments: tuple[float, str, list[list[str]]]) -> list[tuple[float, dict[str, Any]]]:
    return [(at, {"state": phase, "phase": phase, "rows": rows}) for at, phase, rows in moments]


def test_each_word_comes_when_the_page_had_it() -> None:
    shown = panel(
        "A",
        "/a",
        noted((0, "open", []), (1, "waiting", [["Bo", "one"]]), (2, "open", [["Bo", "one two"]])),
    )
    assert shown.states == [(0, "open", "open"), (1, "waiting", "waiting"), (2, "open", "open")]
    assert shown.lines == [("Bo", [(1, "one"), (2, "two")])]
    svg = draw(Act([shown], [(0.5, "one two")], told=1, length=7.5))
    assert "Bo  one two" in lines(svg)
    for second in (1, 2):
        assert f"{{0%{{visibility:hidden}}{second * 10}.00%{{visibility:visible}}}}" in svg


def test_rows_that_changed_places_are_no_picture() -> None:
    with pytest.raises(ValueError, match="another one"):
        panel("A", "/a", noted((1, "open", [["", "b"]]), (2, "open", [["", "a"], ["", "b"]])))


def test_what_has_no_room_is_no_picture() -> None:
    shown = panel("A", "/a", noted((0, "open", [["", f"{n}"] for n in range(40)])))
    with pytest.raises(ValueError, match="40 lines"):
        draw(Act([shown], [(0, "x")], told=0, length=1))
