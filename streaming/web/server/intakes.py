"""Deadlines for what gunicorn reads of a client: TLS handshakes, heads and bodies."""

from __future__ import annotations

import ssl
from typing import Any

from gunicorn import util
from gunicorn.http.body import LengthReader
from gunicorn.workers.base_async import AsyncWorker
from werkzeug.exceptions import RequestTimeout

from ...clients.deadlines import Deadlines
from ...clients.intake import Intake

HEAD = 10.0
"""Seconds for a request's head from its first byte on; for the first of a connection from the
beginning, with the TLS handshake."""


class TimedReader:
    """gunicorn's reader of a body, for a client that may not have it wait for ever."""

    def __init__(self, reader: Any, intake: Intake, request: Any) -> None:
        self._reader = reader
        self._intake = intake
        self._request = request

    @property
    def unreader(self) -> Any:
        """What was read ahead."""
        return self._reader.unreader

    def read(self, size: int) -> bytes:
        """``size`` bytes, less at the end.

        Raises:
            RequestTimeout: If they do not come (status 408); the connection is of no more use.
        """
        try:
            with self._intake.wait():
                data: bytes = self._reader.read(size)
        except Exception as error:
            self._check(error)
            raise
        self._check(None)
        return data

    def _check(self, error: Exception | None) -> None:
        if self._intake.is_late:
            self._request.force_close()
            raise RequestTimeout("The body does not come. Send it in one go.") from error


class TimedRequests(AsyncWorker):  # type: ignore[misc]  # gunicorn has no types
    """The part of a worker that waits for nobody without end; stands behind ``GeventWorker``."""

    _deadlines: Deadlines
    _pools: list[Any]
    """Of greenlets, one for each listener."""
    _heads: dict[Any, Intake]
    """By the client's socket: the head that is waited for."""

    def prepare(self) -> None:
        """In the worker's own process, before the first connection."""
        self._deadlines, self._pools, self._heads = Deadlines(), [], {}

    def is_crowded(self) -> bool:
        """Whether connections may wait for a place (``worker_connections``)."""
        return not all(pool.free_count() for pool in self._pools)

    def handle_wrapped(
        self, listener: Any, context: ssl.SSLContext | None, client: Any, addr: Any
    ) -> None:
        """``handle``, with TLS if there is a ``context``; the handshake is made there."""
        if context is not None:
            try:
                client = context.wrap_socket(
                    client,
                    server_side=True,
                    do_handshake_on_connect=False,
                    suppress_ragged_eofs=self.cfg.suppress_ragged_eofs,
                )
            except OSError as error:
                self.log.debug("Ignoring a client that left: %s", error)
                util.close(client)
                return
        self.handle(listener, client, addr)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """gunicorn's, with a deadline for each head."""
        self._expect(client, is_idle=False)
        try:
            if isinstance(client, ssl.SSLSocket):
                client.do_handshake()
            super().handle(listener, client, addr)
        except OSError as error:  # of the handshake
            self.log.debug("Ignoring a client that does not speak TLS: %s", error)
            util.close(client)
        finally:
            self._heads.pop(client).drop()

    def handle_http2(self, listener: Any, client: Any, *more: Any, **how: Any) -> None:
        """gunicorn's own: there are no heads to wait for."""
        self._heads[client].drop()
        super().handle_http2(listener, client, *more, **how)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> object:
        """gunicorn's, with a deadline for the body."""
        self._heads[sock].drop()
        body = req.body
        reader, size = body.reader, getattr(body.reader, "length", 0)
        if isinstance(reader, LengthReader) and not size:
            answered: object = super().handle_request(listener_name, req, sock, addr)
        else:
            intake = Intake(self._deadlines, sock, size=size, is_crowded=self.is_crowded)
            body.reader = TimedReader(reader, intake, req)
            try:
                answered = super().handle_request(listener_name, req, sock, addr)
            finally:
                body.reader = reader
                intake.drop()
        self._expect(sock, is_idle=not req.unreader.buf.getvalue())
        return answered

    def _expect(self, client: Any, *, is_idle: bool) -> None:
        head = Intake(
            self._deadlines, client, grace=HEAD, is_idle=is_idle, is_crowded=self.is_crowded
        )
        self._heads[client] = head
        head.begin()
