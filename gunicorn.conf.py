"""How the server runs: ``gunicorn app:app`` reads this file."""

import gc
import os
import sys
import time

from gevent import config as gevent_config

from streaming import ConfigurationError, drain_worker, watch_worker

gevent_config.track_greenlet_tree = False  # who spawned whom: 0.7 KiB for each connection

bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"
worker_class = "streaming.web.server.StreamingWorker"
try:
    cpus = len(os.sched_getaffinity(0))  # those this process may use; Linux only
except AttributeError:
    cpus = os.cpu_count() or 1
workers = int(os.environ.get("WEB_CONCURRENCY") or cpus)
os.environ.setdefault("STREAMING_LOG", "sqlite:///streaming.db")  # what the workers share
worker_connections = 10_000
backlog = 4096
keepalive = 1  # an idle connection may hold a stopping worker for that long
graceful_timeout = 10
control_socket_disable = True  # several servers of one user would trip over the one socket


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    """Drain when told to stop, and keep the cycle collector away from what lives for ever."""
    try:
        watch_worker(worker)
    except ConfigurationError as error:
        if worker.age % worker.cfg.workers == 1:  # one of them says it for all
            worker.log.critical("%s", error)
            sys.exit(4)  # has gunicorn stop instead of starting another
        while worker.alive:
            time.sleep(0.1)
        sys.exit(0)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def child_exit(server, worker):  # type: ignore[no-untyped-def]
    """Take the clients of a worker that has ended out of the metrics, where there are any."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        try:
            from prometheus_client import multiprocess
        except ImportError:
            return
        multiprocess.mark_process_dead(worker.pid)


def worker_exit(server, worker):  # type: ignore[no-untyped-def]
    """End the streams that are still open; let the interpreter clean up in its usual order."""
    drain_worker()
    gc.unfreeze()
