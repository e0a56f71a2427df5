"""Connected sockets, ours the way a greenlet server has it."""

import socket
from collections.abc import Callable

from tests.greenlets import is_green
from tests.polling import PATIENCE

Pair = tuple[socket.socket, socket.socket]


class GreenSocket(socket.socket):
    """Stands for a greenlet server's socket: non-blocking for the kernel, its ``send`` waits."""

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:  # type: ignore[override]
        return super().send(data, flags)


def green(sock: socket.socket) -> socket.socket:
    """``sock`` as a greenlet server would have it, with a small buffer; ``sock`` is used up."""
    ours = sock if is_green() else GreenSocket(fileno=sock.detach())
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.settimeout(PATIENCE)  # a time-out makes the descriptor non-blocking, and sends wait
    return ours


def unix_pair() -> Pair:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    return green(ours), theirs


def tcp_pair() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), PATIENCE)
        return green(listener.accept()[0]), theirs


PAIRS: dict[str, Callable[[], Pair]] = {"tcp": tcp_pair, "unix": unix_pair}
