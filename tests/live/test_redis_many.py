"""Many messages through Redis: what is kept stays as large as it is, on both sides.

``MANY=1000000`` for the full number; it takes some minutes.
"""

import itertools
import os
import threading
from contextlib import closing
from pathlib import Path

from streaming.hub.hub import Hub
from streaming.logs import Retention
from streaming.logs.redis import RedisLog
from streaming.message import Gap
from tests.polling import wait_until
from tests.redis_server import RedisServer, redis_server

MANY = int(os.environ.get("MANY", "20000"))
KEPT = 1000


def used(server: RedisServer) -> int:
    return int(server.ask("INFO", "memory")["used_memory"])


def resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_many_messages_leave_no_trace_but_the_last(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as server,
        closing(RedisLog(server.url(), Retention(messages=KEPT, key_window=1.0))) as log,
        Hub(log).subscribe("a") as sub,
    ):
        seen, sent = 0, itertools.count(1)
        sizes: list[tuple[int, int]] = []
        over = threading.Event()

        def follow() -> None:
            nonlocal seen
            while not over.is_set():
                for item in sub.take(1.0):
                    assert not isinstance(item, Gap)
                    seen += 1
                    assert item.id.offset == seen
                    if seen % (MANY // 10) == 0:
                        sizes.append((used(server), resident()))

        def publish() -> None:
            while (n := next(sent)) <= MANY:
                log.append("a", "x" * 100, key=str(n) if n % 10 == 0 else None)
                if n % 50 == 0:
                    wait_until(lambda: seen > n - KEPT // 2, "the subscriber keeps up")

        follower = threading.Thread(target=follow)
        publishers = [threading.Thread(target=publish) for _ in range(4)]
        for thread in (follower, *publishers):
            thread.start()
        for thread in publishers:
            thread.join()
        try:
            wait_until(lambda: seen == MANY, "all have arrived, in order and without a gap")
        finally:
            over.set()
            follower.join()
        print("Redis (KiB), this process (MiB):", [(r >> 10, p >> 20) for r, p in sizes])
        (redis_before, before), (redis_after, after) = sizes[1], sizes[-1]
        assert redis_after < redis_before + (2 << 20)
        assert after < before + (32 << 20)
        assert server.ask("XLEN", f"{log._url.prefix}{{a}}:log") == KEPT
