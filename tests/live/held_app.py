"""The demo, whose answers wait in the middle while there is a file, ``HELD``."""

import os
from collections.abc import Iterator
from pathlib import Path

from app import app as app
from demo import answer_book
from streaming import current_run

HELD = Path(os.environ["HELD"])
SAID = 20
"""Pieces of an answer that come before it waits."""

pieces = answer_book.pieces


def held(text: str) -> Iterator[str]:
    """What the book has to say, in pieces."""
    for n, piece in enumerate(pieces(text)):
        while n >= SAID and HELD.exists() and not current_run().wait(0.05):
            pass
        yield piece


answer_book.pieces = held
