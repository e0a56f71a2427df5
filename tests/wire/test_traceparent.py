"""streaming/wire/traceparent.py: W3C Trace Context, section 3.2."""

import pytest

from streaming.wire import traceparent

EXAMPLE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_what_is_written_is_read_again() -> None:
    assert traceparent.known(EXAMPLE) == EXAMPLE
    parts = traceparent.decode(EXAMPLE)
    assert parts == (0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1)
    assert traceparent.encode(*parts) == EXAMPLE
    assert traceparent.encode(1, 2, 0) == f"00-{1:032d}-{2:016d}-00"
    assert len(traceparent.encode(2**128 - 1, 2**64 - 1, 255)) == traceparent.SIZE


@pytest.mark.parametrize(
    "text",
    [
        *(None, 5, b"00", "", EXAMPLE[:-1], f"{EXAMPLE}\n", f"{EXAMPLE}-00", EXAMPLE.upper()),
        *(f"ff{EXAMPLE[2:]}", f"01{EXAMPLE[2:]}", EXAMPLE.replace("-", "_")),
        *(f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{'a' * 32}-{'0' * 16}-01"),
        EXAMPLE.replace("4", "\N{ARABIC-INDIC DIGIT FOUR}"),
    ],
)
def test_what_is_none_is_not_taken_for_one(text: object) -> None:
    assert traceparent.known(text) is None
