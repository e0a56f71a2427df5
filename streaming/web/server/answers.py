"""What an application is given for a plain request, and how its answer leaves."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

from gunicorn.config import PreRequest
from gunicorn.http import wsgi
from gunicorn.util import http_date, unquote_to_wsgi_str
from gunicorn.workers.base_async import AsyncWorker

from ..passage import GIVEN
from .heads import PlainRequest

_PORTS = {"http": "80", "https": "443"}

_CHUNKED = "Transfer-Encoding: chunked\r\n"

_date = lru_cache(maxsize=1)(http_date)


class Errors(wsgi.WSGIErrorsWrapper):  # type: ignore[misc]
    """``wsgi.errors`` for all requests. Looks for the log's files when something is written,
    because a rotation opens new ones."""

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def write(self, data: Any) -> None:
        """Write to what the error log is now."""
        wsgi.WSGIErrorsWrapper(self._cfg).write(data)


class Answer(wsgi.Response):  # type: ignore[misc]
    """gunicorn's, but the head leaves together with the first piece: one packet, one wake-up."""

    headers_sent: bool

    def send_headers(self) -> None:
        """Send the head, once."""
        if not self.headers_sent:
            self.sock.sendall(self._head())
            self.headers_sent = True

    def write(self, data: Any) -> None:
        """Send a piece of the body, behind the head if that has not left yet."""
        body = b"" if self.headers_sent else self._first(data)
        if not body:
            super().write(data)
            return
        first = self._head() + body
        self.headers_sent = True
        self.sent = len(data)
        sent = self.sock.send(first)
        if sent < len(first):
            self.sock.sendall(first[sent:])

    def _head(self) -> bytes:
        status = str(self.status)  # None, as with gunicorn, where there was no start_response
        if "\r" in status or "\n" in status:  # gunicorn 26 lets it pass
            raise ValueError(f"A status of one line, not {status!r:.100}.")
        connection = "close" if self.should_close() else "keep-alive"
        fields = "".join([f"{name}: {value}\r\n" for name, value in self.headers])
        return (
            f"HTTP/1.1 {status}\r\nServer: {self.version}\r\n"
            f"Date: {_date(int(time.time()))}\r\n"
            f"Connection: {'upgrade' if self.upgrade else connection}\r\n"
            f"{_CHUNKED if self.chunked else ''}{fields}\r\n"
        ).encode("latin-1")

    def _first(self, data: Any) -> bytes:
        """``data`` as it goes behind the head; nothing where that is not plain to see."""
        if not isinstance(data, bytes) or getattr(self, "_omits_body", False):  # gunicorn 27
            return b""
        if self.chunked and data:
            return b"%X\r\n%b\r\n" % (len(data), data)
        return data if self.response_length == len(data) else b""


class Desk:
    """Makes what the requests at one listener need: an answer to fill in and an ``environ``."""

    def __init__(self, cfg: Any, server: Any) -> None:
        self._cfg = cfg
        self._server = server
        self._is_hooked = cfg.pre_request is not PreRequest.default
        self._make_hints = getattr(wsgi, "_make_early_hints_callback", None)  # gunicorn 25
        self._script_name = os.environ.get("SCRIPT_NAME", "")
        self._common = {
            **wsgi.base_environ(cfg),
            "wsgi.errors": Errors(cfg),
            "wsgi.multithread": True,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SCRIPT_NAME": self._script_name,
        }

    def create(self, request: PlainRequest, sock: Any) -> tuple[wsgi.Response, dict[str, Any]]:
        """The same as gunicorn's own ``create`` makes (PEP 3333). Where a hook of the user's has
        seen the request, it may be plain no longer: then it is gunicorn's that makes it."""
        if self._is_hooked:
            peer = request.peer_addr
            response, environ = wsgi.create(request, sock, peer, self._server, self._cfg)
            environ["wsgi.multithread"] = True
            return response, environ
        response, environ = Answer(request, sock, self._cfg), self._common.copy()
        for name, value in request.headers:
            environ["HTTP_" + name.replace("-", "_")] = value
        if "HTTP_CONTENT_TYPE" in environ:
            environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE")
        path = request.path[len(self._script_name) :]
        peer = request.peer_addr
        environ["REQUEST_METHOD"] = request.method
        environ["PATH_INFO"] = unquote_to_wsgi_str(path) if "%" in path else path
        environ["QUERY_STRING"] = request.query
        environ["RAW_URI"] = request.uri
        environ["SERVER_NAME"], environ["SERVER_PORT"] = self._name(request, environ)
        if isinstance(peer, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = peer[0], str(peer[1])
        else:
            environ["REMOTE_ADDR"] = peer.decode() if isinstance(peer, bytes) else peer
        environ["wsgi.url_scheme"] = request.scheme
        environ["wsgi.input"] = request.body
        environ["gunicorn.socket"] = sock
        if self._make_hints is not None:
            environ["wsgi.early_hints"] = self._make_hints(request, sock, response)
        return response, environ

    def _name(self, request: PlainRequest, environ: dict[str, Any]) -> tuple[str, str]:
        """Whom the client asked: of a Unix socket only the client can say it."""
        if isinstance(self._server, tuple):
            return self._server[0], str(self._server[1])
        host: str = environ.get("HTTP_HOST", "")
        if not host:
            return self._server, ""
        parts = host.split(":")
        return parts[0], parts[1] if len(parts) > 1 else _PORTS[request.scheme]


class PlainAnswers(AsyncWorker):  # type: ignore[misc]
    """The part of a worker that has the application answer a plain request.

    Stands behind ``GeventWorker``, whose ``handle_request`` knows how a greenlet is ended.
    """

    alive: bool
    nr: int
    _desks: dict[Any, Desk]
    """By the name of the listener."""

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> object:
        """The same steps as gunicorn's own; says ``is_answered`` when another request may follow.

        Raises:
            StopIteration: By the application: it has used up the connection.
            OSError: The client left, or the application failed that way.
        """
        if not isinstance(req, PlainRequest):
            return super().handle_request(listener_name, req, sock, addr)
        started, environ, response = datetime.now(), dict[str, Any](), None
        try:
            self.cfg.pre_request(self, req)
            response, environ = self._desks[listener_name].create(req, sock)
            self._count()
            if not self.alive or not self.cfg.keepalive:
                response.force_close()
            pieces = self.wsgi(environ, response.start_response)
            if self.is_already_handled(pieces):
                req.is_answered = True
            else:
                self._send(pieces, response, environ, started)
                req.is_answered = not response.should_close()
        except (StopIteration, OSError):
            raise
        except (Exception, SystemExit):
            if response is None or not response.headers_sent:
                raise
            self.log.exception("Error handling request")
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        finally:
            try:
                self.cfg.post_request(self, req, environ, response)
            except Exception:
                self.log.exception("Exception in post_request hook")
        return None

    def _count(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    def _send(
        self, pieces: Any, response: wsgi.Response, environ: dict[str, Any], started: datetime
    ) -> None:
        try:
            if isinstance(pieces, environ["wsgi.file_wrapper"]):
                response.write_file(pieces)
            else:
                for piece in pieces:
                    response.write(piece)
            if environ.get(GIVEN):
                response.force_close()
            else:
                response.close()
        finally:
            self.log.access(response, response.req, environ, datetime.now() - started)
            if hasattr(pieces, "close"):
                pieces.close()
