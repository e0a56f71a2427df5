"""streaming/hub/orders.py: all processes of a log are told whom to let go of."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from streaming import InvalidMessage
from streaming.hub import orders as orders_module
from streaming.hub.hub import Hub
from streaming.hub.orders import CHANNEL, Order, Orders, give, order_of
from streaming.logs import Log, MemoryLog, SqliteLog
from tests.broken_log import BrokenLog
from tests.hub.engine import channel_of
from tests.polling import wait_until

ADA = Order(identity="ada", is_final=True)


@pytest.fixture
def open_hub() -> Iterator[Callable[[Log], Hub]]:
    """Hubs that are closed after the test, with their logs, however it ends."""
    with ExitStack() as stack:

        def open_hub(log: Log) -> Hub:
            stack.callback(log.close)
            return stack.enter_context(closing(Hub(log)))

        yield open_hub


def test_an_order_is_heard_by_all_who_listen(
    open_hub: Callable[[Log], Hub], tmp_path: Path
) -> None:
    hubs = [open_hub(SqliteLog(tmp_path / "log.db")) for _ in range(3)]
    heard: list[list[Order]] = [[] for _ in hubs]
    orders = [Orders(hub, found.append) for hub, found in zip(hubs, heard, strict=True)]
    for each in orders[:2]:
        each.listen()
        each.listen()
    give(hubs[2], ADA)
    wait_until(lambda: heard[:2] == [[ADA], [ADA]], "both have heard")
    assert heard[2] == []


def test_what_was_heard_is_remembered_from_when_it_was_heard(
    open_hub: Callable[[Log], Hub],
) -> None:
    hub = open_hub(MemoryLog())
    orders = Orders(hub, lambda order: None)
    assert orders.since(0.0) == []
    orders.listen()
    give(hub, ADA)
    wait_until(lambda: orders.since(0.0) == [ADA], "it is heard")
    assert orders.since(float("inf")) == []


def test_what_is_no_order_is_passed_over(open_hub: Callable[[Log], Hub]) -> None:
    hub = open_hub(MemoryLog())
    heard: list[Order] = []
    Orders(hub, heard.append).listen()
    for text in ("", "[]", "7", '{"identity": "ada", "of": "a later version"}', "{", '"x"'):
        hub.publish(CHANNEL, text)
    give(hub, ADA)
    wait_until(lambda: heard, "the one that is an order")
    assert heard == [ADA]


def test_nobody_begins_to_listen_at_the_end(open_hub: Callable[[Log], Hub]) -> None:
    hub = open_hub(MemoryLog())
    hub.close()
    Orders(hub, lambda order: None).listen()
    assert hub.subscribers(CHANNEL) == 0


def test_listening_ends_a_while_after_everybody_has_left_and_begins_again(
    open_hub: Callable[[Log], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders_module, "LINGER", 0.1)
    hub, here = open_hub(MemoryLog()), ["somebody"]
    heard: list[Order] = []
    orders = Orders(hub, heard.append, lambda: not here)
    orders.listen()
    assert hub.subscribers(CHANNEL) == 1
    here.clear()
    wait_until(lambda: hub.subscribers(CHANNEL) == 0, "it ends")
    here.append("somebody else")
    orders.listen()
    give(hub, ADA)
    wait_until(lambda: heard == [ADA], "it is heard again")


def test_who_comes_while_it_is_decided_that_nobody_is_there_is_listened_for(
    open_hub: Callable[[Log], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders_module, "LINGER", 0.1)
    hub, looks = open_hub(MemoryLog()), list[int]()
    heard: list[Order] = []

    def is_idle() -> bool:
        if not looks:
            orders.listen()
        looks.append(hub.subscribers(CHANNEL))
        return len(looks) == 1

    orders = Orders(hub, heard.append, is_idle)
    orders.listen()
    wait_until(lambda: len(looks) > 1 or hub.subscribers(CHANNEL) == 0, "it has been decided")
    give(hub, ADA)
    wait_until(lambda: heard == [ADA], "it is heard")


def test_a_log_that_is_away_is_listened_to_once_it_is_back(open_hub: Callable[[Log], Hub]) -> None:
    log = BrokenLog()
    heard: list[Order] = []
    hub = open_hub(log)
    orders = Orders(hub, heard.append)
    log.broken.add("tail")
    orders.listen()
    assert hub.subscribers(CHANNEL) == 0
    log.broken.clear()
    wait_until(lambda: hub.subscribers(CHANNEL) == 1, "it comes")
    wait_until(lambda: channel_of(hub, CHANNEL).position, "it stands somewhere")
    give(hub, ADA)
    wait_until(lambda: heard == [ADA], "it hears")


@pytest.mark.parametrize(
    "wrong",
    [
        {"identity": ""},
        {"identity": True},
        {"channel": "a b"},
        {"client": "x"},
        {"client": "A" * 16},
    ],
)
def test_an_order_that_means_nobody_is_refused(wrong: dict[str, Any]) -> None:
    whom = {"identity": None, "channel": None, "client": None, **wrong}
    with pytest.raises(InvalidMessage):
        order_of(**whom)


def test_an_order_that_would_mean_everybody_is_refused() -> None:
    with pytest.raises(TypeError, match="Say whom"):
        order_of(None, None, None)


def test_an_order_that_cannot_be_obeyed_is_logged_and_the_next_who_comes_is_heard(
    open_hub: Callable[[Log], Hub], caplog: pytest.LogCaptureFixture
) -> None:
    hub = open_hub(MemoryLog())
    heard: list[Order] = []

    def obey(order: Order) -> None:
        heard.append(order)
        if len(heard) == 1:
            raise ZeroDivisionError("in obeying")

    orders = Orders(hub, obey)
    orders.listen()
    give(hub, ADA)
    wait_until(lambda: hub.subscribers(CHANNEL) == 0, "it has stopped listening")
    orders.listen()
    give(hub, ADA)
    wait_until(lambda: len(heard) == 2, "it hears again")
    assert "in obeying" in caplog.text
    hub.close()
