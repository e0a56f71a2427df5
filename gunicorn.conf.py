"""How the server runs: ``gunicorn app:app`` reads this file."""

import gc
import os

from gevent import config as gevent_config

from streaming import drain_worker, watch_worker

gevent_config.track_greenlet_tree = False  # who spawned whom: 0.7 KiB for each connection

bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"
worker_class = "gevent"
workers = int(
    os.environ.get("WORKERS", "1")
)  # with STREAMING_LOG=memory: every worker is an island
worker_connections = 10_000
backlog = 4096
keepalive = 1  # an idle connection may hold a stopping worker for that long
graceful_timeout = 10
control_socket_disable = True  # several servers of one user would trip over the one socket


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    """Drain when told to stop, and keep the cycle collector away from what lives for ever."""
    watch_worker(worker)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def worker_exit(server, worker):  # type: ignore[no-untyped-def]
    """End the streams that are still open; let the interpreter clean up in its usual order."""
    drain_worker()
    gc.unfreeze()
