"""streaming/web/state.py: what one application has in one process, and nobody else's."""

import gc
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from flask import Flask

from streaming import ConfigurationError, HubClosed, InvalidMessage
from streaming.logs import Log
from streaming.own import Alive
from streaming.web import state
from streaming.web.draining import close_all, close_logs
from streaming.web.state import State, create_state, current_state
from tests.sites import make_app, serve


def state_of(app: Flask) -> State:
    return app.extensions["streaming"]


@pytest.mark.parametrize("name", ["", "a b", "private-1\n", "x" * 300_000, ":presence", None])
def test_a_name_is_checked_before_authorize_is_asked(name: str) -> None:
    asked: list[str] = []
    own = create_state(Flask("x"), lambda action, channel: bool(asked.append(channel)) or True)
    for action in ("subscribe", "publish"):
        with pytest.raises(InvalidMessage) as refused:
            own.check_allowed(action, name)  # type: ignore[arg-type]
        assert len(str(refused.value)) < 250
    assert asked == []
    own.check_allowed("subscribe", "room:presence")
    assert asked == ["room"]


def test_an_answer_that_would_have_to_be_awaited_is_not_taken_for_a_yes() -> None:
    class Waiting:
        def __await__(self) -> Iterator[None]:
            yield

    own = create_state(Flask("x"), lambda action, channel: Waiting())  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigurationError, match="authorize is async"):
        own.check_allowed("subscribe", "a")


def test_two_apps_in_one_process_do_not_see_each_other() -> None:
    with serve(make_app()) as one, serve(make_app()) as two:
        stream = "/streaming/events?channel=a"
        with one.get(stream) as first, two.get(stream) as second:
            for client in (first, second):
                ready = client.next_event()
                assert ready is not None
                assert ready.event == "ready"
            assert (len(one.registry), len(two.registry)) == (1, 1)
            one.state.hub.publish("a", "of one", key="k")
            two.state.hub.publish("a", "of two", key="k")
            assert [c.next_event().data for c in (first, second)] == ["of one", "of two"]  # type: ignore[union-attr]
            one.state.close()
            assert [event.event for event in first.events()] == ["restart"]
            two.state.hub.publish("a", "goes on")
            assert second.next_event().data == "goes on"  # type: ignore[union-attr]


def test_an_id_of_one_app_is_a_gap_in_the_other() -> None:
    one, two = state_of(make_app()), state_of(make_app())
    posted = one.hub.publish("a", "x")
    two.hub.publish("a", "y")
    with two.hub.subscribe("a", after=str(posted.id)) as sub:
        gap, message = sub.read()
        assert (gap.requested, message.data) == (posted.id, "y")  # type: ignore[union-attr]


def test_the_state_of_a_request_is_its_applications() -> None:
    one, two = make_app(), make_app()
    with one.app_context():
        assert current_state() is state_of(one)
    with two.app_context():
        assert current_state() is state_of(two)


def test_an_app_without_the_extension_is_told_what_to_do() -> None:
    with Flask("x").app_context(), pytest.raises(ConfigurationError, match=r"Streaming\(app\)"):
        current_state()


def test_a_second_state_for_one_app_is_refused() -> None:
    app = make_app()
    with pytest.raises(ConfigurationError, match="set up twice"):
        create_state(app)


def test_closing_ends_subscriptions_refuses_new_ones_and_may_be_repeated() -> None:
    own = state_of(make_app())
    with own.hub.subscribe("a") as sub:
        own.close()
        own.close()
        with pytest.raises(HubClosed):
            sub.read()
    with pytest.raises(HubClosed):
        own.hub.subscribe("a")
    with pytest.raises(HubClosed):
        own.check_allowed("publish", "a")
    own.check_allowed("subscribe", "a")


def test_all_applications_of_the_process_are_drained_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state, "states", Alive())
    apps = [make_app() for _ in range(3)]
    close_all()
    assert all(state_of(app).hub.closed.is_set() for app in apps)


@pytest.mark.parametrize("failing", range(3))
def test_one_that_cannot_be_drained_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: int
) -> None:
    monkeypatch.setattr(state, "states", Alive())
    apps = [make_app() for _ in range(3)]
    log = state_of(apps[failing]).hub.log
    with monkeypatch.context() as patch:
        patch.setattr(state_of(apps[failing]).presence, "close", lambda: 1 // 0)
        close_all()
    assert all(state_of(app).hub.closed.is_set() for app in apps)
    with monkeypatch.context() as patch:
        closed: list[Log] = []
        for each in state.states:
            patch.setattr(each.hub.log, "close", partial(closed.append, each.hub.log))
        patch.setattr(log, "close", lambda: 1 // 0)
        close_logs()
    assert len(closed) == 2
    assert caplog.text.count("ZeroDivisionError") == 2


def test_an_application_that_is_dropped_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: Alive[State] = Alive()
    monkeypatch.setattr(state, "states", kept)
    app = make_app()
    assert len(list(kept)) == 1
    del app
    gc.collect()
    assert len(list(kept)) == 0


def test_a_state_has_no_thread_before_it_is_used() -> None:
    before = set(threading.enumerate())
    own = state_of(make_app())
    own.hub.publish("a", "x")
    assert set(threading.enumerate()) <= before
