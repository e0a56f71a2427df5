"""An HTTP stream's client: what the registry, the sweep and the response's generator share."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

from ..bell import Bell
from ..errors import ClientGone, StreamingError
from ..hub.subscription import Subscription
from ..settings import Settings
from .formats import EventFormat
from .outlet import FAREWELL, Outlet, client_socket, is_gone, release
from .registry import new_client_id


class StreamClient:
    """One response that stays open. Its generator writes or waits; the sweep watches.

    While the generator waits, its outlet is open: pump and sweep write to the socket directly
    where that is possible. Otherwise the sweep rings and the generator sends the heartbeat.
    """

    __slots__ = (
        "_beat",
        "_cut_at",
        "_environ",
        "_heartbeat",
        "_settings",
        "_spoke",
        "_writing",
        "bell",
        "form",
        "id",
        "outlet",
        "peer",
        "reason",
        "since",
        "subscription",
        "transport",
    )

    def __init__(
        self, environ: dict[str, Any], settings: Settings, form: EventFormat | None
    ) -> None:
        self.id = new_client_id()
        self.transport = form.name if form else "text"
        self.since = time.time()
        self.form = form
        self.bell = Bell()
        self.subscription: Subscription | None = None
        chunked = environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and settings.direct_writes
        self.outlet = Outlet(client_socket(environ, settings.send_buffer), self.id, may=chunked)
        self._environ: dict[str, Any] | None = environ
        self._settings = settings
        self.peer = str(environ.get("REMOTE_ADDR", ""))
        self.reason: StreamingError | None = None
        """Why it is over, or about to be; None if nobody ended it from outside."""
        self._heartbeat = form.frame(form.heartbeat) if form else b""
        self._beat = False
        self._cut_at: float | None = None
        self._spoke = time.monotonic()
        self._writing = 0.0

    def describe(self) -> Mapping[str, object]:
        """For the registry's snapshot."""
        subscription = self.subscription
        if subscription is None:
            return {"peer": self.peer}
        return {
            "peer": self.peer,
            "channels": subscription.channels,
            "position": subscription.id,
            "state": subscription.state,
        }

    def end(self, reason: StreamingError) -> None:
        """Have the generator raise ``reason``. From any thread."""
        if self.reason is None:
            self.reason = reason
            self._cut_at = time.monotonic() + FAREWELL
        if self.subscription is not None:
            self.subscription.end(reason)
        self.bell.ring()

    def check(self) -> None:
        """Return if the stream may go on.

        Raises:
            StreamingError: The reason it was ended for.
        """
        if self.reason is not None:
            raise self.reason

    def sweep(self, now: float) -> None:
        """See ``registry.Client``."""
        sock, timeout = self.outlet.sock, self._settings.send_timeout
        if self._cut_at is not None:
            if now >= self._cut_at:
                self.outlet.cut()
        elif sock is not None and is_gone(sock):
            self.end(ClientGone("The client left."))
        elif self.outlet.is_stuck(now, timeout) or (
            self._writing and timeout is not None and now - self._writing > timeout
        ):
            self.end(ClientGone(f"The client took nothing for {timeout} s."))
            self.outlet.cut()
        elif self._is_due(now):
            self._send_heartbeat(now)

    def hand(self, data: bytes) -> bytes:
        """``data``, about to be given to the WSGI server: call right before ``yield``."""
        self._spoke = self._writing = time.monotonic()
        return data

    def release(self) -> None:
        """Let go of the request; nobody but us needs it once an event stream has begun."""
        if self._environ is not None and self.outlet.is_direct:
            release(self._environ)
        self._environ = None

    def lend(self) -> None:
        """The server has written what it was handed; pump and sweep may write."""
        self._writing = 0.0
        self.outlet.open()

    def rest(self) -> bytes:
        """Wait for something to read or a reason to end; the heartbeat to send, if any."""
        self.lend()
        self.bell.wait()
        self.outlet.finish()
        return self._take_beat()

    def pause(self, seconds: float) -> bytes:
        """Wait ``seconds``, or less if a heartbeat is due: send what is returned and wait on.

        Raises:
            StreamingError: The reason, as soon as the stream is ended.
        """
        until = time.monotonic() + seconds
        self.lend()
        while not self._beat and (left := until - time.monotonic()) > 0:
            self.bell.wait(left)
            self.check()
            if self.outlet.rest:
                self.outlet.finish()
                self.outlet.open()
        self.outlet.finish()
        return self._take_beat()

    def _take_beat(self) -> bytes:
        beat, self._beat = self._beat, False
        return self.form.heartbeat if beat and self.form else b""

    def _is_due(self, now: float) -> bool:
        every = self._settings.heartbeat
        if not self._heartbeat or every is None or self._writing:
            return False
        return now - self._spoke >= every

    def _send_heartbeat(self, now: float) -> None:
        if self.outlet.fd < 0:
            self._beat = True
            self.bell.ring()
            return
        try:
            if self.outlet.write(self._heartbeat):
                self._spoke = now
            else:
                self.bell.ring()
        except OSError:
            self.end(ClientGone("The connection is lost."))


def spread_retry() -> int:
    """Milliseconds after which a client of a stopping server should come back, spread."""
    return random.randint(1000, 3000)
