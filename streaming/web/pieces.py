"""What ``stream`` is given: an iterable of text or bytes, checked, as text."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterable, Coroutine, Iterable, Iterator, Mapping

BYTES = (bytes, bytearray, memoryview)


def check_pieces(pieces: object) -> None:
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
        f"stream() takes an iterable of str or bytes, not {type(pieces).__name__}{hint}."
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
