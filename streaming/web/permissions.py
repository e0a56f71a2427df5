"""Who somebody is, and what it may do: the package's own rules, then the application's answer."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Literal, TypeVar

from flask import Flask, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.local import LocalProxy

from ..errors import ConfigurationError, Forbidden, InvalidMessage, StreamingError
from ..hub.making import PREFIX
from ..identity import USERS, Identity, user_channel
from ..names import Patterns

T = TypeVar("T")

Action = Literal["publish", "subscribe", "stop"]

Authorize = Callable[..., bool]
"""Asked ``(action, channel)`` or ``(action, channel, identity)`` inside the request; True if its
client may do that."""

Identify = Callable[[], object]
"""Asked inside the request who its client is."""

Check = Callable[[Identity | None], None]
"""Raises ``Forbidden`` for somebody who may not be here."""

PRIVATE = "private:"
"""What the names of channels begin with that are closed until ``authorize`` says yes."""

QUIET = 60.0
"""Seconds after a call of the application that failed is logged until another one is."""

_FOUND = "streaming.identity"
"""Where in the WSGI environment it stands who the client is, once that was asked."""

_log = logging.getLogger(__name__)


class Failed(Forbidden):
    """A function of the application has failed, which refuses."""


class Permissions:
    """What the clients of one application may do.

    Args:
        authorize: The application's own answer, if it has one.
        identify: Says who the client of the current request is.
        public: Names and patterns of channels that anybody may read, without ``authorize``.

    Raises:
        ConfigurationError: If one of the functions is none, or async.
    """

    def __init__(
        self,
        authorize: Authorize | None = None,
        identify: Identify | None = None,
        public: Collection[str] = (),
    ) -> None:
        for name, given in (("authorize", authorize), ("identify", identify)):
            if given is not None and (not callable(given) or iscoroutinefunction(given)):
                raise ConfigurationError(
                    f"{name} is {given!r:.100}; it must be a function, not async."
                )
        self._authorize = authorize
        self._takes_identity = authorize is not None and _takes_three(authorize)
        self._identify = identify
        self._public = Patterns(dict.fromkeys(public, True))
        self.says_anything: bool = bool(authorize or identify or public)
        """Whether the application says anything of who may do what."""
        self._failed = float("-inf")
        self._is_noted = False

    @property
    def is_asked(self) -> bool:
        """Whether the application has an answer of its own."""
        return self._authorize is not None

    # ---- who

    def identity(self) -> Identity | None:
        """Who the client of this request is; None for a stranger. Asked once for each request.

        Raises:
            Forbidden: If the application's ``identify`` refuses, or fails.
        """
        identify = self._identify
        if identify is None:
            return None
        environ = request.environ
        if _FOUND not in environ:
            environ[_FOUND] = self._call("identify", lambda: as_identity(identify()))
        found: Identity | None = environ[_FOUND]
        return found

    # ---- what

    def check(self, action: Action, channel: str, identity: Identity | None) -> None:
        """Return if ``identity`` may do this in ``channel``, which is no presence channel.

        Raises:
            Forbidden: If it may not; with the status and words of an error of HTTP or ours that
                ``authorize`` raised.
        """
        refusal = self._refusal(action, channel, identity)
        if refusal is not None:
            raise Forbidden(f"You may not {action} here (channel {channel!r:.100}). {refusal}")

    def _refusal(self, action: Action, channel: str, identity: Identity | None) -> str | None:
        if action == "subscribe" and self._identify is not None and channel.startswith(USERS):
            is_own = identity is not None and channel == user_channel(identity.id)
            return None if is_own else "It is somebody else's."
        if self._authorize is not None:
            asked = (action, channel, identity)[: 3 if self._takes_identity else 2]
            authorize = self._authorize
            is_allowed = self._call("authorize", lambda: _answer(authorize(*asked)))
            return None if is_allowed else "The application decides with Streaming(authorize=…)."
        if action != "subscribe":
            return "Nobody may, unless the application says so with Streaming(authorize=…)."
        if channel.startswith(USERS):
            return (
                "It is open to whom Streaming(identify=…) says that it belongs, or to whom "
                "Streaming(authorize=…) lets in."
            )
        if channel.startswith(PRIVATE):
            return "It is open to nobody, unless Streaming(authorize=…) says so."
        if channel.startswith(PREFIX) or self._public.of(channel, False):
            return None  # who knows a run's name was given it
        if identity is not None:
            return None
        if current_app.debug:
            self._note_debug(channel)
            return None
        return (
            "Without Streaming(authorize=…), strangers may read what STREAMING_PUBLIC lists, such "
            "as ['news', 'ticker:*'] (and everything in debug mode)."
        )

    def _note_debug(self, channel: str) -> None:
        """Say once what is open in debug mode alone."""
        if not self._is_noted:
            self._is_noted = True
            _log.warning(
                "Debug mode lets strangers read every channel. Without it they get what "
                "STREAMING_PUBLIC lists, and %r is not in it.",
                channel,
            )

    def later(self, identity: Identity | None) -> Callable[[Action, str], None]:
        """``check`` for the client of this request, once the request is over.

        ``authorize`` is asked as if the client had made its request again: the same request and
        session, and what ``before_request`` puts into ``g``.
        """
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        environ, is_ours = request.environ, self._authorize is None

        def ask(action: Action, channel: str) -> None:
            with app.app_context() if is_ours else self._again(app, environ):
                self.check(action, channel, identity)

        return ask

    def still(
        self, identity: Identity | None, *, is_proven: bool = False
    ) -> Callable[[Check], None] | None:
        """Asks about the client of this request, who is ``identity``, as if it made its request
        again: who it is, and then ``check``. None where the application has nothing to say.

        ``is_proven``: who it is stands on a ticket, and is not asked. What is returned raises
        ``Forbidden``.
        """
        if self._authorize is None and (is_proven or self._identify is None):
            return None
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        environ = request.environ

        def ask(check: Check) -> None:
            fresh = {key: value for key, value in environ.items() if key != _FOUND}
            with self._again(app, fresh):
                now = identity if is_proven else self.identity()
                if (now and now.id) != (identity and identity.id):
                    raise Forbidden("It is somebody else by now.")
                check(now)

        return ask

    # ---- calls of the application's functions

    @contextmanager
    def _again(self, app: Flask, environ: dict[str, Any]) -> Iterator[None]:
        """Inside the request of ``environ`` once more, behind the application's hooks.

        Raises:
            Forbidden: If they answer or raise.
        """
        with app.request_context(environ):
            answer = self._call("before_request", app.preprocess_request)
            if answer is not None:
                status = app.make_response(answer).status_code
                raise _refused(status, "The application refuses this request now.")
            yield

    def _call(self, name: str, call: Callable[[], T]) -> T:
        """What ``call`` returns. Where it fails it has refused."""
        try:
            return call()
        except StreamingError:
            raise
        except HTTPException as error:
            raise _refused(error.code, error.description or error.name) from error
        except Exception as error:
            now = time.monotonic()
            if now - self._failed > QUIET:  # strangers can call it often
                self._failed = now
                _log.exception("%s failed, which refuses", name)
            raise Failed(f"{name} failed. The application's log says why.") from error


def _refused(status: int | None, why: str) -> Forbidden:
    refusal = Forbidden(why)
    if status is not None and 400 <= status < 500:
        refusal.status = status  # type: ignore[misc]  # it differs by instance
    return refusal


def _takes_three(authorize: Authorize) -> bool:
    try:
        inspect.signature(authorize).bind("subscribe", "news", None)
    except (TypeError, ValueError):  # or nobody knows, as of what is written in C
        return False
    return True


def _answer(answer: object) -> bool:
    if answer is not True and isawaitable(answer):  # that is true, whatever it says
        raise ConfigurationError("authorize is async; it must be an ordinary function.")
    return bool(answer)


def as_identity(found: object) -> Identity | None:
    """What an ``identify`` has returned, as an identity: None, an ``Identity``, an id as text or
    number, or a user as Flask-Login has them.

    Raises:
        TypeError: If it is none of these.
        ValueError: If its id or name cannot be one.
    """
    if isinstance(found, LocalProxy):
        found = found._get_current_object()
    if isawaitable(found):
        raise TypeError("identify is async; it must be an ordinary function.")
    if isinstance(found, Identity | None):
        return found
    name: object = ""
    if callable(get_id := getattr(found, "get_id", None)):
        if not getattr(found, "is_authenticated", True):
            return None
        name = getattr(found, "name", None) or getattr(found, "username", None) or ""
        found = get_id()
    if found is None or found == "":
        return None
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise TypeError(
            f"identify returned {found!r:.100}; it is to return None, an Identity, an id as text, "
            "or a user with get_id()."
        )
    try:
        return Identity(str(found), str(name)[:100])
    except InvalidMessage as error:
        raise ValueError(str(error)) from error
