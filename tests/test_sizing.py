"""bench/sizing.py: what the page says of large crowds is what it says; and that is no nonsense."""

import re
from pathlib import Path

import pytest

from bench import sizing

ROOT = Path(__file__).parents[1]


def numbers(row: str) -> list[str]:
    """Those of a table's row, but for its first cell, which is words."""
    return re.findall(r"\d[\d,.]*", row.split("|", 2)[2])


def test_the_pages_show_what_the_program_says() -> None:
    english = (ROOT / "docs/deployment.md").read_text("utf-8")
    chinese = (ROOT / "docs/deployment.zh-CN.md").read_text("utf-8")
    rows = [numbers(line) for line in chinese.splitlines() if line.startswith("|")]
    tables = "\n".join(sizing.paper()).split("\n\n")
    assert len(tables) == 3
    for table in tables:
        assert table in english
        for line in table.splitlines():
            assert not numbers(line) or numbers(line) in rows, line


def test_the_pauses_are_those_of_the_browser_client() -> None:
    script = (ROOT / "streaming/static/backoff.js").read_text("utf-8")
    for said in ("first = 250,", "base = 1000,", "cap = 30_000,", "limit = 10,"):
        assert said in script
    longest = list(sizing.pauses(lambda: 1.0))
    assert longest == [0.25, 1, 2, 4, 8, 16, 30, 30, 30, 30]


@pytest.mark.parametrize("how", [{}, {"told": True}, {"down": 3.0}])
def test_nobody_is_let_in_before_there_is_a_place_and_nobody_is_forgotten(
    how: dict[str, float],
) -> None:
    told = sizing.come_back(1000, 100.0, **how)  # type: ignore[arg-type]
    assert told.last >= how.get("down", 0) + 1000 / 100
    assert how.get("down", 0) + 5 <= told.half <= told.nearly <= told.last
    assert told.gave_up == 0
    assert sizing.come_back(1000, 200.0, **how).last < told.last  # type: ignore[arg-type]
    assert sizing.come_back(1000, 100.0, **how) == told  # type: ignore[arg-type]


def test_whoever_finds_nobody_for_long_gives_up_after_ten_attempts() -> None:
    told = sizing.come_back(500, 1000.0, down=100.0)
    assert 0.5 < told.gave_up < 1
    assert told.last > 100


def test_a_client_is_moved_once_if_all_are_replaced_at_once_and_more_often_otherwise() -> None:
    assert sizing.moves(10, 10) == pytest.approx(1)
    # half is moved, to the new one or the old one, and then all who are on that
    assert sizing.moves(2, 1) == pytest.approx(0.5 + 0.75)


def test_more_clients_need_more_of_everything() -> None:
    small, large = sizing.Crowd(10_000), sizing.Crowd(1_000_000)
    assert large.needed > 10 * small.needed
    assert large.redis > 50 * small.redis
