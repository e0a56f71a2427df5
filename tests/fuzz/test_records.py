"""What a log gives back that somebody else has put there: orders, parts, Redis' records, files."""

import functools
import json
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streaming.errors import ChannelEnded, InvalidMessage, LogUnavailable
from streaming.hub.orders import Order, order_of
from streaming.hub.parts import KINDS, TEXTS, Answer, Part
from streaming.logs import Member, SqliteLog
from streaming.logs.redis.messages import announced, stored
from streaming.logs.redis.rooms import _parse as parse_seat
from streaming.message import Message, Position
from tests.fuzz.strategies import (
    anything,
    clients,
    ids,
    json_like,
    json_objects,
    json_values,
    legal_channels,
    positions,
    texts,
    words,
)

_fields = ["identity", "channel", "client", "is_final"]
_orders = st.dictionaries(st.sampled_from(_fields) | words, json_values, max_size=4).map(json.dumps)


@given(_orders | json_like)
@example("{}")
@example("[" * 100_000)
def test_an_order_that_is_heard_means_somebody_or_is_none(text: str) -> None:
    order = Order.parse(text)
    if order is not None:
        said = (order.identity, order.channel, order.client)
        assert any(said)
        assert all(name is None or isinstance(name, str) for name in said)
        assert isinstance(order.is_final, bool)


@given(st.none() | ids, st.none() | legal_channels, clients, st.booleans())
def test_an_order_is_heard_as_it_was_given(
    identity: str | None, channel: str | None, client: str, is_final: bool
) -> None:
    order = order_of(identity, channel, client, is_final=is_final)
    assert Order.parse(order.text()) == order


# ---- runs

_kinds = st.sampled_from(
    ["text", "reasoning", "tool-call", "usage", "problem", "start", "end", "x"]
)
_said = st.one_of(words, json_like, json_values.map(json.dumps), json_objects.map(json.dumps))


def messages_of(said: list[tuple[str, str]]) -> list[Message]:
    return [
        Message("run:a", data, Position("e", at), event) for at, (event, data) in enumerate(said, 1)
    ]


@given(st.lists(st.tuples(_kinds, _said), max_size=6))
@example([("start", "1"), ("data", "no JSON"), ("data", '"\\ud800"'), ("usage", "1e999")])
@example([("end", '{"state":"failed","status":200,"retry_after":"1\\r\\nX: y"}')])
def test_whatever_is_in_the_channel_of_a_run_it_can_be_described(
    said: list[tuple[str, str]],
) -> None:
    answer = Answer("a")
    answer.add(messages_of(said))
    json.dumps(answer.describe(), allow_nan=False)
    assert "\n" not in "".join(answer.error.headers.values())
    assert isinstance(answer.is_over, bool)
    assert 400 <= answer.error.status < 600


@given(st.sampled_from(KINDS), anything | st.floats() | st.lists(st.floats()))
@example("data", float("nan"))
def test_a_part_comes_out_of_its_channel_as_it_went_in_or_is_refused(kind: str, data: Any) -> None:
    try:
        part = Part(kind, data)
        (message,) = messages_of([(part.event, part.printed)])
    except InvalidMessage:
        return
    found = Part.of(message)
    assert found is not None
    assert found.kind == kind
    if kind not in TEXTS:
        json.loads(message.data, parse_constant=pytest.fail)
    assert found.printed == part.printed


# ---- Redis


@given(
    words | st.builds("{} {}\n{}".format, positions, json_like | json_values.map(json.dumps), words)
)
def test_an_announcement_is_a_place_a_message_or_nothing(said: str) -> None:
    place, message = announced("a", said)
    if message is not None:
        assert message.id == place
        assert said.endswith(message.data)
        assert all(isinstance(v, str | None) for v in (message.event, message.sender, message.key))


@given(positions, words.filter(bool), words, words, words)
def test_an_announced_message_is_the_one_that_was_appended(
    place: Position, event: str, sender: str, key: str, text: str
) -> None:
    said = f"{place} {json.dumps([event, sender, key])}\n{text}"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return
    expected = Message("a", text, place, event, sender or None, key or None, size)
    assert announced("a", said) == (place, expected)


_entry_fields = st.lists(st.sampled_from("desk") | words, max_size=8).map(
    lambda names: [part for n, name in enumerate(names) for part in (name, str(n))]
)


@given(st.integers(0, 2**63), _entry_fields)
def test_an_entry_of_a_stream_is_a_message_or_somebody_elses(
    offset: int, fields: list[str]
) -> None:
    try:
        message = stored("a", "e", [f"{offset}-0", fields])
    except LogUnavailable:
        assert "d" not in fields[::2]
    else:
        assert message.id == Position("e", offset)
        assert message.size == len(message.data.encode())


_seats = json_like | st.tuples(st.integers(), clients, words).map(json.dumps)
_more = json_like | st.tuples(words, st.dictionaries(clients, json_values)).map(json.dumps)


@given(
    words.filter(bool), _seats | json_values.map(json.dumps), st.none() | _more, st.sets(clients)
)
def test_a_member_in_redis_is_of_texts_or_somebody_elses(
    id: str, row: str, more: str | None, workers: set[str]
) -> None:
    try:
        placed = parse_seat(id, row, more, workers)
    except LogUnavailable:
        return
    if placed is not None:
        place, member = placed
        assert isinstance(place, int)
        assert isinstance(member.info, str)
        assert isinstance(member.name, str)
        assert member.connections > 0


# ---- SQLite


@functools.cache
def whole_file() -> bytes:
    """A log's file with some of everything, closed properly."""
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteLog(f"{folder}/log.db")
        for n in range(12):
            log.append("a", f"text {n}" * n, event="tick", sender=' ["1","A"]', key=f"key {n}")
        log.append("b", "the end", last=True)
        log.enter("a", Member("m", "info", "name"), says=True)
        log.close()
        with closing(sqlite3.connect(f"{folder}/log.db")) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(f"{folder}/log.db").read_bytes()


_damage = st.lists(
    st.tuples(st.integers(0, 200_000), st.binary(min_size=1, max_size=8)), max_size=6
)


@given(_damage, st.none() | st.integers(0, 200_000))
def test_a_damaged_file_gives_messages_of_text_or_says_that_the_log_is_away(
    damage: list[tuple[int, bytes]], end: int | None
) -> None:
    data = bytearray(whole_file())
    for at, foreign in damage:
        at %= len(data)
        data[at : at + len(foreign)] = foreign
    with tempfile.TemporaryDirectory() as folder:
        Path(f"{folder}/log.db").write_bytes(data[: None if end is None else end % len(data)])
        log = SqliteLog(f"{folder}/log.db")
        try:
            use(log)
        finally:
            with suppress(LogUnavailable):
                log.close()


@functools.cache
def columns() -> list[tuple[str, str]]:
    """Of all tables in a log's file."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(whole_file())
        with closing(sqlite3.connect(file.name)) as db:
            tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            names = [
                (t, row[1]) for (t,) in tables for row in db.execute(f"PRAGMA table_info({t})")
            ]
    return [(table, name) for table, name in names if not table.startswith("sqlite_")]


_cells = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=5),
    texts,
)


@given(st.lists(st.tuples(st.integers(0, 99), _cells), min_size=1, max_size=3))
def test_what_somebody_else_writes_into_the_tables_is_text_or_says_that_the_log_is_away(
    written: list[tuple[int, Any]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(f"{folder}/log.db").write_bytes(whole_file())
        log = SqliteLog(f"{folder}/log.db")
        log.tail("a", 0)
        with closing(sqlite3.connect(f"{folder}/log.db", isolation_level=None)) as db:
            for place, value in written:
                table, column = columns()[place % len(columns())]
                with suppress(sqlite3.IntegrityError):
                    db.execute(f"UPDATE {table} SET {column} = ?", (value,))
        try:
            use(log)
        finally:
            with suppress(LogUnavailable):
                log.close()


def use(log: SqliteLog) -> None:
    """All that is asked of a log; what it gives is what the contract says."""
    for channel in ("a", "b", "c"):
        with suppress(LogUnavailable):
            page = log.read(channel, log.tail(channel, 50), limit=50, size=10**6)
            for message in page.messages:
                texts = (message.data, message.event, message.sender or "", message.key or "")
                assert all(isinstance(text, str) for text in texts), message
                assert isinstance(message.id.offset, int)
    for member in members(log):
        assert all(isinstance(text, str) for text in (member.id, member.info, member.name))
    for ask in (
        lambda: log.channels("", 10),
        lambda: log.append("a", "more", key="key 3"),
        lambda: log.append("b", "too late"),
        lambda: log.enter("a", Member("m2"), says=True),
        lambda: log.leave("a", "m2"),
        log.beat,
    ):
        with suppress(LogUnavailable, ChannelEnded):
            ask()


def members(log: SqliteLog) -> list[Member]:
    try:
        return log.members("a")
    except LogUnavailable:
        return []
