"""WebSocket frames: messages to frames and back (RFC 6455 section 5).

Encoding is the server's side (unmasked); ``encode_client`` is the other one. The decoder reads
either. Bytes that were encoded once can be sent to any number of clients.
"""

from __future__ import annotations

from ..errors import InvalidMessage
from .closing import is_close_code
from .decoder import Decoder as Decoder
from .header import Frame as Frame
from .header import Opcode as Opcode
from .header import announce as announce
from .header import encode as encode
from .header import encode_client as encode_client
from .masking import apply_mask as apply_mask
from .received import PROGRESS as PROGRESS
from .received import Binary as Binary
from .received import Close as Close
from .received import Ping as Ping
from .received import Pong as Pong
from .received import Progress as Progress
from .received import Received as Received
from .received import Text as Text

_MOST_REASON_BYTES = 123


def encode_text(text: str) -> bytes:
    """``text`` as one text frame of a server.

    Raises:
        InvalidMessage: If it holds half a surrogate pair.
    """
    try:
        return encode(Opcode.TEXT, text.encode())
    except UnicodeEncodeError as error:
        raise InvalidMessage(
            f"The text holds half a surrogate pair at position {error.start}; it is not Unicode."
        ) from error


def encode_close(code: int | None = None, reason: str = "") -> bytes:
    """A close frame of a server; the reason is cut to 123 bytes, at the end of a character.

    Raises:
        InvalidMessage: If ``code`` may not be sent (section 7.4), as 1005 and 1006 may not.
    """
    if code is None:
        return encode(Opcode.CLOSE, b"")
    if not is_close_code(code):
        raise InvalidMessage(f"{code} is not a close code that can be sent.")
    text = reason.encode("utf-8", "replace")[:_MOST_REASON_BYTES].decode("utf-8", "ignore")
    return encode(Opcode.CLOSE, code.to_bytes(2) + text.encode())


def is_lone_pong(data: bytes) -> bool:
    """Whether ``data`` is one whole pong of a client and nothing else (RFC 6455 section 5.5.3)."""
    return (
        data[:1] == b"\x8a"
        and len(data) >= 6
        and 0x80 <= data[1] <= 0xFD
        and (len(data) == data[1] - 122)
    )
