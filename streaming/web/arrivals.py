"""Somebody who is about to be connected, and who may be asked about again once it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

from ..clients.budgets import Holder
from ..clients.client import Client
from ..hub.presence import room_of
from ..identity import Identity
from ..wire.addresses import Address
from .permissions import Check
from .renewals import Ask
from .tickets import Keys, Ticket

if TYPE_CHECKING:
    from ..hub.spans import Connection


class Arrival(NamedTuple):
    """Somebody who is about to be connected."""

    identity: Identity | None
    asked: float
    """When we began to ask who it is and what it may do (``time.monotonic``)."""
    ask: Callable[[Check], None] | None
    """Asks the same again, if that is wanted."""
    address: Address
    ticket: Ticket | None = None
    """What it has shown."""
    keys: Keys = ()
    """Signs what that is renewed with."""
    trace: Connection | None = None
    """Its span, which begins when it is connected."""

    @property
    def holder(self) -> Holder:
        """Whom it counts for."""
        return holder_of(self.identity, self.address)


def holder_of(identity: Identity | None, address: Address) -> Holder:
    """Whom a client counts for."""
    who = identity.id if identity is not None else None
    return Holder(who, address.group, address.is_own)


def ask_again(ask: Callable[[Check], None], check: Ask, found: ref[Client], every: float) -> float:
    """Ask the application about a client that was ``found``; see ``Client.permit``."""

    def check_followed(identity: Identity | None) -> None:
        client = found()
        if client is not None and client.is_checked:
            for channel in client.channels:
                check("subscribe", room_of(channel), identity)

    ask(check_followed)
    return every
