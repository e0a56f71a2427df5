"""``Streaming``: the package as a Flask extension, or as a blueprint."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    has_request_context,
    request,
    request_started,
)
from flask.blueprints import BlueprintSetupState

from ..errors import ConfigurationError, InvalidMessage, InvalidRequest, UnknownRun
from ..hub.hub import check_channels
from ..hub.making import OnDisconnect
from ..hub.orders import give, order_of
from ..hub.parts import Answer
from ..hub.pieces import Producer
from ..hub.subscription import Subscription
from ..identity import Identity, user_channel
from ..logs import Member, MemoryLog
from ..message import START, Message
from ..names import check_channel
from . import metrics, origin
from .admission import hide
from .cli.group import add_commands
from .data import print_data
from .issued import keys_of
from .permissions import Action, Authorize, Identify, Permissions, as_identity
from .publishing import publish
from .refusals import in_stream
from .requests import last_seen
from .responses import event_stream
from .routes import create_blueprint
from .runs import Run, begin
from .state import check_unset, create_state, current_state
from .surroundings import look_at_metrics, look_at_publish, look_at_stream


class _This:
    def __repr__(self) -> str:
        return "<the client of this request>"


THIS: object = _This()


class Streaming:
    """Streaming for a Flask application.

    ``Streaming(app)``, or ``init_app`` in an application factory, or ``blueprint`` registered
    under any prefix: all three do the same. Holds no application: one object may serve several,
    and they do not see each other. What follows needs an application context: the one of a request,
    or ``with app.app_context()``.

    Args:
        app: The application to set up at once.
        authorize: Asked ``(action, channel, identity)``, or ``(action, channel)`` if it takes no
            more, inside each request that wants to ``"subscribe"``, to ``"publish"``, or to
            ``"stop"`` a run. Joining a room and asking who is there count as subscribing to it.
            Without it nobody publishes over the network, and strangers read what
            ``STREAMING_PUBLIC`` lists.
        identify: Says inside a request who its client is: None for a stranger, an ``Identity``, an
            id, or a user as Flask-Login has them.
        url_prefix: Where the blueprint goes with ``app`` and ``init_app``.

    Raises:
        ConfigurationError: If an argument or a setting cannot be used.

    Configuration: the ``STREAMING_`` keys of ``docs/configuration.md``.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        authorize: Authorize | None = None,
        identify: Identify | None = None,
        url_prefix: str = "/streaming",
    ) -> None:
        Permissions(authorize, identify)  # refuses what cannot be asked
        if not isinstance(url_prefix, str) or not (url_prefix == "" or url_prefix[0] == "/"):
            raise ConfigurationError(
                f"url_prefix is {url_prefix!r:.100}; it must be a text that begins with '/'."
            )
        self._authorize = authorize
        self._identify = identify
        self._url_prefix = url_prefix
        self.blueprint: Blueprint = create_blueprint()
        """Register it instead of calling ``init_app`` to choose the prefix yourself."""
        self.blueprint.record_once(self._set_up)
        if app is not None:
            self.init_app(app)

    def init_app(
        self,
        app: Flask,
        *,
        authorize: Authorize | None = None,
        identify: Identify | None = None,
    ) -> None:
        """Set up ``app``: read its configuration, register the blueprint.

        ``authorize`` and ``identify`` count for this app, instead of those of ``Streaming(…)``.
        Opens no socket and starts no thread: workers fork after it.

        Raises:
            ConfigurationError: If the app is set up already, or an argument or a setting is wrong.
        """
        check_unset(app)  # Flask's own words would advise another name
        Permissions(authorize, identify)
        given = {"authorize": authorize, "identify": identify}
        app.register_blueprint(self.blueprint, url_prefix=self._url_prefix, **given)

    def publish(
        self, channel: str, data: object, *, event: str = "message", key: str | None = None
    ) -> Message:
        """Append a message to ``channel`` and return it with its id.

        ``data`` is text, which stays as it is, or anything that the application's JSON provider can
        write. Returns once the log has it; delivery happens behind the caller's back. From any
        thread. With ``key``, repeating the call within two minutes (``STREAMING_KEY_WINDOW``)
        returns the first message again.

        What cannot be sent is the application's mistake: a view that lets ``InvalidMessage`` pass
        is answered with 500. Catch it, or check first what your visitors name.

        Raises:
            TypeError: If ``data`` is bytes, or cannot be written as JSON.
            InvalidMessage: If the channel, the event name, the key or the text cannot be sent.
            TooLarge: If the text is over the size limit.
            LogUnavailable: If the log cannot be reached. Nothing was appended, unless the error
                says that it may have been: then repeat the call with the same ``key``.
        """
        state = current_state()
        if has_request_context():
            look_at_publish(request.environ, state)
        text = print_data(data)
        with _own_call():
            message = publish(state.hub, channel, text, event=event, key=key)
        if isinstance(state.hub.log, MemoryLog) and not state.unheard.is_heard:
            state.unheard.note(is_heard=current_app.testing or state.hub.subscribers(channel) > 0)
        return message

    def publish_to(
        self, id: str | int, data: object, *, event: str = "message", key: str | None = None
    ) -> Message:
        """``publish`` in the channel that the identity ``id`` alone may read.

        Raises:
            InvalidMessage: If it is no identity's id, or what ``publish`` raises it for.
            LogUnavailable, TooLarge, TypeError: As ``publish``.
        """
        return self.publish(self.user_channel(id), data, event=event, key=key)

    def user_channel(self, id: str | int) -> str:
        """The channel that the identity ``id`` alone may read; any id has one.

        Raises:
            InvalidMessage: If it is no identity's id.
        """
        with _own_call():
            return user_channel(id)

    def identity(self) -> Identity | None:
        """Who the client of this request is, as ``identify`` has said; None for a stranger. Or the
        holder of its ticket, once ``check_allowed`` has looked at that.

        Raises:
            Forbidden: If ``identify`` refuses or fails.
        """
        return current_state().identity()

    def ticket(
        self,
        *channels: str,
        actions: Iterable[Action] = ("subscribe",),
        seconds: int = 60,
        once: bool = False,
        identity: object = THIS,
    ) -> str:
        """A short text, signed, with which somebody may do ``actions`` in ``channels`` (names, or
        patterns such as ``room:*``) for so many seconds, at most 600. For clients that can send no
        header: it goes into the URL, ``?ticket=…``.

        It says who that is: ``identity``, by default the client of this request; what ``identify``
        may return, None for a stranger. Nobody is asked here whether that one may: giving a ticket
        is the application's decision, as publishing is, ``private:`` and ``user:`` channels
        included. A pattern means those only where it begins like them.

        While its holder is connected it is renewed, for a day at most, as long as ``authorize``
        says yes to that identity, if there is an ``authorize``, and nobody has said
        ``revoke(identity=…)``, which takes back all that it was given before. With ``once`` the
        first use is the last one.

        Raises:
            ConfigurationError: If the application has no ``SECRET_KEY``.
            InvalidMessage: If no ticket says that, or it would not fit into a URL.
            LogUnavailable: If the log cannot be reached.
            TypeError: If ``identity`` is nobody.
        """
        state = current_state()
        if identity is THIS:
            who = state.identity() if has_request_context() else None
        else:
            who = as_identity(identity)
        with _own_call():
            return state.issued.give(
                keys_of(current_app), channels, actions, who, seconds=seconds, is_once=once
            )

    def disconnect(
        self,
        *,
        identity: str | int | None = None,
        channel: str | None = None,
        client: str | None = None,
    ) -> None:
        """Have connections made anew, on all workers, within a second: those of ``identity``, those
        that follow ``channel``, the one that ``clients`` calls ``client``; where several are given,
        those that are all of it.

        Clients come back by themselves and resume where they were, unless ``identify`` or
        ``authorize`` refuses them by then. So this ends a permission that is over already.

        Raises:
            TypeError: If nothing is given.
            InvalidMessage: If one of them can be nobody's.
            LogUnavailable: If the log cannot be reached: nobody has heard of it.
        """
        with _own_call():
            give(current_state().hub, order_of(identity, channel, client))

    def revoke(
        self,
        *,
        identity: str | int | None = None,
        channel: str | None = None,
        client: str | None = None,
    ) -> None:
        """``disconnect``, and clients are told not to come back: WebSockets with 1008, streams with
        ``close``.

        Where a ``channel`` is given they are to come back, for they may follow others; what they
        may not follow any more is refused then.
        """
        with _own_call():
            give(current_state().hub, order_of(identity, channel, client, is_final=channel is None))

    def subscribe(self, *channels: str, after: str | None = None, history: int = 0) -> Subscription:
        """Follow ``channels`` in code of the application's own, such as a thread of a bot.

        Resumes behind the id ``after``, or begins with the last ``history`` messages held. Close it
        at the end: ``with streaming.subscribe("news") as items: for item in items: …``.

        Raises:
            InvalidMessage: If a channel name is not well formed.
            InvalidRequest: If there are no channels or more than 32, ``history`` is no number, or
                no log ever gave out ``after``.
            HubClosed: If this process is about to stop.
            LogUnavailable: If the log cannot be reached.
        """
        with _own_call():
            _check_history(history)
            return current_state().hub.subscribe(channels, after=after, history=history)

    def events(self, *channels: str, after: str | None = None, history: int = 0) -> Response:
        """A response that follows ``channels`` over SSE or, if the client asks for it, NDJSON.

        Resumes behind ``after``, by default behind what the client says it saw last. ``start`` is
        before everything, and counts where the client says nothing.

        Raises:
            InvalidMessage: If a channel name is not well formed.
            InvalidRequest: If there are no channels or more than 32, ``history`` is no number, or
                the client's ``Last-Event-ID`` cannot be read.
            Forbidden: If ``check_allowed`` has taken a ticket that is not good for them.
            TooManyClients: If this worker has as many as it takes, and the client wants NDJSON. One
                that wants events is told in the stream.
        """
        with _own_call():
            names = check_channels(map(check_channel, channels))
            _check_history(history)
        state, seen = current_state(), last_seen(request)
        state.check_ticket("subscribe", names)
        after = seen or after if after == START else after or seen
        look_at_stream(request.environ, state)
        return in_stream(lambda: event_stream(request, state, names, after=after, history=history))

    def check_allowed(self, action: Action, channel: str) -> None:
        """Return if the client of this request may ``"subscribe"`` or ``"publish"`` here.

        Asks ``authorize``, as the package's own routes do, or looks at the ticket in the URL, if
        there is one: then the client is who that says, and may do what that says. Needs a request.

        Raises:
            InvalidMessage: If no channel is called so.
            Forbidden: If it may not. A view that lets it pass is answered with 403.
            InvalidTicket: If the ticket is not good, or not any more: 401.
            HubClosed: If it wants to publish to a server that is about to stop.
        """
        current_state().check_allowed(action, channel)

    def join(self, room: str, member_id: str, info: str = "", *, name: str = "") -> bool:
        """Put a member into ``room`` until it leaves or this process ends; False if it was there.

        Others are told its ``name``, at most 100 characters, and its ``info``, at most 1 KiB. Other
        workers may have the same member: it is there until the last of them takes it out. The
        clients of ``chat``, and those that send ``join`` over a WebSocket, are members without this
        call.

        Raises:
            InvalidMessage: If the room, the id, the info or the name cannot be sent.
            HubClosed: If this process is about to stop.
            TooManyClients: If the system has no thread left.
            LogUnavailable: If the log cannot be reached; the member is not in the room.
        """
        with _own_call():
            return current_state().presence.join(room, member_id, info, name=name)

    def leave(self, room: str, member_id: str) -> None:
        """Take back what ``join`` did in this process. Idempotent.

        While the log cannot be reached this is put off, and done as soon as it can.

        Raises:
            InvalidMessage: If no room is called so.
        """
        with _own_call():
            current_state().presence.leave(room, member_id)

    def end(self, channel: str, data: str = "{}") -> Message:
        """``Hub.end`` of the current application: whoever follows ``channel`` gets the end of it.

        Raises:
            ChannelEnded: If it has ended already.
            InvalidMessage: If no channel is called so, or ``data`` is not text.
            LogUnavailable: If the log cannot be reached; see ``Log.append``.
        """
        with _own_call():
            return current_state().hub.end(channel, data)

    def prune(self, channel: str) -> int:
        """``Hub.prune`` of the current application: let go of all that ``channel`` holds.

        For what has to go before its time: somebody asks for it, or it was a mistake. Returns how
        many messages these were.

        Raises:
            InvalidMessage: If no channel is called so.
            LogUnavailable: If the log cannot be reached; some of it may be gone.
        """
        with _own_call():
            return current_state().hub.prune(channel)

    def run(
        self,
        producer: Producer,
        *args: object,
        key: str | None = None,
        on_disconnect: OnDisconnect = "continue",
    ) -> Run:
        """Begin an answer that is made outside the request, and outlives it.

        ``producer`` is a function, a generator function or an iterable, of text, bytes in UTF-8 or
        ``Part``. It runs in a thread of its own, in an application context and in no request's:
        what it needs is passed as ``args``. In it, ``current_run()`` is its run.

        With ``key``, by default the request's ``Idempotency-Key``, a run that has it already is
        joined, on whichever worker it is made; if that broke off before it said anything, another
        is begun. Who knows the key joins: put the user's name in it where that matters.

        ``on_disconnect``: what becomes of it when nobody listens any more, on any worker:
        ``"continue"``; ``"cancel"``; or the seconds after which it is stopped.

        Raises:
            TypeError: If the producer is none, or does not take the arguments.
            InvalidRequest: If the client's key is none.
            HubClosed: If this process is about to stop.
            TooManyClients: If the system has no thread left.
            TooManyRuns: If this worker makes as many as it may.
            LogUnavailable: If the log cannot be reached.
        """
        if has_request_context():
            look_at_publish(request.environ, current_state())
        return begin(producer, args, key, on_disconnect)

    def find_run(self, id: str) -> Run | None:
        """The run that is called so; None if there is none, or it is no longer kept.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """
        run = Run(id)
        try:
            run.answer()
        except (UnknownRun, InvalidMessage):
            return None
        return run

    def runs(self, limit: int = 100) -> list[Answer]:
        """The runs that are kept, over all workers, the newest first where the log knows; without
        what they have said, which ``find_run(id).answer()`` has.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """
        return current_state().runs.kept(limit)

    def members(self, room: str) -> list[Member]:
        """Who is in ``room``, over all workers, in the order they came.

        Raises:
            InvalidMessage: If no room is called so.
            LogUnavailable: If the log cannot be reached.
        """
        with _own_call():
            return current_state().presence.members(room)

    def clients(self) -> dict[str, list[dict[str, object]]]:
        """Who is connected to this worker, as plain data, and why the last hundred left.

        ``clients`` and ``ended``, a row for each: the id, the transport, since when, where in the
        log; the reason. Not for everybody's eyes: addresses are in it.
        """
        return current_state().registry.snapshot()

    def metrics(self) -> Response:
        """What this process counts, as Prometheus reads it (text format 0.0.4); what all workers
        do where ``PROMETHEUS_MULTIPROC_DIR`` is set. For a view, which decides who may see it.

        Raises:
            ConfigurationError: If ``prometheus_client`` is not installed (the extra ``metrics``).
        """
        if has_request_context():
            look_at_metrics(request.environ)
        return metrics.exposition(current_state())

    @property
    def closed(self) -> threading.Event:
        """Set once this process is to stop: ``while not streaming.closed.wait(2): …``."""
        return current_state().hub.closed

    def allow_origin(self, response: Response) -> Response:
        """``response``, readable by the pages of ``STREAMING_ORIGINS`` (CORS): with cookies and the
        headers of ``STREAMING_HEADERS``, but for ``*``, without cookies.

        For ``app.after_request``; the package's own routes have it.
        """
        settings = current_state().settings
        return origin.allow_origin(request, response, settings.origins, settings.headers)

    def _set_up(self, setup: BlueprintSetupState) -> None:
        name = f"{setup.name_prefix}.{setup.name}".strip(".")
        app = cast(Flask, setup.app)
        authorize = setup.options.get("authorize") or self._authorize
        create_state(app, authorize, setup.options.get("identify") or self._identify, name)
        add_commands(app)
        request_started.connect(hide, app)


@contextmanager
def _own_call() -> Iterator[None]:
    """What is wrong with a call that the application makes is not its visitor's fault."""
    try:
        yield
    except (InvalidMessage, InvalidRequest) as error:
        error.blame_application()
        raise


def _check_history(history: int) -> None:
    if not isinstance(history, int) or isinstance(history, bool) or history < 0:
        raise InvalidRequest(f"history is {history!r:.100}; it is a number from 0.")
