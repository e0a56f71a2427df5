"""One wait for all clients at rest: who of them has said something, or left?"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable

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

    def watch(self, sock: socket.socket, call: Callable[[], None]) -> None:
        """Call ``call()`` once, in the poller's thread, when ``sock`` is readable.

        ``call`` must not block. From then on the socket is not watched any more and may be closed;
        not before: to end a client at rest, shut its socket down, which makes it readable.
        """
        if self._selector is None:
            self._start()
        assert self._selector is not None
        self._selector.register(sock, selectors.EVENT_READ, call)
        if not self._is_woken:
            self._is_woken = True
            os.write(self._waker, b"!")

    def _start(self) -> None:
        self._reader, self._waker = os.pipe()
        os.set_blocking(self._reader, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        self._is_woken = False
        threading.Thread(target=self._run, name="streaming poller", daemon=True).start()

    def _run(self) -> None:
        selector = self._selector
        assert selector is not None
        try:
            while True:
                for key, _ in selector.select():
                    self._serve(selector, key)
                if len(selector.get_map()) == 1:
                    break
        except Exception:
            _log.exception("The poller failed; clients at rest are not heard")
        finally:
            self._selector = None
            selector.close()
            os.close(self._reader)
            os.close(self._waker)

    def _serve(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        if key.data is None:
            os.read(self._reader, 64)
            self._is_woken = False
            return
        selector.unregister(key.fileobj)
        try:
            key.data()
        except Exception:
            _log.exception("A client at rest could not be served")
