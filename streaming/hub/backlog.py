"""What a producer has said and the log does not have yet: pieces in a row, as few messages."""

from __future__ import annotations

import threading

from ..message import text_size


class Backlog:
    """Messages that wait for the log, in order. From any thread; one writes.

    Texts of one kind that follow each other become one message, up to ``slice`` characters.
    """

    def __init__(self, slice: int) -> None:
        self.size = 0
        """Bytes that wait."""
        self._slice = slice
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, list[str], bool]] = []  # and if more may join

    def put(self, event: str, text: str, *, merges: bool) -> None:
        """Put a message behind the others, or a piece of text behind one that waits."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if merges and last is not None and last[0] == event:
                last[1].append(text)
            else:
                self._waiting.append((event, [text], merges))
            self.size += text_size(text)

    def first(self, *, again: bool) -> tuple[str, str] | None:
        """The event and the text to be written next; of a long text the beginning. None if there is
        nothing. With ``again``, the same as before, whatever was put meanwhile."""
        with self._lock:
            if not self._waiting:
                return None
            event, pieces, merges = self._waiting[0]
            if merges and not again:
                text, most = "".join(pieces), self._slice
                pieces[:] = [text[:most], text[most:]] if len(text) > most else [text]
            return event, pieces[0]

    def pop(self) -> None:
        """What ``first`` gave is written."""
        with self._lock:
            _, pieces, _ = self._waiting[0]
            self.size -= text_size(pieces.pop(0))
            if not pieces:
                del self._waiting[0]

    def clear(self) -> None:
        """Forget what waits."""
        with self._lock:
            self._waiting.clear()
            self.size = 0
