"""Subscribers whose sockets the dispatcher writes to. Only in greenlets: see tests/greenlets.py."""

import os
import socket
from collections.abc import Iterable, Sequence
from typing import Protocol

from streaming.hub.hub import Hub
from streaming.hub.sink import Format
from streaming.hub.subscription import Reading, Subscription
from streaming.message import Gap, Message
from tests.polling import PATIENCE, wait_until


class Lines:
    """Each message a line; the publisher's own is marked."""

    personal = True

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, message: Message, /) -> bytes:
        self.encoded += 1
        return f"{message.data}\n".encode()

    def encode_own(self, message: Message, /) -> bytes:
        return f"own {message.data}\n".encode()

    def cut(self, messages: Sequence[Message], /) -> list[bytes]:
        """Each line ends with the places of the others."""
        blocks = [f"{message.data} " for message in messages]
        return [part.encode() for part in (blocks[0], *("\n" + b for b in blocks[1:]), "\n")]

    def encode_among(self, message: Message, others: bytes) -> bytes:
        return message.data.encode() + b" " + others + b"\n"

    def frame(self, blocks: bytes, /) -> bytes:
        return blocks


class SeveralFormat(Format, Protocol):
    """A format in which several channels can be followed."""

    def encode_among(self, message: Message, others: bytes) -> bytes:
        """``message``, of whose id ``others`` is the rest."""


def encode(sub: Subscription, form: SeveralFormat, message: Message | Gap) -> bytes:
    """A message that ``sub`` has read, as its client is told it; there must be no gap."""
    assert isinstance(message, Message), f"a gap: {message}"
    sub.step(message)
    if sub.is_several:
        return form.encode_among(message, sub.others(message.channel))
    return message.encoded(form)


class SocketSink:
    """A socket that is lent to the dispatcher between ``open`` and ``finish`` or ``hold``."""

    def __init__(self, sock: socket.socket, client: str = "client") -> None:
        assert not os.get_blocking(sock.fileno()), "direct writes would block everybody"
        self.sock = sock
        self.client = client
        self.fd = -1
        self.rest: bytes | memoryview = b""
        self.torn = self.full = 0

    def open(self) -> None:
        if not self.rest:
            self.fd = self.sock.fileno()

    def hold(self, rest: bytes | memoryview) -> None:
        self.fd = -1
        self.torn += bool(rest)
        self.full += not rest
        if rest:
            assert not self.rest, "written to behind a torn frame"
            self.rest = rest

    def finish(self) -> None:
        """Take the socket back and send what was begun. Blocks."""
        self.fd = -1
        if self.rest:
            self.sock.sendall(self.rest)
            self.rest = b""


class Client:
    """A subscriber at the head, and the other end of its socket."""

    def __init__(
        self,
        hub: Hub,
        form: SeveralFormat,
        client: str = "client",
        channels: str | Iterable[str] = "a",
    ) -> None:
        self.hub, self.form, self.channels = hub, form, channels
        self.ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(PATIENCE)
        self.sink = SocketSink(self.ours, client)
        self.sub = hub.subscribe(channels)
        self.park()

    def park(self) -> None:
        """Send what the log holds, and wait for the rest."""

        def is_live() -> bool:
            blocks = [encode(self.sub, self.form, item) for item in self.sub.read_on()]
            if blocks:
                self.ours.sendall(self.form.frame(b"".join(blocks)))
            return self.sub.park(self.form, self.sink)

        self.sink.finish()
        wait_until(is_live, "it is live")
        self.sink.open()

    def return_from(self, cursor: str) -> None:
        """Unsubscribe and subscribe again on the same connection."""
        self.sub.close()
        self.sink.finish()
        self.sub = self.hub.subscribe(self.channels, after=cursor)
        self.park()

    @property
    def is_live(self) -> bool:
        return self.sub.phase is Reading.LIVE

    def fill(self) -> int:
        """Stuff the socket until nothing more goes in; how many bytes that were."""
        size = 0
        while True:
            try:
                size += os.write(self.ours.fileno(), b"." * 1000)
            except BlockingIOError:
                return size

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.theirs.recv(size - len(data))
            assert piece, f"ended after {data!r}"
            data += piece
        return data

    def arrived(self) -> bytes:
        """What came and was not received, up to now."""
        try:
            return os.read(self.theirs.fileno(), 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.sub.close()
        self.ours.close()
        self.theirs.close()


class NullSink:
    """Takes everything, on a descriptor that many share."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.client = "client"

    def hold(self, rest: bytes | memoryview) -> None:
        raise AssertionError("it takes everything")
