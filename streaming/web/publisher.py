"""``Publisher``: to publish from a script, a job or a cron task that has no application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from ..errors import ConfigurationError
from ..hub.hub import Hub
from ..hub.orders import give, order_of
from ..logs import open_log
from ..message import Message
from ..settings import Settings
from .data import print_data
from .publishing import publish


class Publisher:
    """A log that others serve, to publish to: no application, no request, no clients::

        with Publisher("redis://localhost:6379") as publisher:
            publisher.publish("news", "It works.")

    May be kept for as long as the process lives, and used from any thread. Opens nothing before the
    first message.

    Args:
        config: The log URL, or the server's ``STREAMING_`` settings. Where the server has
            ``STREAMING_RETENTION_`` settings of its own, give them here too: whoever appends
            decides what is forgotten.

    Raises:
        ConfigurationError: If a setting cannot be used, or nobody else could see the log: it is
            ``memory:``, or a file whose path is not said from the root.
    """

    def __init__(self, config: str | Mapping[str, Any]) -> None:
        if isinstance(config, str):
            config = {"STREAMING_LOG": config}
        settings = Settings.from_config(config)
        _check_shared(settings.log)
        log = open_log(settings.log, settings.retention)
        self._hub = Hub(log, message_size=settings.message_size)

    def publish(
        self, channel: str, data: object, *, event: str = "message", key: str | None = None
    ) -> Message:
        """Append a message to ``channel`` and return it with its id; see ``Streaming.publish``.

        Raises:
            TypeError: If ``data`` is bytes, or cannot be written as JSON.
            InvalidMessage: If the channel, the event name, the key or the text cannot be sent.
            TooLarge: If the text is over the size limit.
            LogUnavailable: If the log cannot be reached. Nothing was appended, unless the error
                says that it may have been: then repeat the call with the same ``key``.
        """
        return publish(self._hub, channel, print_data(data), event=event, key=key)

    def prune(self, channel: str) -> int:
        """Let go of all messages that ``channel`` holds; see ``Streaming.prune``.

        Raises:
            InvalidMessage: If no channel is called so.
            LogUnavailable: If the log cannot be reached; some of it may be gone.
        """
        return self._hub.prune(channel)

    def disconnect(
        self,
        *,
        identity: str | int | None = None,
        channel: str | None = None,
        client: str | None = None,
    ) -> None:
        """See ``Streaming.disconnect``.

        Raises:
            TypeError: If nothing is given.
            InvalidMessage: If one of them can be nobody's.
            LogUnavailable: If the log cannot be reached: nobody has heard of it.
        """
        give(self._hub, order_of(identity, channel, client))

    def revoke(
        self,
        *,
        identity: str | int | None = None,
        channel: str | None = None,
        client: str | None = None,
    ) -> None:
        """See ``Streaming.revoke``.

        Raises:
            TypeError: If nothing is given.
            InvalidMessage: If one of them can be nobody's.
            LogUnavailable: If the log cannot be reached: nobody has heard of it.
        """
        give(self._hub, order_of(identity, channel, client, is_final=channel is None))

    def close(self) -> None:
        """Let go of the log. Idempotent."""
        self._hub.log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_shared(log: str) -> None:
    if log == "memory:":
        raise ConfigurationError(
            "STREAMING_LOG is memory:, and what is published there ends with this process. Name "
            "the log of the server that has the clients: 'sqlite:////full/path/streaming.db' or "
            "'redis://host:6379'."
        )
    if log.startswith("sqlite:") and not log.startswith("sqlite:////"):
        raise ConfigurationError(
            f"STREAMING_LOG is {log!r:.200}, in an application's instance folder: none is here. "
            "Name the file from the root: 'sqlite:////full/path/streaming.db'."
        )
