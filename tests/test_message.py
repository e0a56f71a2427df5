"""streaming/message.py: messages, positions and cursors are values."""

import dataclasses
import re

import pytest

from streaming.errors import InvalidCursor, InvalidMessage
from streaming.hub.subscription import print_cursor
from streaming.message import Cursor, Gap, Message, Position
from streaming.names import RESERVED_EVENTS, channel_tag, check_channel, check_event


@pytest.mark.parametrize("name", ["a", "news", "run:42", "a.b-c_d:E9", "x" * 128, "-", "..", "0"])
def test_a_legal_channel_name_is_given_back(name: str) -> None:
    assert check_channel(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 129,
        "a b",
        "a/b",
        "ä",
        "a\n",
        "\na",
        "a\0",
        "频道",
        "a?b",
        "a%2fb",
        "a,b",
        "٣",
        None,
        3,
    ],
)
def test_any_other_channel_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        check_channel(name)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "name", ["message", "tick", "a b", "état", "价格", "x" * 128, "\u2028", " "]
)
def test_a_legal_event_name_is_given_back(name: str) -> None:
    assert check_event(name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 129, "a\nb", "a\rb", "a\0b", "\ud800", "x\udfff", "\n", None, b"tick"]
)
def test_an_event_name_that_would_break_the_stream_is_refused(name: str) -> None:
    with pytest.raises(InvalidMessage):
        check_event(name)


@pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
def test_nobody_can_publish_what_the_stream_says_itself(name: str) -> None:
    with pytest.raises(InvalidMessage, match=name):
        check_event(name)


@pytest.mark.parametrize("offset", [0, 1, 9, 10, 10**17, 10**18 - 1])
@pytest.mark.parametrize("epoch", ["0", "a1b2c3d4", "Z" * 32])
def test_a_position_is_read_back_as_it_was_printed(epoch: str, offset: int) -> None:
    position = Position(epoch, offset)
    assert Position.parse(str(position)) == position
    assert Cursor.parse(str(position)).get("any") == position


NO_POSITIONS = [
    "",
    "-",
    "1",
    "abc",
    "abc-",
    "-1",
    "abc--1",
    "abc-01",
    "abc-1 ",
    " abc-1",
    "abc-1\n",
    "abc-+1",
    "abc-1.5",
    "abc-1e3",
    "abc-٣",
    "äbc-1",
    "a_b-1",
    "x" * 33 + "-1",
    "abc-" + "9" * 19,
    "abc-1-2",
    "abc-1\0",
]


@pytest.mark.parametrize("text", NO_POSITIONS)
def test_what_no_log_gave_out_is_no_position_and_no_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Position.parse(text)
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        ".",
        "..",
        f"{channel_tag('a')}_e-1.",
        f".{channel_tag('a')}_e-1",
        f"{channel_tag('a')}_e-1..{channel_tag('b')}_e-1",
        f"{channel_tag('a')}_e-1,{channel_tag('b')}_e-1",
        f"{channel_tag('a')}_e-1.e-1",
        f"{channel_tag('a')}_e-01",
        f"{channel_tag('a')}_",
        f"{channel_tag('a').upper()}F_e-1",
        f"{channel_tag('a')[:9]}_e-1",
        f"{channel_tag('a')}_e-1\n",
    ],
)
def test_a_damaged_composite_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


def test_an_endless_cursor_is_refused_without_being_repeated() -> None:
    part = f"{channel_tag('a')}_e-1"
    assert Cursor.parse(".".join([part] * 400)).get("a") == Position("e", 1)
    with pytest.raises(InvalidCursor) as caught:
        Cursor.parse(".".join([part] * 4000))
    assert len(str(caught.value)) < 400


def test_a_composite_gives_each_channel_its_own_place() -> None:
    places = {f"channel:{n}": Position(f"epoch{n}", n * 1000) for n in range(32)}
    cursor = Cursor.parse(print_cursor(places))
    assert {name: cursor.get(name) for name in places} == places
    assert cursor.get("another") is None
    assert Cursor().get("another") is None


def test_the_longest_cursor_fits_into_a_header_and_a_url() -> None:
    places = {f"{'x' * 120}{n}": Position("Z" * 32, 10**18 - 1) for n in range(32)}
    text = print_cursor(places)
    assert len(text) < 4096
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", text)
    assert Cursor.parse(text).get("x" * 120 + "31") == Position("Z" * 32, 10**18 - 1)


def test_the_cursor_of_one_channel_is_the_id_of_its_message() -> None:
    assert print_cursor({"a": Position("e1", 7)}) == str(Position("e1", 7)) == "e1-7"


def test_the_tags_of_a_thousand_channels_differ() -> None:
    assert len({channel_tag(f"channel-{n}") for n in range(1000)}) == 1000
    assert re.fullmatch("[0-9a-f]{10}", channel_tag("a"))


class Counter:
    def __init__(self, mark: str) -> None:
        self.mark, self.calls = mark, 0

    def encode(self, message: Message, /) -> bytes:
        self.calls += 1
        return f"{self.mark}{message.data}".encode()


def test_a_message_is_encoded_once_for_each_format() -> None:
    message = Message("a", "text", Position("e", 1))
    one, other = Counter("1"), Counter("2")
    for _ in range(3):
        assert message.encoded(one) == b"1text"
        assert message.encoded(other) == b"2text"
    assert (one.calls, other.calls) == (1, 1)
    assert message.encoded(one) is message.encoded(one)


def test_messages_positions_and_gaps_never_change() -> None:
    position = Position("e", 1)
    values = [
        (Message("a", "text", position), "data"),
        (position, "offset"),
        (Gap("a", position, None, None), "oldest"),
        (Cursor(single=position), "single"),
    ]
    for value, name in values:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, "other")


def test_an_encoding_does_not_make_two_messages_different() -> None:
    one, other = (Message("a", "text", Position("e", 1)) for _ in range(2))
    one.encoded(Counter("1"))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Message("a", "text", Position("e", 2))


def test_a_gap_tells_ids_or_null() -> None:
    gap = Gap("a", Position("old", 3), Position("new", 5), Position("new", 9))
    assert gap.payload() == {
        "channel": "a",
        "requested": "old-3",
        "oldest": "new-5",
        "newest": "new-9",
    }
    empty = Gap("a", Position("old", 3), None, None).payload()
    assert (empty["oldest"], empty["newest"]) == (None, None)
