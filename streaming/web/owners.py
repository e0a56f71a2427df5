"""Whose a client's idempotency key is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequest
from ..names import check_key

_SECRET = re.compile(r"[^\ud800-\udfff]{16,128}", re.DOTALL)


def owner_of(value: Mapping[str, Any]) -> str | None:
    """The owner of the ``key`` in what a client wants to publish; None if there is no key.

    As long as nobody knows who a client is, it is whoever knows the ``secret`` beside the key: so
    it can be repeated over another connection, and nobody else guesses both.

    Raises:
        InvalidMessage: If the key is not legal.
        InvalidRequest: If it is not a text, or there is one of the two without the other.
    """
    if "key" not in value:
        if "secret" in value:
            raise InvalidRequest("A 'secret' is the owner of a 'key', and there is none.")
        return None
    if not isinstance(value["key"], str):
        raise InvalidRequest("'key' is not a text.")
    check_key(value["key"])
    secret = value.get("secret")
    if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
        raise InvalidRequest(
            "A 'key' belongs to whoever knows the 'secret' beside it: a text of 16 to 128 "
            "characters. Make one up at random, once for all your keys, and keep it for yourself."
        )
    return f"secret {secret}"
