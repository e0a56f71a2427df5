"""What one application has in one process: its hub, its registry, its settings."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Literal
from weakref import WeakSet

from flask import Flask, current_app
from werkzeug.exceptions import HTTPException

from ..clients.registry import Registry
from ..clients.upstreams import hang_up
from ..errors import ConfigurationError, Forbidden, HubClosed, StreamingError
from ..hub.hub import Hub
from ..hub.making import PREFIX
from ..hub.presence import Presence, is_presence_channel, room_of
from ..hub.runs import Runs
from ..logs import Log, open_log
from ..names import check_channel
from ..own import Own
from ..settings import Settings
from ..threads import from_any_thread, note_greenlets
from .health import Health
from .unheard import Unheard

_log = logging.getLogger(__name__)

Action = Literal["publish", "subscribe", "stop"]
Authorize = Callable[[Action, str], bool]
"""Asked ``(action, channel)`` inside the request; True if its client may do that."""

QUIET = 60.0
"""Seconds after an ``authorize`` that failed is logged until another one is."""

_log = logging.getLogger(__name__)


def only_subscribe(action: Action, channel: str) -> bool:
    """The default: everybody may subscribe, nobody may publish over the network."""
    return action == "subscribe"


@dataclass(eq=False, slots=True, weakref_slot=True)
class State:
    """Everything the transports of one application share. No thread before it is used."""

    settings: Settings
    hub: Hub
    authorize: Authorize = only_subscribe
    name: str = "streaming"
    """What the blueprint is called in the application."""
    presence: Presence = field(init=False)
    _registry: Own[Registry] = field(init=False)
    _runs: Own[Runs] = field(init=False)
    health: Health = field(init=False)
    unheard: Unheard = field(default_factory=Unheard)
    _failed: float | None = field(default=None, init=False)
    """When it was last said that ``authorize`` failed (``time.monotonic``)."""

    def __post_init__(self) -> None:
        self.presence = Presence(self.hub)
        self.health = Health(self.hub.log)
        self._registry = Own(lambda: Registry(self.settings.clients))
        self._runs = Own(self._make_runs)
        self.hub.watch(PREFIX, lambda channel: self.runs.note_reader(channel))

    def _make_runs(self) -> Runs:
        return Runs(self.hub, self.presence, most=self.settings.runs, hang_up=hang_up)

    @property
    def registry(self) -> Registry:
        """Who is connected to this process."""
        return self._registry()

    @property
    def runs(self) -> Runs:
        """The answers of the log, and those that this process makes."""
        return self._runs()

    def check_allowed(self, action: Action, channel: str) -> None:
        """Return if the client of this request may do this, now.

        ``authorize`` is asked only where nothing else refuses. If it fails it has refused: with
        the words and the status of what it raised, if that was an error of HTTP or ours.

        Who may subscribe to a room may know who is in it: ``authorize`` is asked for the room. To
        a presence channel no client publishes, or it could forge who is there.

        The name is checked first: ``authorize`` is asked for channels that can exist. If it raises,
        it has refused.

        Raises:
            InvalidMessage: If no channel is called so.
            Forbidden: If it may not.
            HubClosed: If it wants to publish to a server that is about to stop.
        """
        room = check_channel(room_of(check_channel(channel)))  # ":presence" has none
        if action == "publish" and self.hub.closed.is_set():
            raise HubClosed(
                "The server is restarting. Nothing was published. Try again in a moment."
            )
        if action == "publish" and is_presence_channel(channel):
            raise Forbidden(f"Nobody publishes to {channel!r:.100}: only joining and leaving does.")
        if not self._ask(action, room):
            raise Forbidden(
                f"You may not {action} here (channel {channel!r:.100}). "
                "The application decides with Streaming(authorize=…)."
            )

    def _ask(self, action: Action, channel: str) -> bool:
        try:
            answer: object = self.authorize(action, channel)
            if answer is not True and isawaitable(answer):  # that is true, whatever it says
                raise ConfigurationError("authorize is async; it must be an ordinary function.")
            return bool(answer)
        except StreamingError:
            raise
        except HTTPException as error:
            refusal = Forbidden(error.description or error.name)
            if error.code is not None and 400 <= error.code < 500:
                refusal.status = error.code  # type: ignore[misc]  # it differs by instance
            raise refusal from error
        except Exception:
            now = time.monotonic()
            if self._failed is None or now - self._failed > QUIET:  # strangers can call it often
                self._failed = now
                _log.exception("authorize failed for %s %r, which is refused", action, channel)
            return False

    @from_any_thread
    def close(self) -> None:
        """Drain: end every stream and WebSocket properly, refuse new ones. Does not wait."""
        self.runs.making.close()
        self.hub.close()
        self.presence.close()
        self.registry.close(HubClosed())


states: WeakSet[State] = WeakSet()
"""Those of this process."""


def check_unset(app: Flask) -> None:
    """Return if ``app`` has no state yet.

    Raises:
        ConfigurationError: If it has one.
    """
    if "streaming" in app.extensions:
        raise ConfigurationError(
            "Streaming is set up twice on this app. Keep one: Streaming(app), init_app or the "
            "registration of its blueprint."
        )


def create_state(app: Flask, authorize: Authorize, name: str = "streaming") -> State:
    """Give ``app`` its state.

    Raises:
        ConfigurationError: If it has one already, or a setting is wrong.
    """
    check_unset(app)
    settings = Settings.from_config(app.config)
    hub = Hub(
        _open_log(settings, app.instance_path),
        message_size=settings.message_size,
        policies=settings.policies,
    )
    state = app.extensions["streaming"] = State(settings, hub, authorize=authorize, name=name)
    states.add(state)
    note_greenlets()
    return state


def _open_log(settings: Settings, folder: str) -> Log:
    try:
        return open_log(settings.log, settings.retention, folder)
    except ConfigurationError as error:
        if "STREAMING_LOG" in str(error):
            raise
        raise ConfigurationError(f"STREAMING_LOG cannot be used: {error}") from error


def current_state() -> State:
    """The state of the application that handles this request.

    Raises:
        ConfigurationError: If it has none.
    """
    state = current_app.extensions.get("streaming")
    if not isinstance(state, State):
        raise ConfigurationError("This app has no streaming yet. Call Streaming(app) at start.")
    return state
