"""The ticket of a connection: renewed before it ends, for as long as its holder may be here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from weakref import ref

from ..clients.client import Client
from ..errors import Forbidden, InvalidTicket, Revoked
from ..hub.presence import room_of
from ..identity import Identity
from .issued import Issued
from .permissions import Action, Check, Failed
from .tickets import Keys, Ticket

LEAST = 0.5
"""Seconds between two looks, at least."""

Ask = Callable[[Action, str, Identity | None], None]
"""Raises ``Forbidden`` for somebody who may not do this."""


class Renewal:
    """What a connection is asked that came with a ticket; see ``Client.permit``.

    Args:
        again: Makes the client's request once more, and asks in it; None if the application has
            nothing to say.
        check: The application's answer, in a request.
    """

    __slots__ = ("_again", "_check", "_client", "_issued", "_keys", "_ticket")

    def __init__(
        self,
        issued: Issued,
        keys: Keys,
        ticket: Ticket,
        client: Client,
        again: Callable[[Check], None] | None,
        check: Ask,
    ) -> None:
        self._issued = issued
        self._keys = keys
        self._ticket = ticket
        self._client = ref(client)
        self._again = again
        self._check = check

    @property
    def wait(self) -> float:
        """Seconds until it is to be renewed: half of what is left; at once if it is used up."""
        left = 0.0 if self._ticket.is_once else self._issued.left(self._ticket)
        return max(left / 2, LEAST)

    def __call__(self) -> float:
        """Ask, and hand over another ticket; the seconds until that is to be renewed.

        Raises:
            Revoked: If the holder may not be here any more.
            Recalled: If it has to come back with another ticket, of the application.
            Failed: If the application could not say so.
            LogUnavailable: If the log cannot be reached.
            ClientGone: If the connection is lost.
        """
        client = self._client()
        if client is None:
            return LEAST
        try:
            self._ticket, text = self._issued.renew(
                self._keys, self._ticket, partial(self._ask, client)
            )
        except Failed:
            raise
        except (Forbidden, InvalidTicket) as error:
            raise Revoked(str(error)) from error
        client.hand_ticket({"ticket": text, "seconds": self._ticket.seconds})
        return max(self._ticket.seconds / 2, LEAST)

    def _ask(self, client: Client) -> None:
        if self._again is not None:
            self._again(partial(self._check_all, client))

    def _check_all(self, client: Client, identity: Identity | None) -> None:
        """Ask for what is named in the ticket, and what is followed by a pattern of it."""
        ticket = self._ticket
        named = [name for name in ticket.channels if not name.endswith("*")]
        asked = {(action, name) for name in named for action in ticket.actions}
        asked |= {("subscribe", room_of(name)) for name in client.channels}
        for action, name in sorted(asked):
            self._check(action, name, identity)
