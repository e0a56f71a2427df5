"""What tests look at inside a hub's engine, in one place."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streaming.hub.channel import Channel
from streaming.hub.hub import Hub
from streaming.logs import MemoryLog
from streaming.message import Position
from tests.polling import wait_until

THREAD = "streaming dispatcher"


def channel_of(hub: Hub, name: str = "a") -> Channel:
    """The followed channel; fails if nobody follows it."""
    channel = hub._dispatcher.channel(name)
    assert channel is not None, f"nobody follows {name}"
    return channel


def head_of(hub: Hub, name: str = "a") -> Position:
    """Where the dispatcher stands."""
    position = channel_of(hub, name).position
    assert position is not None
    return position


def is_at_rest(hub: Hub, name: str = "a") -> bool:
    """Whether the dispatcher has offered all there is, and rung everybody for it."""
    channel, workers = channel_of(hub, name), hub._dispatcher._workers
    is_done = channel not in workers._queue and channel not in workers._busy and not channel.news
    if not is_done or channel.written is None:
        return False
    head = MemoryLog.tail(hub.log, name)  # type: ignore[arg-type]  # also where a test breaks it
    return head.is_same(channel.written)


def settle(hub: Hub, *names: str) -> None:
    """Wait until the dispatcher is at rest in these channels."""
    for name in names or ("a",):
        wait_until(lambda name=name: is_at_rest(hub, name), f"all of {name} is offered")


def dispatchers(hub: Hub) -> list[threading.Thread]:
    """The threads that deliver for this hub, whatever another test has left behind."""
    workers = hub._dispatcher._workers
    return [
        thread
        for thread in threading.enumerate()
        if thread.name == THREAD
        and getattr(getattr(thread, "_target", None), "__self__", None) is workers
    ]


def check_nothing_is_left(hub: Hub) -> None:
    """No channel, no follow in the log, nothing under way, no thread: after everybody left."""
    engine, log = hub._dispatcher, hub.log
    assert engine._channels == {}, "a subscription was left open"
    assert isinstance(log, MemoryLog)
    assert log._followers.names() == (), "the log still tells of a channel"
    wait_until(lambda: not dispatchers(hub), "the dispatcher has ended")
    workers = engine._workers
    assert workers._count == 0
    assert workers._queue == workers._busy == workers._late == workers._idle == {}
    assert engine._fanouts == {}


@contextmanager
def hurried(is_hurried: bool = True) -> Iterator[None]:
    """Threads are interrupted everywhere, instead of every 5 ms."""
    before = sys.getswitchinterval()
    if is_hurried:
        sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Crew:
    """Threads whose faults are the test's."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._faults: list[BaseException] = []

    def start(self, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                work()
            except BaseException as fault:
                self._faults.append(fault)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    @property
    def has_faults(self) -> bool:
        return bool(self._faults)

    def join(self, patience: float = 60) -> None:
        for thread in self._threads:
            thread.join(patience)
            if self._faults:
                break
            assert not thread.is_alive(), "a thread sleeps for ever"
        self._threads.clear()
        for fault in self._faults:
            raise fault
