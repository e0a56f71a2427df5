"""A clock that a test moves."""


class Clock:
    """Says ``now``, in seconds; time passes when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now
