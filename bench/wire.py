"""What the generator puts on the wire and how it counts what comes back; no I/O, no clock."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

MASK_KEY = b"\x37\xfa\x21\x3d"  # not zeros: a server may skip the unmasking of those
SSE_MESSAGE = re.compile(rb"data: ?#(\d{8})@(\d{19})@x*;\r?\n")
WS_MESSAGE = re.compile(
    rb"\x81(?:([\x00-\x7d])|\x7e(..))((?:You said: |Other client said: )?#(\d{8})@(\d{19})@x*;)",
    re.DOTALL,
)


class Miscounted(Exception):
    """A message was delivered twice, or its frame is not what it says."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The whole messages of one piece: bit i of ``mask`` stands for number ``first + i``."""

    first: int
    mask: int
    stamps: tuple[int, ...]
    rest: bytes


def message(number: int, stamp: int, size: int) -> bytes:
    """``size`` bytes of text with a sequence number and a time in nanoseconds."""
    head = b"#%08d@%019d@" % (number, stamp)
    return head + b"x" * (size - len(head) - 1) + b";"


def scan(kind: str, data: bytes) -> Scan:
    """Find the whole messages in ``data``; ``rest`` is to be put before what comes next.

    Raises:
        Miscounted: A number is there twice, or a frame's length is wrong.
    """
    end, numbers, stamps = 0, [], []
    if kind == "sse":
        for found in SSE_MESSAGE.finditer(data):
            numbers.append(int(found[1]))
            stamps.append(int(found[2]))
            end = found.end()
    else:
        for found in WS_MESSAGE.finditer(data):
            if int.from_bytes(found[1] or found[2], "big") != len(found[3]):
                raise Miscounted(f"a frame of message {int(found[4])} has a wrong length")
            numbers.append(int(found[4]))
            stamps.append(int(found[5]))
            end = found.end()
    rest = begun(b"data:" if kind == "sse" else b"\x81", data[end:])
    if not numbers:
        return Scan(0, 0, (), rest)
    first, mask = min(numbers), 0
    for number in numbers:
        mask |= 1 << (number - first)
    if mask.bit_count() != len(numbers):
        raise Miscounted(f"a message after {first} came twice in one piece")
    return Scan(first, mask, tuple(stamps), rest)


def begun(prefix: bytes, tail: bytes) -> bytes:
    """What of ``tail`` may be the beginning of a message that starts with ``prefix``."""
    at = tail.find(prefix)
    if at >= 0:
        return tail[at:]
    for length in range(min(len(prefix) - 1, len(tail)), 0, -1):
        if tail.endswith(prefix[:length]):
            return tail[-length:]
    return b""


def advance(low: int, ahead: int, scan: Scan) -> tuple[int, int]:
    """Count ``scan`` for a connection that has every number below ``low``, and ``low + i`` for
    every bit i of ``ahead``; several publishers may overtake each other.

    Raises:
        Miscounted: It had one of the messages already.
    """
    shift = scan.first - low
    if shift < 0:
        raise Miscounted(f"message {scan.first} came twice")
    mask = scan.mask << shift
    if ahead & mask:
        raise Miscounted(f"a message after {low} came twice")
    ahead |= mask
    gained = ((ahead + 1) & ~ahead).bit_length() - 1
    return low + gained, ahead >> gained


def frame(text: bytes) -> bytes:
    """One masked text frame, as a client sends it (RFC 6455, section 5.2); up to 65,535 bytes."""
    size = len(text)
    key = (MASK_KEY * (size // 4 + 1))[:size]
    masked = (int.from_bytes(text, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    short = size < 126
    length = bytes([0x80 | size]) if short else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + MASK_KEY + masked


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get(path: str, kind: str = "") -> bytes:
    """A plain GET, or what opens a subscription of ``kind``."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
    if kind == "sse":
        lines += ["Accept: text/event-stream"]
    elif kind == "ws":
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    else:
        lines += ["Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


def answer_end(data: bytes) -> int:
    """Where the HTTP response at the start of ``data`` ends; 0 when it is not there yet."""
    head, separator, _ = data.partition(b"\r\n\r\n")
    if not separator:
        return 0
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    end = len(head) + 4 + (int(length[1]) if length else 0)
    return end if len(data) >= end else 0


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all are not above (nearest rank).

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
