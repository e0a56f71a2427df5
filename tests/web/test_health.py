"""streaming/web/health.py: what is known of the log, freshly looked at once a second."""

import threading
from typing import Any

import pytest

from streaming import LogUnavailable
from streaming.web.health import FRESH, Health
from tests.clock import Clock
from tests.polling import PATIENCE, wait_until
from tests.sites import make_app


class Log:
    """A log that counts how often it is looked at, and may be away or slow."""

    def __init__(self) -> None:
        self.looks = 0
        self.fault = ""
        self.is_let = threading.Event()
        self.is_let.set()

    def check(self) -> None:
        self.looks += 1
        assert self.is_let.wait(PATIENCE)
        if self.fault:
            raise LogUnavailable(self.fault)


def made() -> tuple[Any, Clock, Health]:
    log, clock = Log(), Clock()
    return log, clock, Health(log, clock=clock)  # type: ignore[arg-type]


def test_whoever_asks_again_within_a_second_costs_the_log_nothing() -> None:
    log, clock, health = made()
    for _ in range(50):
        health.check()
    assert log.looks == 1
    clock.now += FRESH
    health.check()
    assert log.looks == 2


def test_a_log_that_is_away_is_known_to_be_for_a_second_and_then_looked_at_again() -> None:
    log, clock, health = made()
    log.fault = "The disk is full."
    for _ in range(50):
        with pytest.raises(LogUnavailable, match="The disk is full"):
            health.check()
    assert log.looks == 1
    log.fault = ""
    clock.now += FRESH
    health.check()
    assert log.looks == 2


def test_while_one_looks_all_others_are_answered_from_what_is_known() -> None:
    log, clock, health = made()
    health.check()
    clock.now += FRESH
    log.is_let.clear()
    slow = threading.Thread(target=health.check)
    slow.start()
    wait_until(lambda: log.looks == 2, "the look")
    for _ in range(10):
        health.check()
    assert log.looks == 2
    log.is_let.set()
    slow.join()


def test_where_nothing_is_known_yet_all_wait_for_one_look() -> None:
    log, _, health = made()
    log.is_let.clear()
    threads = [threading.Thread(target=health.check) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: log.looks == 1, "the look")
    log.is_let.set()
    for thread in threads:
        thread.join()
    assert log.looks == 1


def test_a_stranger_who_asks_a_hundred_times_has_one_look_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make_app()
    looks: list[int] = []
    state = app.extensions["streaming"]
    monkeypatch.setattr(type(state.hub.log), "check", lambda self: looks.append(1))
    monkeypatch.setattr(state.health, "_clock", lambda: 100.0)
    client = app.test_client()
    assert {client.get("/streaming/readyz").status_code for _ in range(100)} == {200}
    assert looks == [1]
    state.close()
    assert client.get("/streaming/readyz").status_code == 503  # that is known at once
