"""Names, ids and cursors: ``names``, ``message``, ``identity``, ``hub.presence``."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import InvalidCursor, InvalidMessage
from streaming.hub.orders import order_of
from streaming.hub.presence import check_member, presence_channel, room_of
from streaming.identity import Identity, client_of, identity_of, sign, user_channel
from streaming.logs import Member
from streaming.message import Cursor, Position, print_place
from streaming.names import (
    Patterns,
    check_channel,
    check_event,
    check_key,
    check_pattern,
    owned_key,
)
from streaming.web.permissions import as_identity
from streaming.wire import sse
from tests.fuzz.strategies import (
    anything,
    channels,
    clients,
    cursors,
    ids,
    legal_channels,
    positions,
    words,
)

names = st.one_of(channels, anything)


@given(cursors)
def test_a_cursor_is_one_that_we_print_or_it_is_refused(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except InvalidCursor as error:
        assert len(str(error)) < 400
        return
    assert re.fullmatch(r"[0-9A-Za-z_.-]+", text)
    printed = str(cursor.single) if cursor.single else "start"
    if cursor.tagged:
        printed = ".".join(f"{tag}_{place}" for tag, place in cursor.tagged.items())
    assert Cursor.parse(printed) == cursor
    assert len(cursor.tagged) <= len(text) // 14 + 1


@given(positions)
def test_a_position_is_read_back_as_it_was_printed(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert Cursor.parse(str(position)).get("any") == position


@given(st.dictionaries(legal_channels, positions, min_size=1, max_size=6))
def test_a_cursor_of_several_channels_knows_the_place_in_each(places: dict[str, Position]) -> None:
    printed = ".".join(print_place(channel, place) for channel, place in places.items())
    cursor = Cursor.parse(printed)
    assert {channel: cursor.get(channel) for channel in places} == places


@given(names)
def test_the_name_of_a_channel_is_safe_in_a_header_and_a_url_or_refused(name: Any) -> None:
    try:
        check_channel(name)
    except InvalidMessage as error:
        assert len(str(error)) < 400
    else:
        assert re.fullmatch(r"[A-Za-z0-9_.:-]+", name)
        assert len(name) <= 128


@given(names)
def test_a_room_has_a_presence_channel_that_leads_back_to_it_or_is_refused(name: Any) -> None:
    try:
        channel = presence_channel(name)
    except InvalidMessage:
        return
    assert check_channel(channel) != name
    assert room_of(channel) == name


@given(names)
def test_the_name_of_an_event_can_be_sent_or_is_refused(name: Any) -> None:
    try:
        check_event(name)
    except InvalidMessage:
        return
    assert sse.encode("x", event=name).decode().count("\n") == (2 if name == "message" else 3)


@given(
    st.dictionaries(
        legal_channels.map(lambda t: t[:3]) | legal_channels.map(lambda t: t[:2] + "*"),
        st.integers(),
    ),
    legal_channels,
)
def test_what_is_said_of_a_channel_is_what_the_longest_pattern_says(
    said: dict[str, int], channel: str
) -> None:
    fit = [n for n in said if n == channel or (n[-1] == "*" and channel.startswith(n[:-1]))]
    best = channel if channel in said else max(fit, key=len, default=None)
    assert Patterns(said).of(channel, -1) == (-1 if best is None else said[best])


@given(names)
def test_a_pattern_has_one_star_at_its_end_or_is_refused(name: Any) -> None:
    try:
        check_pattern(name)
    except InvalidMessage:
        return
    assert "*" not in name[:-1]


@given(names, st.none() | words)
def test_an_idempotency_key_is_sent_as_utf8_or_refused(key: Any, owner: str | None) -> None:
    try:
        check_key(key)
        owned = owned_key(
            key, owner if owner is None else owner.encode("utf-8", "replace").decode()
        )
    except InvalidMessage:
        return
    assert owned.encode()
    assert len(owned) <= 128
    assert owned.startswith("client:") == (owner is not None)


@given(words, words, words, words)
def test_the_keys_of_two_owners_never_meet(
    key: str, owner: str, other_key: str, other: str
) -> None:
    pairs = [
        (k[:100] or "k", o.encode("utf-8", "replace").decode())
        for k, o in ((key, owner), (other_key, other))
    ]
    try:
        owned = [owned_key(*pair) for pair in pairs]
    except InvalidMessage:
        return
    assert (owned[0] == owned[1]) == (pairs[0] == pairs[1])


# ---- who


@given(anything, anything)
def test_an_identity_is_of_texts_that_can_be_printed_or_refused(id: Any, name: Any) -> None:
    try:
        identity = Identity(id, name)
    except InvalidMessage:
        return
    assert (identity.id + identity.name).encode()


@given(st.none() | clients, st.none() | st.builds(Identity, ids, ids))
def test_who_signed_is_who_comes_out(client: str | None, identity: Identity | None) -> None:
    sender = sign(client, identity)
    assert client_of(sender) == client
    assert identity_of(sender) == identity


@given(st.none() | words | words.map("0123456789abcdef {}".format))
def test_a_sender_that_nobody_signed_is_nobody(sender: str | None) -> None:
    found = identity_of(sender)
    assert found is None or identity_of(sign(client_of(sender), found)) == found


@given(ids, ids)
def test_two_identities_have_two_channels_whatever_they_are_called(one: str, other: str) -> None:
    first, second = user_channel(one), user_channel(other)
    assert (first == second) == (one == other)
    assert presence_channel(first)


class User:
    """Like Flask-Login's, with anything in it."""

    def __init__(self, id: object, name: object, is_in: object) -> None:
        self.id, self.name, self.is_authenticated = id, name, is_in

    def get_id(self) -> object:
        return self.id


@given(st.one_of(anything, st.builds(User, anything, anything, anything)))
def test_what_an_application_says_of_a_user_is_an_identity_nobody_or_its_mistake(
    found: object,
) -> None:
    try:
        identity = as_identity(found)
    except (TypeError, ValueError) as error:
        assert len(str(error)) < 500
        return
    assert identity is None or 1 <= len(identity.id) <= 100


@given(st.none() | words, st.none() | words, st.none() | clients | words)
def test_an_order_means_somebody_or_is_refused(
    identity: str | None, channel: str | None, client: str | None
) -> None:
    try:
        order = order_of(identity, channel, client)
    except (TypeError, InvalidMessage):
        return
    assert (order.identity, order.channel, order.client) != (None, None, None)


@given(st.builds(Member, anything, anything, anything))
def test_a_member_can_be_told_to_others_or_is_refused(member: Member) -> None:
    try:
        check_member(member)
    except InvalidMessage:
        return
    assert len(f"{member.id}{member.name}{member.info}".encode()) <= 4 * 228 + 1024
