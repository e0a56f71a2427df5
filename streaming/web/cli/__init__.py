"""``flask streaming …``: a log, and what serves it, as seen from outside the web processes."""
