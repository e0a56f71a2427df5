"""streaming/web/topmost.py: a decorator above a route would protect nothing, so it is refused."""

import inspect
from collections.abc import Callable
from functools import update_wrapper, wraps
from typing import Any

import pytest
from flask_login import login_required
from websockets.sync.client import connect

from streaming import Connection, Sock
from streaming.errors import ConfigurationError
from tests.polling import PATIENCE
from tests.sites import make_app, serve


def by_hand(view: Callable[..., object]) -> Callable[..., object]:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> object:
        return view(*args, **kwargs)

    return guarded


class AsAClass:
    def __init__(self, view: Callable[..., object]) -> None:
        update_wrapper(self, view)
        self._view = view

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self._view(*args, **kwargs)


def hello(ws: Connection) -> None:
    """Says hello."""
    ws.send("hello")


GUARDS = [login_required, by_hand, AsAClass]


@pytest.mark.parametrize("guard", GUARDS)
def test_a_decorator_above_a_route_is_refused_where_it_stands(guard: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"above @sock\.route of hello"):
        guard(Sock(make_app()).route("/socket")(hello))


def test_that_is_so_for_a_guarded_handler_on_a_waiting_sock_and_for_two_decorators() -> None:
    with pytest.raises(ConfigurationError, match=r"Put @sock\.route above it"):
        by_hand(AsAClass(Sock().route("/socket")(by_hand(hello))))


def test_below_a_route_decorators_stand_as_they_like() -> None:
    app = make_app()
    Sock(app).route("/socket")(by_hand(AsAClass(by_hand(hello))))
    with serve(app) as site, connect(f"{site.ws_url}/socket") as ws:
        assert ws.recv(PATIENCE) == "hello"


def test_a_handler_may_have_two_routes() -> None:
    app = make_app()
    sock = Sock(app)
    sock.route("/one", endpoint="one")(sock.route("/two", endpoint="two")(hello))
    with serve(app) as site:
        for path in ("/one", "/two"):
            with connect(f"{site.ws_url}{path}") as ws:
                assert ws.recv(PATIENCE) == "hello"


def test_what_a_route_leaves_is_called_and_looked_at_as_the_handler() -> None:
    def double(number: int) -> int:
        return 2 * number

    double.mark = "x"  # type: ignore[attr-defined]
    routed = Sock(make_app()).route("/socket")(double)
    assert routed(4) == 8
    assert (routed.__name__, routed.__module__) == ("double", __name__)
    assert inspect.signature(routed) == inspect.signature(double)
    assert vars(routed)["mark"] == "x"
