"""What one application has in one process: its hub, its registry, its settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import ref

from flask import Flask, current_app, has_request_context, request

from ..clients.budgets import Everywhere, Holder, Places
from ..clients.client import Client
from ..clients.commands import Commands
from ..clients.joined import Joined
from ..clients.registry import Registry, row
from ..clients.replays import Account, Replays
from ..clients.upstreams import hang_up
from ..errors import ConfigurationError, HubClosed
from ..hub import traces
from ..hub.hub import Hub
from ..hub.making import PREFIX
from ..hub.orders import Order, Orders
from ..hub.presence import Presence, room_of
from ..hub.questions import Question, reply
from ..hub.runs import Runs
from ..identity import Identity
from ..logs import Log, open_log
from ..own import Alive, Own
from ..settings import Settings
from ..threads import from_any_thread, note_greenlets
from ..wire.addresses import Address, Proxies
from .admission import take_ticket, taken_ticket
from .arrivals import Arrival, ask_again, holder_of
from .health import Health
from .issued import Issued, keys_of
from .obeying import is_meant, obey
from .open_rooms import open_room
from .permissions import Action, Authorize, Identify, Permissions
from .rechecks import Rechecks
from .renewals import Renewal
from .tickets import Keys, Ticket
from .unheard import Unheard

_ASKED = "streaming.asked"
"""Where in the WSGI environment it stands since when we ask about its client."""


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
    _commands: Own[Commands] = field(init=False)
    _replays: Own[Replays] = field(init=False)
    _joined: Own[Joined] = field(init=False)
    orders: Orders = field(init=False)
    issued: Issued = field(init=False)
    _rechecks: Rechecks = field(init=False)
    health: Health = field(init=False)
    _proxies: Proxies = field(init=False)
    unheard: Unheard = field(default_factory=Unheard)

    def __post_init__(self) -> None:
        self.presence = Presence(self.hub)
        self.health = Health(self.hub.log)
        self._proxies = Proxies(self.settings.trusted_proxies)
        self._registry = Own(self._make_registry)
        self._runs = Own(self._make_runs)
        self._commands = Own(self._make_commands)
        self._replays = Own(lambda: Replays(self.settings.replay, self.registry.refusals))
        self._joined = Own(lambda: Joined(self.settings.rooms, self.registry.refusals))
        self.orders = Orders(self.hub, self._obey, lambda: not len(self.registry), self._answer)
        self.issued = Issued(self.hub)
        self._rechecks = Rechecks()
        self.hub.watch(PREFIX, lambda channel: self.runs.note_reader(channel))

    def _make_registry(self) -> Registry:
        most, identity = self.settings.clients, self.settings.clients_per_identity
        address = self.settings.clients_per_address
        everywhere = Everywhere(self.hub.log, identity, address)
        return Registry(Places(most, identity, address), everywhere)

    def _make_commands(self) -> Commands:
        most, into = self.settings.commands, self.settings.channel_messages
        return Commands(most, self.registry.refusals, into_channel=into)

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

    @property
    def commands(self) -> Commands:
        """What clients of this process may ask in a time."""
        return self._commands()

    def check_command(self, environ: Mapping[str, Any]) -> None:
        """Count what the client of this request asks for, and return.

        Raises:
            Forbidden: If ``identify`` refuses or fails.
            TooMuch: If it was one too many.
        """
        self.commands.check(self.holder(environ))

    @property
    def replays(self) -> Replays:
        """What clients of this process are sent of the past."""
        return self._replays()

    @property
    def joined(self) -> Joined:
        """Which clients of this process are in which rooms."""
        return self._joined()

    def account(self, environ: Mapping[str, Any]) -> Account | None:
        """What the client of this request is sent of the past; None if nobody counts it.

        Raises:
            Forbidden: If ``identify`` refuses or fails.
        """
        return self.replays.account(self.holder(environ))

    def holder(self, environ: Mapping[str, Any]) -> Holder:
        """Whom the client of this request counts for.

        Raises:
            Forbidden: If ``identify`` refuses or fails.
        """
        return holder_of(self.identity(), self.address(environ))

    def asked(self) -> float:
        """Since when we ask who the client of this request is, and what it may do
        (``time.monotonic``); where there is no request, since now."""
        now = time.monotonic()
        since: float = request.environ.setdefault(_ASKED, now) if has_request_context() else now
        return since

    def arrive(self, environ: dict[str, Any]) -> Arrival:
        """Note who is about to be connected, in its request; see ``welcome``.

        Raises:
            Forbidden: If ``identify`` refuses or fails.
        """
        self.orders.listen()
        asked = self.asked()
        identity, ticket = self.identity(), taken_ticket()
        ask, trace = None, traces.connection()
        if ticket is not None or self.settings.recheck is not None:
            ask = self.permissions.still(identity, is_proven=ticket is not None)
        keys = keys_of(current_app) if ticket else ()
        return Arrival(identity, asked, ask, self.address(environ), ticket, keys, trace)

    def admit(self, environ: dict[str, Any]) -> Arrival:
        """``arrive``, if there is room for another client.

        Raises:
            Forbidden: If ``identify`` refuses or fails.
            TooManyClients: If this worker has as many as it takes.
            TooMuch: If this client's identity or address has as many as it may have.
        """
        arrival = self.arrive(environ)
        self.registry.check_space(arrival.holder)
        return arrival

    def address(self, environ: Mapping[str, Any]) -> Address:
        """Where the client of a request is, as far as that is known."""
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        return self._proxies.address(str(environ.get("REMOTE_ADDR", "")), forwarded)

    def introduce(self, client: Client, arrival: Arrival) -> None:
        """Say to ``client`` who it is; from now on that is asked again, if the settings say so, and
        its ticket is renewed, if it came with one.

        Raises:
            TooMuch: If it is in the list, and is somebody else now who has as many connections as
                it may have.
        """
        if client.holder != arrival.holder:
            self.registry.count_for(client, arrival.holder)
        client.identity = arrival.identity
        client.trace = client.trace or arrival.trace
        ask, ticket = arrival.ask, arrival.ticket
        check = self.permissions.check
        if ticket is not None:
            renewal = Renewal(self.issued, arrival.keys, ticket, client, ask, check)
            client.permit = renewal
            self._rechecks.add(client, renewal.wait)
        elif ask is not None and (every := self.settings.recheck) is not None:
            client.permit = partial(ask_again, ask, check, ref(client), every)
            self._rechecks.add(client, every)

    def welcome(self, client: Client, asked: float) -> None:
        """End a client, which is in the list, if somebody has ordered to let go of it since it was
        ``asked`` who it is. Once more when it follows what it was allowed: an order may mean those
        who do."""
        self.orders.listen()
        for order in self.orders.since(asked):
            obey(order, client)

    def _obey(self, order: Order) -> None:
        for client in self.registry.clients():
            obey(order, client)

    def _answer(self, question: Question) -> None:
        wanted = Order(question.identity, question.channel)
        meant = [client for client in self.registry.clients() if is_meant(wanted, client)]
        reply(self.hub, question, len(meant), [row(client) for client in meant[: question.limit]])

    def check_allowed(self, action: Action, channel: str) -> None:
        """Return if the client of this request may do this, now.

        Raises:
            InvalidMessage: If no channel is called so.
            Forbidden: If it may not.
            HubClosed: If it wants to publish to a server that is about to stop.
        """
        self.asked()
        if action == "subscribe":
            self.orders.listen()  # who asks this is about to be connected
        ticket = self.take_ticket() if has_request_context() else None

        def check(action: Action, room: str) -> None:
            self.permissions.check(action, room, self.identity())

        self._check(action, channel, partial(self._ask, ticket, check, action))

    def checks_later(self, identity: Identity | None) -> Callable[[Action, str], None]:
        """``check_allowed`` for the client of this request, who is ``identity``, for as long as it
        is connected. ``authorize`` is asked as if it had made its request again; a ticket says what
        it says."""
        ask = partial(self._ask, taken_ticket(), self.permissions.later(identity))
        return lambda action, channel: self._check(action, channel, partial(ask, action))

    def _ask(
        self,
        ticket: Ticket | None,
        check: Callable[[Action, str], None],
        action: Action,
        room: str,
    ) -> None:
        """Ask the ticket, if there is one, and ``check`` where there is none or it is not enough.

        Raises:
            Forbidden: If one of them says no.
        """
        if ticket is not None:
            ticket.check(action, room)
        if ticket is None or (self.permissions.is_asked and room in ticket.doubted):
            check(action, room)

    def take_ticket(self, *, is_ours: bool = False) -> Ticket | None:
        """The ticket of this request; from now on its client is who that says, and may do what that
        says and nothing else. See ``admission.take_ticket``."""
        return take_ticket(request, current_app, self._take, is_ours=is_ours)

    def check_ticket(self, action: Action, channels: Iterable[str]) -> None:
        """Return if this request has taken no ticket, or one that is good for these channels.

        Raises:
            Forbidden: If it is not.
        """
        if (ticket := taken_ticket()) is not None:
            for channel in channels:
                ticket.check(action, room_of(channel))

    def _take(self, keys: Keys, text: str) -> Ticket:
        environ = request.environ
        self.asked()
        self.orders.listen()  # before it is looked at what was taken back
        if request.method != "GET":
            return self.issued.take(keys, text)
        return self.issued.take(keys, text, partial(self._check_space, self.address(environ)))

    def _check_space(self, address: Address, ticket: Ticket) -> None:
        """Return if a stream can begin: what is good once is not used up where none can.

        Raises:
            HubClosed: If the server is about to stop.
            TooManyClients: If this worker has as many as it takes.
            TooMuch: If the ticket's holder, or the address, has as many as it may have.
        """
        self.registry.check_open()
        self.registry.check_space(holder_of(ticket.identity, address))

    def _check(self, action: Action, channel: str, ask: Callable[[str], None]) -> None:
        """Return if nothing refuses. ``authorize`` is asked last, and for what can exist."""
        ask(open_room(action, channel, is_closing=self.hub.closed.is_set()))

    def identity(self) -> Identity | None:
        """Who the client of this request is; None for a stranger.

        Raises:
            Forbidden: If ``identify`` refuses or fails.
        """
        ticket = taken_ticket()
        return self.permissions.identity() if ticket is None else ticket.identity

    @from_any_thread
    def close(self) -> None:
        """Drain: end every stream and WebSocket properly, refuse new ones. Does not wait."""
        self.runs.making.close()
        self.hub.close()
        self.presence.close()
        self.registry.close(HubClosed())
        self._rechecks.close()


states: Alive[State] = Alive()
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
        RuntimeError: If there is no application here, as in a thread or a script.
    """
    try:
        state = current_app.extensions.get("streaming")
    except RuntimeError as error:
        raise RuntimeError(
            "Streaming is used outside of an application context. In a thread or a job: "
            "with app.app_context(): …; where there is no application: streaming.Publisher(url)."
        ) from error
    if not isinstance(state, State):
        raise ConfigurationError("This app has no streaming yet. Call Streaming(app) at start.")
    return state
