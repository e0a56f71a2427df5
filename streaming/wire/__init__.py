"""Bytes to values and back: pure, standard library only, no clock, no I/O."""
