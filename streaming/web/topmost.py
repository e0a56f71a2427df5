"""What ``Sock.route`` leaves in the place of a handler: it must not be wrapped any more.

A decorator above a route is not called by it: Flask has the function below. That is so for
``app.route``, too, and there it shows: a page is for everybody. A guard above a WebSocket's route
would be silent. So the start of the application fails.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from ..errors import ConfigurationError

Handler = Callable[..., object]


class Routed:
    """Stands for ``handler``, and is called as it.

    ``functools.wraps``, of which decorators are made, reads the ``__dict__`` of what it wraps. Who
    else reads it gets it.
    """

    __wrapped__: Handler

    def __init__(self, handler: Handler) -> None:
        functools.update_wrapper(self, handler, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self.__wrapped__(*args, **kwargs)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        if sys._getframe(1).f_code is functools.update_wrapper.__code__:
            name = getattr(self.__wrapped__, "__qualname__", repr(self.__wrapped__))
            raise ConfigurationError(
                f"A decorator stands above @sock.route of {name}, where it is never called and "
                "protects nothing. Put @sock.route above it, on top of all."
            )
        own: dict[str, Any] = getattr(self.__wrapped__, "__dict__", {})
        return own


def below(handler: Handler) -> Handler:
    """The handler that a route is for; another route may be below this one."""
    return handler.__wrapped__ if isinstance(handler, Routed) else handler
