"""Who somebody is, as the application says, and the text that stands for it in the log."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import blake2s
from typing import cast

from .errors import InvalidMessage

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whom the application knows, on however many connections.

    Raises:
        InvalidMessage: If it is not of texts: an id of 1 to 100 characters, a name of 100 at most,
            no control characters.
    """

    id: str
    """What it is told apart by: of a user, the key in the application's table."""
    name: str = ""
    """What others are to call it."""

    def __post_init__(self) -> None:
        for what, text, least in (("id", self.id, 1), ("name", self.name, 0)):
            if (
                not isinstance(text, str)
                or not least <= len(text) <= 100
                or _UNPRINTABLE.search(text)
            ):
                raise InvalidMessage(
                    f"The {what} of an identity is a text of {least} to 100 characters, no control "
                    f"characters, and not {text!r:.120}."
                )


def id_of(who: str | int) -> str:
    """The id of an identity as text. ``identify`` may say a number, as tables count users; so may
    whoever means one.

    Raises:
        InvalidMessage: If it is no identity's id.
    """
    if isinstance(who, int) and not isinstance(who, bool):
        return Identity(str(who)).id
    return Identity(cast(str, who)).id


def sign(client: str | None, identity: Identity | None) -> str | None:
    """The sender of a message, for the log: a client's id, and behind a space who it is."""
    if identity is None:
        return client
    return f"{client or ''} {json.dumps([identity.id, identity.name], separators=(',', ':'))}"


def client_of(sender: str | None) -> str | None:
    """The client's id in what ``sign`` has made; None if there is none."""
    return (sender.partition(" ")[0] or None) if sender else None


def identity_of(sender: str | None) -> Identity | None:
    """Who it is, in what ``sign`` has made; None for strangers, for the application itself, and
    where somebody else has written into the log."""
    if sender is None or " " not in sender:
        return None
    try:
        id, name = json.loads(sender.partition(" ")[2])
        return Identity(id, name)
    except (ValueError, TypeError, RecursionError, InvalidMessage):
        return None


USERS = "user:"
"""What the names of channels begin with that one identity alone may read."""

_LONGEST = 118
"""Characters of such a name, so that its presence channel has one, too."""

_OTHER = re.compile(rb"[^A-Za-z0-9_-]")


def user_channel(id: str | int) -> str:
    """The channel of an identity: ``user:`` and its id, other characters as ``.`` and two digits
    (UTF-8, hexadecimal), or a digest of it where that is too long. No two ids have one channel.

    Raises:
        InvalidMessage: If it is no identity's id.
    """
    data = id_of(id).encode()
    name = USERS + _OTHER.sub(lambda byte: b".%02X" % byte[0][0], data).decode()
    if len(name) <= _LONGEST:
        return name
    return f"{USERS}..{blake2s(data, digest_size=24).hexdigest()}"
