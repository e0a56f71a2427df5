"""A connection that announcements arrive on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import LogUnavailable
from .errors import FAILURES, explain
from .url import RedisURL


class Ear:
    """A connection that is subscribed to what is announced of channels.

    For one thread, which waits for ``sock``. All verbs raise ``LogUnavailable`` if it is lost.
    """

    def __init__(self, pool: Any, url: RedisURL) -> None:
        self._pool = pool
        self._url = url
        self._connection = pool.get_connection()
        self.sock = self._connection._sock

    def subscribe(self, channels: Iterable[str]) -> None:
        """Ask for what is announced of them; ``receive`` says when each is heard."""
        self._say("SUBSCRIBE", *(self._url.key(channel, "log") for channel in channels))

    def unsubscribe(self, channels: Iterable[str]) -> None:
        """Ask for no more of it."""
        self._say("UNSUBSCRIBE", *(self._url.key(channel, "log") for channel in channels))

    def ping(self) -> None:
        """Ask the server for a sign of life."""
        self._say("PING")

    def receive(self) -> tuple[str, str, str] | None:
        """What arrived, such as ``("message", channel, text)`` or ``("subscribe", channel, "1")``.

        None if nothing has. Text that is not UTF-8 comes as near as can be.
        """
        try:
            if not self._connection.can_read(timeout=0):
                return None
            said = self._connection.read_response(disable_decoding=True)
        except FAILURES as error:
            raise LogUnavailable(f"Redis ({self._url}) {explain(error)}.") from error
        words = [_text(word) for word in (said if isinstance(said, list) else [said])]
        kind, name, text, *_ = *words, "", ""
        return kind, self._url.channel(name), text

    def close(self) -> None:
        """Give the connection up. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

    def _say(self, *words: str) -> None:
        try:
            self._connection.send_command(*words, check_health=False)
        except FAILURES as error:
            raise LogUnavailable(f"Redis ({self._url}) {explain(error)}.") from error


def _text(word: object) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)
