"""``flask streaming bench``: clients that follow, are cut and come back, every message counted."""
