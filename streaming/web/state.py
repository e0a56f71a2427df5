"""What one application has in one process: its hub, its registry, its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakSet

from flask import Flask, current_app

from ..clients.registry import Registry
from ..clients.upstreams import hang_up
from ..errors import ConfigurationError, Forbidden, HubClosed
from ..hub.hub import Hub
from ..hub.making import PREFIX
from ..hub.presence import Presence, is_presence_channel, room_of
from ..hub.runs import Runs
from ..identity import Identity
from ..logs import Log, open_log
from ..names import check_channel
from ..own import Own
from ..settings import Settings
from ..threads import from_any_thread, note_greenlets
from .health import Health
from .permissions import Action, Authorize, Identify, Permissions
from .unheard import Unheard


@dataclass(eq=False, slots=True, weakref_slot=True)
class State:
    """Everything the transports of one application share. No thread before it is used."""

    settings: Settings
    hub: Hub
    permissions: Permissions = field(default_factory=Permissions)
    name: str = "streaming"
    """What the blueprint is called in the application."""
    presence: Presence = field(init=False)
    _registry: Own[Registry] = field(init=False)
    _runs: Own[Runs] = field(init=False)
    health: Health = field(init=False)
    unheard: Unheard = field(default_factory=Unheard)

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

        Raises:
            InvalidMessage: If no channel is called so.
            Forbidden: If it may not.
            HubClosed: If it wants to publish to a server that is about to stop.
        """
        self._check(
            action, channel, lambda room: self.permissions.check(action, room, self.identity())
        )

    def checks_later(self, identity: Identity | None) -> Callable[[Action, str], None]:
        """``check_allowed`` for the client of this request, who is ``identity``, for as long as it
        is connected. ``authorize`` is asked as if it had made its request again."""
        later = self.permissions.later(identity)
        return lambda action, channel: self._check(action, channel, partial(later, action))

    def _check(self, action: Action, channel: str, ask: Callable[[str], None]) -> None:
        """Return if nothing refuses. ``authorize`` is asked last, and for what can exist.

        Who may subscribe to a room may know who is in it: ``authorize`` is asked for the room. To
        a presence channel no client publishes, or it could forge who is there.
        """
        room = check_channel(room_of(check_channel(channel)))  # ":presence" has none
        if action == "publish" and self.hub.closed.is_set():
            raise HubClosed(
                "The server is restarting. Nothing was published. Try again in a moment."
            )
        if action == "publish" and is_presence_channel(channel):
            raise Forbidden(f"Nobody publishes to {channel!r:.100}: only joining and leaving does.")
        ask(room)

    def identity(self) -> Identity | None:
        """Who the client of this request is; None for a stranger.

        Raises:
            Forbidden: If ``identify`` refuses or fails.
        """
        return self.permissions.identity()

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


def create_state(
    app: Flask,
    authorize: Authorize | None = None,
    identify: Identify | None = None,
    name: str = "streaming",
) -> State:
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
    permissions = Permissions(authorize, identify, settings.public)
    state = app.extensions["streaming"] = State(settings, hub, permissions, name)
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
