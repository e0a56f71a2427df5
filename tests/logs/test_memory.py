"""streaming/logs/memory.py; what it promises is in the suite for every log."""

from streaming.logs import MemoryLog, Retention
from tests.listener import follow
from tests.steps import count_steps


def steps(log: MemoryLog, channel: str) -> int:
    """How many lines are run to append to a channel that is new."""
    return count_steps(lambda: log.append(channel, "text"))


def test_a_new_channel_costs_the_same_however_many_are_followed() -> None:
    log = MemoryLog(Retention(channels=100))
    for n in range(200):
        log.append(f"other:{n}", "text")
    steps(log, "first")  # what is made once
    few = steps(log, "one")
    names = [f"followed:{n}" for n in range(3_000)]
    follow(log, *names)
    for name in names:
        log.append(name, "text")
    assert steps(log, "another") <= few + 10
