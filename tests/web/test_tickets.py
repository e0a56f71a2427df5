"""streaming/web/tickets.py: what a ticket says, and that nobody else can say it."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest
from itsdangerous import Signer, base64_encode

from streaming import Forbidden, Identity, InvalidMessage
from streaming.errors import InvalidTicket
from streaming.message import Position
from streaming.names import check_channel
from streaming.web.tickets import LIFE, LONGEST, PREFIX, Ticket, parse_ticket, print_ticket

KEYS = ["the oldest", "the newest"]
NOW = 1_000_000.0

TICKET = Ticket(
    id="0123456789abcdef",
    channels=("news", "room:*", "private:a"),
    actions=("subscribe",),
    identity=Identity("ada@example.org", "Ада"),
    seconds=60,
    is_once=False,
    until=NOW + 60,
    first=NOW,
    place=Position("n1c0ffee5", 1764167000000),
    doubted=("room:7",),
)


def test_what_was_printed_is_parsed() -> None:
    for ticket in (TICKET, replace(TICKET, identity=None, is_once=True, actions=("publish",))):
        text = print_ticket(ticket, KEYS)
        assert parse_ticket(text, KEYS, NOW) == ticket
        assert set(text) <= set("._-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


def test_secrets_rotate() -> None:
    old, new = (print_ticket(TICKET, [key]) for key in KEYS)
    assert print_ticket(TICKET, KEYS) == new
    assert parse_ticket(old, KEYS, NOW) == TICKET
    with pytest.raises(InvalidTicket):
        parse_ticket(old, KEYS[1:], NOW)


def test_no_letter_of_it_can_be_another() -> None:
    text = print_ticket(TICKET, KEYS)
    for n in range(len(text) - 1):  # of the last one there are spellings: bits that mean nothing
        other = "A" if text[n] != "A" else "B"
        with pytest.raises(InvalidTicket):
            parse_ticket(text[:n] + other + text[n + 1 :], KEYS, NOW)


def signed(said: object, salt: bytes = b"streaming.ticket") -> str:
    value = PREFIX + base64_encode(json.dumps(said)).decode()
    signer = Signer(KEYS[1], salt, key_derivation="hmac", digest_method=sha256)  # type: ignore[arg-type]
    return signer.sign(value).decode()


GOOD = ["1", ["a"], ["subscribe"], None, 60, False, NOW + 60, NOW, "0-0", []]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4711",
        PREFIX,
        f"{PREFIX}..",
        f"{PREFIX}é.é",
        f"{PREFIX}\udc80.x",
        print_ticket(TICKET, KEYS) + "A" * LONGEST,
        print_ticket(TICKET, KEYS).replace(PREFIX, "st2."),
        signed(GOOD, b"cookie-session"),
        signed([]),
        signed(7),
        signed({}),
        signed([*GOOD, "more"]),
        signed([*GOOD[:1], [7], *GOOD[2:]]),
        signed([*GOOD[:3], ["", ""], *GOOD[4:]]),
        signed([*GOOD[:4], 10**9, *GOOD[5:]]),
        signed([*GOOD[:6], "soon", *GOOD[7:]]),
        signed([*GOOD[:8], "nowhere", []]),
        signed([*GOOD[:9], ["a b"]]),
        signed(GOOD[:9]),
    ],
)
def test_what_is_no_ticket_is_refused_and_not_said_back(text: str) -> None:
    assert parse_ticket(signed(GOOD), KEYS, NOW).channels == ("a",)
    with pytest.raises(InvalidTicket) as refused:
        parse_ticket(text, KEYS, NOW)
    assert refused.value.status == 401
    assert not text or text not in str(refused.value)


def test_without_a_secret_there_are_no_tickets() -> None:
    with pytest.raises(InvalidTicket):
        parse_ticket(print_ticket(TICKET, KEYS), [], NOW)


def test_it_ends() -> None:
    text = print_ticket(TICKET, KEYS)
    assert parse_ticket(text, KEYS, NOW + 59.9) == TICKET
    with pytest.raises(InvalidTicket, match="has ended"):
        parse_ticket(text, KEYS, NOW + 60)


def test_only_what_it_lists_is_allowed() -> None:
    for channel in ("news", "room:", "room:7", "private:a"):
        TICKET.check("subscribe", channel)
    for channel in ("new", "news2", "room", "private:b", "private:a2", "user:ada"):
        with pytest.raises(Forbidden):
            TICKET.check("subscribe", channel)
    for action in ("publish", "stop"):
        with pytest.raises(Forbidden):
            TICKET.check(action, "news")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "covers"),
    [
        ("*", []),
        ("u*", []),
        ("private*", []),
        ("private:*", ["private:a"]),
        ("user:*", ["user:ada"]),
        ("user:a*", ["user:ada"]),
    ],
)
def test_patterns_mean_what_belongs_to_somebody_only_if_they_say_so(
    pattern: str, covers: list[str]
) -> None:
    ticket = replace(TICKET, channels=(pattern,))
    for channel in ("private:a", "user:ada"):
        if check_channel(channel) in covers:
            ticket.check("subscribe", channel)
        else:
            with pytest.raises(Forbidden):
                ticket.check("subscribe", channel)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": ()},
        {"channels": tuple(f"c{n}" for n in range(33))},
        {"channels": ("a b",)},
        {"channels": ("a*b",)},
        {"actions": ()},
        {"actions": ("subscribe", "read")},
        {"seconds": 0},
        {"seconds": LIFE + 1},
        {"seconds": 1.5},
        {"seconds": True},
        {"seconds": "60"},
    ],
)
def test_what_no_ticket_says_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage):
        replace(TICKET, **change)  # type: ignore[arg-type]


def test_it_fits_into_a_url_or_is_not_given() -> None:
    names = tuple(f"{n:02}" + "x" * 126 for n in range(32))
    with pytest.raises(InvalidMessage, match="pattern"):
        print_ticket(replace(TICKET, channels=names), KEYS)
    assert len(print_ticket(replace(TICKET, channels=names[:9]), KEYS)) < LONGEST
