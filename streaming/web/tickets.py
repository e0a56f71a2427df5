"""Tickets: short texts, signed, that say who somebody is, and what it may do until when. Pure.

st1.<what it says: JSON in base64url>.<HMAC-SHA-256 of all before, in base64url>
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, get_args

from itsdangerous import BadData, Signer, base64_decode, base64_encode

from ..errors import Forbidden, InvalidCursor, InvalidMessage, InvalidTicket
from ..hub.hub import MAX_CHANNELS
from ..identity import USERS, Identity
from ..message import Position
from ..names import check_channel, check_pattern
from .permissions import PRIVATE, Action

PREFIX = "st1."
"""What tickets begin with; another number is another version."""

LONGEST = 2048
"""Characters of a ticket: it has to fit into the first line of a request."""

LIFE = 600
"""Seconds that a ticket is good for, at most: for so long it is known what was taken back."""

CHAIN = 24 * 3600.0
"""Seconds for which tickets are renewed, from the first one on. Then another has to be given."""

ACTIONS: tuple[Action, ...] = get_args(Action)

Keys = Sequence[str | bytes]
"""Secrets, the newest last: that one signs, and all are good to read with."""

_SALT = b"streaming.ticket"

_NONE = (
    *(BadData, ValueError, TypeError, OverflowError, RecursionError),
    *(InvalidMessage, InvalidCursor),
)
"""What reading a text raises that is no ticket; what was signed with our key elsewhere, too."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who somebody is, and what it may do.

    Raises:
        InvalidMessage: If it cannot be given: no channels or more than 32, names that are none, no
            actions or unknown ones, seconds that are not from 1 to 600.
    """

    id: str
    channels: tuple[str, ...]
    """Names, and patterns such as ``room:*``."""
    actions: tuple[Action, ...]
    identity: Identity | None
    """None for a stranger."""
    seconds: int
    """How long it is good for, and each that it is renewed with."""
    is_once: bool
    """Whether the first use is the last one."""
    until: float
    """When it ends (``time.time``)."""
    first: float
    """When the first of those was given that it was renewed from (``time.time``)."""
    place: Position
    """Where in the log the orders stood when it was given: later ones may take it back."""
    doubted: tuple[str, ...] = ()
    """Channels whose followers have had to come again since: there it is not enough."""

    def __post_init__(self) -> None:
        if not 0 < len(self.channels) <= MAX_CHANNELS:
            raise InvalidMessage(
                f"A ticket is for 1 to {MAX_CHANNELS} channels, or patterns such as 'room:*', and "
                f"not for {len(self.channels)}."
            )
        for name in self.channels:
            check_pattern(name)
        if not self.actions or not set(self.actions) <= set(ACTIONS):
            raise InvalidMessage(
                f"The actions of a ticket are some of {', '.join(ACTIONS)}, "
                f"and not {self.actions!r:.60}."
            )
        seconds: object = self.seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds <= LIFE:
            raise InvalidMessage(
                f"A ticket is good for 1 to {LIFE} whole seconds, and not {seconds!r:.60}. "
                "It is renewed while its holder is connected."
            )

    def check(self, action: Action, channel: str) -> None:
        """Return if it is good for this: it names the channel, or has a pattern of it.

        Patterns mean those that begin with ``private:`` or ``user:`` only where they say so.

        Raises:
            Forbidden: If it is not.
        """
        if action not in self.actions or not self.covers(channel):
            raise Forbidden(
                f"You may not {action} here (channel {channel!r:.100}). It is not in your ticket."
            )

    def covers(self, channel: str) -> bool:
        """Whether it names the channel, or has a pattern of it."""
        return any(_covers(name, channel) for name in self.channels)


def _covers(name: str, channel: str) -> bool:
    if not name.endswith("*"):
        return name == channel
    for start in (PRIVATE, USERS):
        if channel.startswith(start) and not name.startswith(start):
            return False
    return channel.startswith(name[:-1])


def print_ticket(ticket: Ticket, keys: Keys) -> str:
    """``ticket`` as a text, signed.

    Raises:
        InvalidMessage: If it is too long.
    """
    who = ticket.identity
    said = [
        ticket.id,
        ticket.channels,
        ticket.actions,
        None if who is None else [who.id, who.name],
        ticket.seconds,
        ticket.is_once,
        ticket.until,
        ticket.first,
        str(ticket.place),
        ticket.doubted,
    ]
    value = PREFIX + base64_encode(json.dumps(said, separators=(",", ":"))).decode()
    text = _signer(keys).sign(value).decode()
    if len(text) > LONGEST:
        raise InvalidMessage(
            f"The ticket would have {len(text)} characters; {LONGEST} fit into a URL. Name fewer "
            "channels, or a pattern such as 'room:*'."
        )
    return text


def parse_ticket(text: str, keys: Keys, now: float) -> Ticket:
    """The ticket that was printed as ``text`` with one of ``keys``, and is good at ``now``
    (``time.time``).

    Raises:
        InvalidTicket: If there is none, or it has ended. What it says back is nothing of ``text``.
    """
    ticket = None
    if len(text) <= LONGEST and text.isascii() and text.startswith(PREFIX) and keys:
        try:
            value = _signer(keys).unsign(text)
            ticket = _ticket(json.loads(base64_decode(value[len(PREFIX) :])))
        except _NONE:
            pass
    if ticket is None:
        raise InvalidTicket("The ticket is not one of this application. Get another one.")
    if now >= ticket.until:
        raise InvalidTicket("The ticket has ended. Get another one.")
    return ticket


def _ticket(said: Any) -> Ticket:
    id, channels, actions, who, seconds, is_once, until, first, place, doubted = said
    return Ticket(
        str(id),
        tuple(channels),
        tuple(actions),
        None if who is None else Identity(*who),
        seconds,
        bool(is_once),
        float(until),
        float(first),
        Position.parse(place),
        tuple(map(check_channel, doubted)),
    )


def _signer(keys: Keys) -> Signer:
    return Signer(list(keys), _SALT, key_derivation="hmac", digest_method=sha256)  # type: ignore[arg-type]
