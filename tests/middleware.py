"""Middleware that stands around applications in tests, as others put theirs."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def collecting(app: Wsgi) -> Wsgi:
    """Middleware that collects 10 kB before it passes anything on, and touches no head."""

    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        held, pieces = b"", app(environ, start_response)
        try:
            for piece in pieces:
                held += piece
                if len(held) > 10_000:
                    yield held
                    held = b""
            yield held
        finally:
            getattr(pieces, "close", lambda: None)()

    return wrapped


def compressing(app: Wsgi) -> Wsgi:
    """Middleware that compresses, and says so in the head."""

    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        packer = zlib.compressobj(wbits=31)

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, ("Content-Encoding", "gzip")], *rest)

        pieces = app(environ, start)
        try:
            for piece in pieces:
                yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
            yield packer.flush()
        finally:
            getattr(pieces, "close", lambda: None)()

    return wrapped


class Watching:
    """What Sentry and others do: they see what leaves the application, and its iterable."""

    def __init__(self, app: Wsgi) -> None:
        self.app = app
        self.seen: list[BaseException] = []
        self.closed = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        try:
            pieces = self.app(environ, lambda *how: start_response(*how))
        except BaseException as error:
            self.seen.append(error)
            raise
        return _Watched(self, pieces)


class _Watched:
    def __init__(self, watching: Watching, pieces: Iterable[bytes]) -> None:
        self.watching = watching
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        iterator = iter(self.pieces)
        while True:
            try:
                piece = next(iterator)
            except StopIteration:
                return
            except BaseException as error:
                self.watching.seen.append(error)
                raise
            yield piece

    def close(self) -> None:
        self.watching.closed += 1
        try:
            getattr(self.pieces, "close", lambda: None)()
        except BaseException as error:
            self.watching.seen.append(error)
            raise
