"""Tickets (``web.tickets``): a text that was not given is none, whatever it says."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from streaming.errors import Forbidden, InvalidMessage, InvalidTicket
from streaming.identity import Identity
from streaming.web.tickets import (
    ACTIONS,
    LIFE,
    LONGEST,
    PREFIX,
    Ticket,
    _signer,
    base64_encode,
    parse_ticket,
    print_ticket,
)
from tests.fuzz.strategies import (
    ids,
    json_like,
    json_values,
    legal_channels,
    mutated,
    positions,
    words,
)

NOW = 1_800_000_000.0

_keys = st.lists(
    st.text(min_size=1, max_size=20) | st.binary(min_size=1, max_size=20), min_size=1, max_size=3
)
_patterns = legal_channels | legal_channels.map("{}*".format) | st.just("*")
_identities = st.none() | st.builds(Identity, ids, ids)
tickets = st.builds(
    Ticket,
    st.text("0123456789abcdef", min_size=1, max_size=32),
    st.lists(_patterns, min_size=1, max_size=4).map(tuple),
    st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=3).map(tuple),
    _identities,
    st.integers(1, LIFE),
    st.booleans(),
    st.floats(NOW + 1, NOW + LIFE),
    st.floats(0, NOW),
    positions,
)


def printed(ticket: Ticket, keys: list[str | bytes]) -> str:
    try:
        return print_ticket(ticket, keys)
    except InvalidMessage as error:
        assert str(LONGEST) in str(error)
        return ""


def read(text: str, keys: list[str | bytes], now: float = NOW) -> Ticket | None:
    """The ticket, or None where there is none, of which nothing is said back."""
    try:
        return parse_ticket(text, keys, now)
    except InvalidTicket as error:
        assert len(text) < 8 or text not in str(error)
        return None


@given(tickets, _keys, _keys)
def test_a_ticket_is_read_as_it_was_given_with_this_key_and_newer_ones(
    ticket: Ticket, keys: list[str | bytes], newer: list[str | bytes]
) -> None:
    if text := printed(ticket, keys):
        assert read(text, keys) == ticket
        assert read(text, [*keys, *newer]) == ticket
        assert read(text, keys, ticket.until) is None
        assert read(text, []) is None
        others = [key for key in newer if as_bytes(key) not in map(as_bytes, keys)]
        assert read(text, others) is None


def as_bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


@given(tickets, _keys, st.data())
def test_a_ticket_that_was_changed_is_none_or_says_the_same(
    ticket: Ticket, keys: list[str | bytes], data: st.DataObject
) -> None:
    if text := printed(ticket, keys):
        changed = data.draw(mutated(st.just(text.encode()))).decode("latin-1")
        assert read(changed, keys) in (None, ticket)


@given(
    words
    | words.map(f"{PREFIX}{{}}".format)
    | st.binary(max_size=60).map(lambda b: PREFIX + b.hex()),
    _keys,
)
def test_a_text_that_nobody_has_signed_is_no_ticket(text: str, keys: list[str | bytes]) -> None:
    assert read(text, keys) is None


_said = st.tuples(
    *(
        right | json_values
        for right in (
            words,
            st.lists(_patterns),
            st.lists(st.sampled_from(ACTIONS)),
            st.none() | st.lists(words, min_size=2, max_size=2),
            st.integers(1, LIFE),
            st.booleans(),
            st.floats(NOW, NOW + 100),
            st.floats(0, NOW),
            positions.map(str),
        )
    )
)


@given(_said.map(json.dumps) | json_like | json_values.map(json.dumps), _keys)
@example(json.dumps(["i", ["a"], ["publish"], None, 1, False, 10**400, 0, "e-1"]), ["k"])
@example("[" * 1400, ["k"])
def test_whatever_was_signed_with_the_key_is_a_ticket_that_can_be_asked_or_none(
    said: str, keys: list[str | bytes]
) -> None:
    value = PREFIX + base64_encode(said.encode("utf-8", "replace")).decode()
    ticket = read(_signer(keys).sign(value).decode(), keys)
    if ticket is not None:
        for action in ACTIONS:
            try:
                ticket.check(action, "a")
            except Forbidden as error:
                assert len(str(error)) < 300
        assert isinstance(ticket.id, str)
        assert ticket.until > NOW


@given(
    tickets, st.sampled_from(ACTIONS), legal_channels, st.sampled_from(["", "private:", "user:"])
)
def test_a_ticket_is_good_for_what_it_names_and_for_nothing_closed_that_it_does_not(
    ticket: Ticket, action: Any, name: str, start: str
) -> None:
    channel = start + name
    try:
        ticket.check(action, channel)
    except Forbidden:
        assert action not in ticket.actions or channel not in ticket.channels
        return
    assert action in ticket.actions
    named = [n for n in ticket.channels if n == channel or channel.startswith(n.rstrip("*"))]
    assert named
    if start:
        assert channel in named or any(n.startswith(start) for n in named)
