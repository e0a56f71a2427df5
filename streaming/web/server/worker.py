"""gunicorn's gevent worker, with a short way from a new connection to the application."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.workers.ggevent import GeventWorker

from ...bell import give_turn
from ...clients.intake import HURRY
from .answers import Desk, PlainAnswers
from .door import Door
from .heads import PlainRequest, Reader
from .intakes import HEAD, TimedRequests

_LEFT = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})


def is_plain(cfg: Any) -> bool:
    """Whether by configuration a connection begins with a request of HTTP/1.1."""
    return (
        not cfg.is_ssl
        and cfg.proxy_protocol in (False, "off")
        and getattr(cfg, "protocol", "http") == "http"  # gunicorn 25
        and getattr(cfg, "http2_cleartext", "off") == "off"  # gunicorn 26
    )


class StreamingWorker(GeventWorker, PlainAnswers, TimedRequests):  # type: ignore[misc]
    """``worker_class = "streaming.web.server.StreamingWorker"`` in ``gunicorn.conf.py``.

    The same as ``gevent`` in everything but time. It looks at what a client says before it takes
    it. Plain requests (``heads``) are served here; with anything else the connection is gunicorn's
    own from there on, and nothing was taken from it. It waits for nobody without end.
    """

    def run(self) -> None:
        """Serve until told to stop."""
        self.prepare()
        self._patience = self.cfg.keepalive or HEAD
        self._reader = Reader(self.cfg)
        self._desks = {}
        self.server_class = self._open
        super().run()

    def _open(self, listener: Any, *, spawn: Any, ssl_context: Any = None, **_: Any) -> Door:
        self._pools.append(spawn)
        serve = partial(self.handle_wrapped, listener, ssl_context)
        if is_plain(self.cfg):
            name = listener.getsockname()
            self._desks[name] = Desk(self.cfg, name)
            serve = partial(self.handle_plain, listener, name)
        return Door(listener, serve, pool=spawn, log=self.log)

    def handle_plain(self, listener: Any, name: Any, client: Any, addr: Any) -> None:
        """Serve a connection to its end; the same becomes of errors as in gunicorn's ``handle``."""
        request = None
        try:
            while request := self._next(listener, client, addr):
                self.handle_request(name, request, client, addr)
                if not request.is_answered:
                    break
                if request.behind:
                    give_turn()  # who says everything at once would let nobody else in
        except StopIteration as stopped:
            self.log.debug("Closing connection. %s", stopped)
        except OSError as error:
            if error.errno in _LEFT:
                self.log.debug("Ignoring that the client left: %s", error)
            else:
                self.log.exception("Socket error processing request.")
        except BaseException as error:
            self.handle_error(request, client, addr, error)
        finally:
            if request and request.behind:
                self._drop(client, request.behind)
            util.close(client)

    def _next(self, listener: Any, client: Any, addr: Any) -> PlainRequest | None:
        """The next plain request. None at the end, or where gunicorn has served all the rest."""
        data = self._peek(client)
        if not data:
            return None
        request, size = self._reader.read(data, addr)
        if request is None:
            self.handle(listener, client, addr)
        elif client.recv(size) != data[:size]:
            raise ConnectionResetError(errno.ECONNRESET, "The client's bytes have changed.")
        return request

    def _peek(self, client: Any) -> bytes:
        """What the client says, still to be taken; nothing if it left or was silent too long.

        The last look comes behind the time: what it has said while the machine had none for us
        counts.
        """
        until, left, data = time.monotonic() + self._patience, self._patience, b""
        while True:
            client.settimeout(max(0.0, min(left, HURRY)))
            try:
                data = client.recv(self._reader.longest, socket.MSG_PEEK)
                break
            except (TimeoutError, BlockingIOError):
                if left <= 0:
                    break
                left = 0.0 if self.is_crowded() else until - time.monotonic()
        client.settimeout(None)
        return data

    def _drop(self, client: Any, size: int) -> None:
        """Take what nobody will answer: closing over it would reset the answer on its way."""
        client.settimeout(0)
        with suppress(OSError):
            client.recv(size)
