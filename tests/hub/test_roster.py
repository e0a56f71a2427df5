"""streaming/hub/roster.py: lists of members, once for all who ask, in pages."""

import json
from typing import Any

import pytest

from streaming.hub.roster import PAGE, Roster, Rosters
from streaming.logs import Member


def read(fields: str) -> Any:
    return json.loads(f"{{{fields}}}")


def read_all(roster: Roster) -> list[list[str]]:
    """The ids of each page, as a client asks for one after the other."""
    page = read(roster.page())
    assert "after" not in page
    pages = [[member["id"] for member in page["members"]]]
    while more := page.get("more"):
        page = read(roster.page(more))
        assert page["after"] == more
        pages.append([member["id"] for member in page["members"]])
    return pages


@pytest.mark.parametrize("size", [0, 10, 1024])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000])
def test_all_members_come_once_and_in_order_in_pages_of_bounded_size(count: int, size: int) -> None:
    members = [Member(f"m{n}", "x" * size) for n in range(count)]
    roster = Roster(members)
    pages = read_all(roster)
    assert [id for page in pages for id in page] == [member.id for member in members]
    assert len(roster.page()) < PAGE + 1100
    assert all(pages) or count == 0


def test_names_are_said_where_there_are_any_and_connections_where_they_are_several() -> None:
    members = [Member("a", "x", "Ann"), Member("b", "", "", 3), Member("c", "", "Cid", 2)]
    assert read(Roster(members).page())["members"] == [
        {"id": "a", "info": "x", "name": "Ann"},
        {"id": "b", "info": "", "connections": 3},
        {"id": "c", "info": "", "name": "Cid", "connections": 2},
    ]


def test_a_small_room_is_one_page_and_says_no_more() -> None:
    assert read(Roster([Member("a", "Ann"), Member('"', "好")]).page()) == {
        "members": [{"id": "a", "info": "Ann"}, {"id": '"', "info": "好"}]
    }
    assert read(Roster([]).page()) == {"members": []}


@pytest.mark.parametrize("after", ["gone", "", "\ud800"])
def test_behind_a_member_that_has_left_the_list_begins_anew(after: str) -> None:
    page = read(Roster([Member("a")]).page(after))
    assert page == {"members": [{"id": "a", "info": ""}]}


def test_behind_the_last_member_there_is_nobody() -> None:
    assert read(Roster([Member("a")]).page("a")) == {"members": [], "after": "a"}


def test_a_list_is_made_anew_for_each_who_asks_later_and_an_error_is_raised() -> None:
    asked: list[str] = []

    def members(room: str) -> list[Member]:
        asked.append(room)
        if len(asked) == 2:
            raise ZeroDivisionError
        return [Member(str(len(asked)))]

    rosters = Rosters(members)
    assert read_all(rosters.get("a")) == [["1"]]
    with pytest.raises(ZeroDivisionError):
        rosters.get("a")
    assert read_all(rosters.get("a")) == [["3"]]
