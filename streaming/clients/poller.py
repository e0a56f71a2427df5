"""One wait for all clients at rest: who of them has said something, or left?"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ..bell import give_turn
from ..own import era, is_over

SLICE = 0.001
"""Seconds of serving clients after which others get a turn: thousands may leave at once."""

FIRST, LONGEST = 0.01, 1.0
"""Seconds of the pause behind a wait that has failed, and of the longest of a row of failures."""

_log = logging.getLogger(__name__)


class Poller:
    """Calls back when a watched socket becomes readable, which end of file is too.

    Owns one daemon thread while something is watched. A greenlet server replaces the selector by
    its own, so that thousands of clients at rest cost one greenlet. For such servers only: all
    methods are called from one operating system thread.
    """

    def __init__(self) -> None:
        self._selector: selectors.BaseSelector | None = None
        self._reader = self._waker = -1
        self._is_woken = False
        self._pause = 0.0  # before the next wait: the last one has failed

    def watch(self, sock: socket.socket, call: Callable[[], None]) -> None:
        """Call ``call()`` once, in the poller's thread, when ``sock`` is readable.

        ``call`` must not block. From then on the socket is not watched any more and may be closed;
        not before: to end a client at rest, shut its socket down, which makes it readable. If the
        poller fails, everybody is called, and finds out what became of its socket; if it fails for
        ever, once a second.

        Raises:
            OSError: If the system has no file descriptor left for it; ``sock`` is not watched.
            RuntimeError: If it has no thread.
        """
        if self._selector is None:
            self._start(sock, call)
            return
        self._selector.register(sock, selectors.EVENT_READ, call)
        if not self._is_woken:
            self._is_woken = True
            os.write(self._waker, b"!")

    def _start(self, sock: socket.socket, call: Callable[[], None]) -> None:
        reader, waker = os.pipe()
        selector: selectors.BaseSelector | None = None
        try:
            os.set_blocking(reader, False)
            self._selector = selector = selectors.DefaultSelector()
            self._reader, self._waker, self._is_woken = reader, waker, False
            selector.register(reader, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_READ, call)
            parts, name = (selector, reader, waker), "streaming poller"
            threading.Thread(target=self._run, args=parts, name=name, daemon=True).start()
        except BaseException:
            self._selector = None
            _close(selector, reader, waker)
            raise

    def _run(self, selector: selectors.BaseSelector, reader: int, waker: int) -> None:
        left: list[selectors.SelectorKey] = []
        born = era()
        try:
            if self._pause:
                time.sleep(self._pause)
            while len(selector.get_map()) > 1:
                turn, ready = time.monotonic() + SLICE, selector.select()
                if is_over(born):  # these are our parent's clients
                    return
                for key, _ in ready:
                    self._serve(selector, key)
                    if time.monotonic() > turn:
                        give_turn()
                        turn = time.monotonic() + SLICE
                self._pause = 0.0
        except Exception:
            if not self._pause:
                _log.exception("The poller failed; another one takes over")
            self._pause = min(self._pause * 2 or FIRST, LONGEST)
        finally:
            with suppress(Exception):
                left = [key for key in selector.get_map().values() if key.data is not None]
            if self._selector is selector:
                self._selector = None
            _close(selector, reader, waker)
        for key in left:
            _call(key)

    def _serve(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        if key.data is None:
            os.read(self._reader, 64)
            self._is_woken = False
            return
        selector.unregister(key.fileobj)
        _call(key)


def _call(key: selectors.SelectorKey) -> None:
    try:
        key.data()
    except Exception:
        _log.exception("A client at rest could not be served")


def _close(selector: selectors.BaseSelector | None, *descriptors: int) -> None:
    if selector is not None:
        with suppress(OSError):
            selector.close()
    for descriptor in descriptors:
        os.close(descriptor)
