"""The tickets of one log: given, taken, renewed. What is taken back stands among the orders."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from flask import Flask

from ..errors import ConfigurationError, InvalidMessage, InvalidTicket, Recalled
from ..hub.hub import Hub
from ..hub.orders import CHANNEL, RESERVED, Order, given_since
from ..hub.presence import room_of
from ..identity import Identity
from ..message import Position
from ..threads import from_any_thread
from .permissions import Action
from .tickets import CHAIN, Keys, Ticket, parse_ticket, print_ticket

USED = RESERVED + "used:"
"""What the channels are called that remember which tickets were used that are good once: 16, by the
first digit of the ticket's id."""


_NOWHERE = Position("0", 0)


def keys_of(app: Flask) -> Keys:
    """The secrets of ``app``, the newest last: ``SECRET_KEY_FALLBACKS`` and ``SECRET_KEY``; none
    without the latter."""
    if not app.secret_key:
        return ()
    return (*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key)


class Issued:
    """Tickets that are given, and what became of them. From any thread.

    Args:
        hub: Where it stands what was taken back, and what was used.
        clock: Tells the time of day (``time.time``).
    """

    def __init__(self, hub: Hub, clock: Callable[[], float] = time.time) -> None:
        self._hub = hub
        self._clock = clock

    @from_any_thread
    def give(
        self,
        keys: Keys,
        channels: Iterable[str],
        actions: Iterable[Action],
        identity: Identity | None,
        *,
        seconds: int,
        is_once: bool,
    ) -> str:
        """A ticket for ``identity``, as a text.

        Raises:
            ConfigurationError: If there is no key to sign it with.
            InvalidMessage: If no ticket says that.
            LogUnavailable: If the log cannot be reached.
        """
        if not keys:
            raise ConfigurationError("Tickets are signed: set the application's SECRET_KEY.")
        now = round(self._clock(), 3)
        ticket = Ticket(
            id=secrets.token_hex(8),
            channels=tuple(dict.fromkeys(channels)),
            actions=tuple(dict.fromkeys(actions)),
            identity=identity,
            seconds=seconds,
            is_once=is_once,
            until=now,
            first=now,
            place=_NOWHERE,
        )
        place = self._hub.log.tail(CHANNEL)
        return print_ticket(replace(ticket, until=now + ticket.seconds, place=place), keys)

    @from_any_thread
    def take(
        self, keys: Keys, text: str, check: Callable[[Ticket], None] = lambda ticket: None
    ) -> Ticket:
        """The ticket that a client has sent. One that is good once is used with this, if ``check``
        does not raise.

        Raises:
            InvalidTicket: If it is none or not good any more, was taken back, or used before.
            LogUnavailable: If the log cannot be reached.
        """
        now = self._clock()
        ticket = parse_ticket(text, keys, now)
        if now - ticket.first > CHAIN:
            raise InvalidTicket("The ticket was renewed for a day. Get another one.")
        ticket = self._as_of_now(ticket)
        if ticket.is_once:
            check(ticket)
            mine = secrets.token_hex(8)
            first = self._hub.publish(USED + ticket.id[0], mine, key=ticket.id)
            if first.data != mine:
                raise InvalidTicket("The ticket was used already. Get another one.")
        return ticket

    def renew(
        self, keys: Keys, ticket: Ticket, ask: Callable[[], None] = lambda: None
    ) -> tuple[Ticket, str]:
        """Another one that says the same, for as many seconds from now on; and its text. ``ask`` is
        called before; what is ordered later counts for the new one.

        Raises:
            InvalidTicket: If it was taken back.
            Recalled: If it was renewed for a day, or has grown too long.
            LogUnavailable: If the log cannot be reached.
            StreamingError: What ``ask`` raises.
        """
        if self._clock() - ticket.first > CHAIN:
            raise Recalled("Connect again, with another ticket.")
        ticket = self._as_of_now(ticket)
        ask()
        until = round(self._clock(), 3) + ticket.seconds
        fresh = replace(ticket, id=secrets.token_hex(8), until=until)
        try:
            return fresh, print_ticket(fresh, keys)
        except InvalidMessage as error:
            raise Recalled("Connect again, with another ticket.") from error

    def left(self, ticket: Ticket) -> float:
        """Seconds for which it is still good."""
        return ticket.until - self._clock()

    def _as_of_now(self, ticket: Ticket) -> Ticket:
        """``ticket`` behind all that was ordered since it was given, and which did not take it
        back."""
        who = None if ticket.identity is None else ticket.identity.id
        orders, place, is_whole = given_since(self._hub, ticket.place)
        if not is_whole or any(_is_meant(order, who) for order in orders):
            raise InvalidTicket("The ticket was taken back. Get another one.")
        rooms = [room_of(o.channel) for o in orders if o.channel and o.identity in (None, who)]
        doubted = dict.fromkeys((*ticket.doubted, *filter(ticket.covers, rooms)))
        return replace(ticket, place=place, doubted=tuple(doubted))


def _is_meant(order: Order, who: str | None) -> bool:
    is_all = order.channel is None and order.client is None
    return order.is_final and is_all and who is not None and order.identity == who
