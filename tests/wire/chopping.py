"""The same bytes in other pieces: a decoder must not care."""

import random


def chop(data: bytes, rng: random.Random) -> list[bytes]:
    """``data`` in one to nine pieces, of which some may be empty."""
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 8)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
