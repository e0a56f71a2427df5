"""Subscribers whose sockets the dispatcher writes to. Only in greenlets: see tests/greenlets.py."""

import os
import socket
from collections.abc import Iterable, Sequence

from streaming.hub.hub import Hub
from streaming.hub.remainder import Remainder
from streaming.hub.sink import Format, Rest, encode_blocks
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

    def frame(self, blocks: bytes, /) -> bytes:
        return blocks

    def escape(self, text: str, /) -> bytes:
        return text.encode()

    def around(self, message: Message, own: bool, others: bytes | None, /) -> tuple[bytes, bytes]:
        behind = b"" if others is None else b" " + others
        return b"own " if own else b"", behind + b"\n"

    def ends(self, size: int, /) -> tuple[bytes, bytes]:
        return b"", b""


def encode(sub: Subscription, form: Format, message: Message | Gap) -> bytes:
    """A message that ``sub`` has read, as its client is told it; there must be no gap."""
    assert isinstance(message, Message), f"a gap: {message}"
    return encode_blocks(form, [message], "", sub.tell_all([message]))


def all_of(rest: Rest) -> bytes:
    """The bytes of it, which are taken with that."""
    data = b"" if isinstance(rest, Remainder) else bytes(rest)  # type: ignore[call-overload]
    while isinstance(rest, Remainder) and rest:
        piece = b"".join(rest.pieces())
        rest.take(len(piece))
        data += piece
    return data


class SocketSink:
    """A socket that is lent to the dispatcher between ``open`` and ``finish`` or ``hold``."""

    def __init__(self, sock: socket.socket, client: str = "client") -> None:
        assert not os.get_blocking(sock.fileno()), "direct writes would block everybody"
        self.sock = sock
        self.client = client
        self.fd = -1
        self.rest: Rest = b""
        self.torn = self.full = 0
        self.messages = self.size = 0

    def open(self) -> None:
        if not self.rest:
            self.fd = self.sock.fileno()

    def hold(self, rest: Rest) -> None:
        self.fd = -1
        self.torn += bool(rest)
        self.full += not rest
        if rest:
            assert not self.rest, "written to behind a torn frame"
            self.rest = rest

    def finish(self) -> None:
        """Take the socket back and send what was begun. Blocks."""
        self.fd = -1
        self.sock.sendall(all_of(self.rest))
        self.rest = b""


class Client:
    """A subscriber at the head, and the other end of its socket."""

    def __init__(
        self,
        hub: Hub,
        form: Format,
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
        self.messages = self.size = 0

    def hold(self, rest: Rest) -> None:
        raise AssertionError("it takes everything")
