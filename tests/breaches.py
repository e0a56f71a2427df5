"""What no peer of a WebSocket may do (RFC 6455), as bytes, and the close code that answers it."""

import struct

from tests.live.raw_websocket import CLOSE, CONTINUATION, PING, TEXT, encode

BREACHES = {
    "an unmasked frame": (encode(TEXT, b"hi", mask=False), 1002),
    "a reserved bit": (encode(TEXT, b"hi", first_bits=0xA0), 1002),
    "compression nobody agreed on": (encode(TEXT, b"hi", first_bits=0xC0), 1002),
    "a reserved opcode": (encode(0x3, b"hi"), 1002),
    "a reserved control opcode": (encode(0xF, b"hi"), 1002),
    "a fragmented ping": (encode(PING, b"hi", first_bits=0), 1002),
    "a ping too long": (encode(PING, b"x" * 126), 1002),
    "a continuation of nothing": (encode(CONTINUATION, b"hi"), 1002),
    "a message in a message": (encode(TEXT, b"a", first_bits=0) + encode(TEXT, b"b"), 1002),
    "a close code of one byte": (encode(CLOSE, b"\x03"), 1002),
    "a close code nobody may send": (encode(CLOSE, struct.pack("!H", 1005)), 1002),
    "a length with its top bit set": (struct.pack("!BBQ", 0x81, 0xFF, 1 << 63), 1002),
    "a length not in its shortest form": (struct.pack("!BBH", 0x81, 0xFE, 5), 1002),
    "invalid UTF-8": (encode(TEXT, b"\xff\xfe"), 1007),
    "a surrogate in UTF-8": (encode(TEXT, b"\xed\xa0\x80"), 1007),
    "invalid UTF-8 in fragments": (
        encode(TEXT, b"\xe5", first_bits=0) + encode(CONTINUATION, b"x"),
        1007,
    ),
    "a text that ends in a character": (encode(TEXT, "好".encode()[:2]), 1007),
    "invalid UTF-8 in a close": (encode(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    # where a message may have a million bytes at the most
    "more than the limit, in its header": (struct.pack("!BBQ", 0x82, 0xFF, 1_000_001), 1009),
    "more than the limit, in fragments": (
        encode(TEXT, b"x" * 600_000, first_bits=0) + struct.pack("!BBQ", 0x80, 0xFF, 400_001),
        1009,
    ),
}
