"""What ``stream`` and ``run`` are given: iterables of text, bytes or parts, checked."""

from __future__ import annotations

import codecs
import inspect
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any

from .parts import Part

BYTES = (bytes, bytearray, memoryview)


def check_pieces(pieces: object, caller: str = "stream") -> None:
    """Return if ``pieces`` can be iterated over for pieces; none is asked for.

    Raises:
        TypeError: If not, or if each piece would be none: of bytes these are numbers, of a dict
            its keys.
    """
    hint = ""
    if isinstance(pieces, BYTES):
        hint = "; give it in a list: [b'…']"
    elif isinstance(pieces, Mapping):
        hint = "; give [json.dumps(value)], or pieces of text"
    elif isinstance(pieces, AsyncIterable | Coroutine):
        if isinstance(pieces, Coroutine):
            pieces.close()
        hint = " (async): greenlet workers have one event loop too few; use the plain client"
    elif callable(pieces) and not isinstance(pieces, Iterable):
        hint = "; did you mean to call it?"
    elif isinstance(pieces, Iterable) or hasattr(type(pieces), "__getitem__"):
        return
    raise TypeError(
        f"{caller}() takes an iterable of str or bytes, not {type(pieces).__name__}{hint}."
    )


def texts(pieces: Iterable[str | bytes]) -> Iterator[str]:
    """The pieces as text; bytes are decoded without ever cutting a character.

    Raises:
        TypeError: For a piece that is neither, from the iterator.
    """
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    for piece in pieces:
        if isinstance(piece, str):
            yield piece
        elif isinstance(piece, BYTES):
            yield decode(piece)
        else:
            raise TypeError(
                f"A piece of a stream is str or bytes, not {type(piece).__name__}: "
                "give json.dumps(piece), or str(piece)."
            )
    yield decode(b"", True)


Producer = Callable[..., Any] | Iterable[Any]
"""What ``Streaming.run`` is given: a function, a generator function, or an iterable."""


def check_producer(producer: object, args: tuple[Any, ...]) -> None:
    """Return if ``producer`` can be asked for pieces; none is asked for.

    Raises:
        TypeError: If not, or if it is a function that does not take these arguments.
    """
    if not callable(producer) or isinstance(producer, Iterable):
        if args:
            raise TypeError("run() takes arguments for a function only, not for an iterable.")
        check_pieces(producer, "run")
        return
    if inspect.iscoroutinefunction(producer) or inspect.isasyncgenfunction(producer):
        raise TypeError(
            f"run() takes an ordinary function, not {producer!r:.80}, which is async: "
            "greenlet workers have one event loop too few; use the plain client."
        )
    try:
        signature = inspect.signature(producer)
    except ValueError:  # a builtin that does not tell
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        raise TypeError(f"run() cannot call {producer!r:.80}: {error}.") from None


def parts_of(
    producer: Producer, args: tuple[Any, ...], closes: Callable[[object], object]
) -> Iterator[str | Part]:
    """What ``producer`` says; nothing if it is a function that returns None.

    ``closes`` is told of what can be closed while it is waited for. Closed by its own thread when
    this is.

    Raises:
        TypeError: For something that is no piece.
    """
    is_function = callable(producer) and not isinstance(producer, Iterable)
    source: Any = producer(*args) if is_function else producer  # type: ignore[operator]
    if source is None:
        return
    if isinstance(source, (str, Part, *BYTES)):
        source = [source]
    check_pieces(source, "run")
    try:
        if hasattr(source, "close") and not inspect.isgenerator(source):  # its own thread can
            closes(source)
        yield from _decoded(source)
    finally:
        close = getattr(source, "close", None)
        if callable(close):
            close()


def _decoded(pieces: Iterable[Any]) -> Iterator[str | Part]:
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    for piece in pieces:
        if isinstance(piece, str | Part):
            yield piece
        elif isinstance(piece, BYTES):
            yield decode(piece)
        else:
            raise TypeError(
                f"A piece of a run is str, bytes or Part, not {type(piece).__name__}: "
                "give Part('data', piece), or str(piece)."
            )
    yield decode(b"", True)
