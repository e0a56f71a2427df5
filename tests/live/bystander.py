"""Somebody who only wants to be served, while others cost the server what they can."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.live.clients import RawClient, post_json
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until

DEADLINE = PATIENCE
"""Seconds in which the bystander has to be answered, and has to see what it published."""

EVENTS = "/streaming/events?channel=chat"


class Bystander:
    """Asks for a page over and over, on a new connection each time, and publishes to itself."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._is_over = threading.Event()
        self.pages = self.messages = 0
        self.faults: list[BaseException] = []

    def ask(self) -> None:
        while not self._is_over.is_set():
            with RawClient(f"{self._server.url}/streaming/readyz", timeout=DEADLINE) as page:
                assert page.status == 200
            self.pages += 1

    def listen(self) -> None:
        with RawClient(self._server.url + EVENTS, timeout=DEADLINE) as stream:
            assert stream.next_event() is not None
            while not self._is_over.is_set():
                text = f"message {self.messages}"
                url = f"{self._server.url}/streaming/channels/chat"
                assert post_json(url, {"data": text})[0] == 201
                event = stream.next_event(DEADLINE)
                assert event is not None
                assert event.data == text
                self.messages += 1

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """Be served from before to behind what is done here, each time within ``DEADLINE``."""
        threads = [
            threading.Thread(target=self._try, args=(work,)) for work in (self.ask, self.listen)
        ]
        for thread in threads:
            thread.start()
        try:
            self.wait_served()
            yield
            self.wait_served()
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join(2 * DEADLINE)
        assert not any(thread.is_alive() for thread in threads)
        assert not self.faults, self.faults

    def wait_served(self) -> None:
        """Wait until it was served three times more."""
        pages, messages = self.pages, self.messages
        wait_until(
            lambda: self.faults or min(self.pages - pages, self.messages - messages) > 2,
            "the bystander is served",
            timeout=8 * DEADLINE,
        )
        assert not self.faults, self.faults

    def _try(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as fault:
            self.faults.append(fault)


def memory_of(pid: int) -> int:
    """Bytes of memory that a process holds."""
    (line,) = [x for x in Path(f"/proc/{pid}/status").read_text().split("\n") if "VmRSS" in x]
    return int(line.split()[1]) * 1024


def descriptors_of(pid: int) -> int:
    """How many file descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))
