"""docs/configuration.md, in both languages: all settings, as they are."""

import re

import pytest
from write_configuration import DEFAULTS, DOCS, PAGES, filled

from streaming.errors import ConfigurationError
from streaming.settings import Settings


def rows(page: str) -> list[list[str]]:
    """The rows of the tables of settings."""
    lines = re.findall(r"^\| `STREAMING_.* \|$", (DOCS / page).read_text("utf-8"), re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [row for row in cells if len(row) == 4]


@pytest.mark.parametrize("page", PAGES)
def test_each_setting_has_one_row_with_its_default(page: str) -> None:
    assert sorted(row[0] for row in rows(page)) == sorted(f"`STREAMING_{n}`" for n in DEFAULTS)
    assert filled(page) == (DOCS / page).read_text("utf-8"), "make docs-api writes it anew"


@pytest.mark.parametrize("page", PAGES)
def test_none_is_named_where_it_can_be_set(page: str) -> None:
    for key, default, unit, _ in rows(page):
        try:
            Settings.from_config({key.strip("`"): None})
        except ConfigurationError:
            assert "`None`" not in default + unit, key
        else:
            assert "`None`" in default + unit, key


def test_a_row_of_a_setting_that_is_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(DEFAULTS, "HEARTBEAT")
    with pytest.raises(KeyError, match="HEARTBEAT"):
        filled("configuration.md")
