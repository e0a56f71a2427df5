"""What the server around us lacks: found out by the first stream, said once, with what to change.

Nothing of it needs a configuration file: the WSGI environment tells (PEP 3333).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..logs import MemoryLog
from ..threads import are_greenlets
from .metrics import FOLDER
from .said import say_once
from .state import State
from .worker import find_worker, is_watched, watch

_SERVERS = frozenset({"SERVER_SOFTWARE", "uwsgi.version", "asgi.scope"})
"""What servers put into the environment, each some of it, and no test's client."""

_NOTHING = object()


def look_at_stream(environ: Mapping[str, Any], state: State) -> None:
    """Say what becomes of a stream on this server, if that is not what one expects.

    Under gunicorn without ``watch_worker`` it also has this process drained when it stops.
    """
    look_at_publish(environ, state)
    if not _is_served(environ):
        return
    if _is_bridged(environ):
        say_once(
            "An ASGI server runs this application behind a bridge. The bridge does not tell of "
            "a client that has left: its stream keeps a thread until the server stops, and then "
            "it breaks off. There are no WebSockets. Serve it with gunicorn -k gevent."
        )
        return
    if not environ.get("wsgi.multithread") and not are_greenlets():
        say_once(
            "This server handles one request at a time: a stream holds up everybody else until it "
            "ends. Give it greenlets (gunicorn -k gevent), or threads, one for each client "
            "(gunicorn --threads 100; flask run without --without-threads)."
        )
    if is_watched():
        return
    name = str(environ.get("SERVER_SOFTWARE", ""))
    worker = find_worker() if "gunicorn" in name else None
    if worker is not None:
        watch(worker, is_last=True)
    elif not name.startswith("Werkzeug"):
        called = f" ({name:.50})" if name else ""
        say_once(
            f"Nobody tells streams when this server{called} is about to stop: they break off "
            "then, and clients come back as after any lost connection. "
            "Call streaming.drain_worker() where the server says that a process ends."
        )


def look_at_publish(environ: Mapping[str, Any], state: State) -> None:
    """Say if what is published here cannot reach everybody."""
    is_one_of_many = environ.get("wsgi.multiprocess") and _is_served(environ)
    if _is_bridged(environ):
        return  # which says that there are many in any case
    if is_one_of_many and isinstance(state.hub.log, MemoryLog):
        say_once(
            "Several processes serve this application, and STREAMING_LOG is memory:. What one of "
            "them publishes, the clients of the others never see. Set it to "
            "'sqlite:///streaming.db' (processes of one machine) or 'redis://host:6379' (of many), "
            "or start one process (gunicorn --workers 1)."
        )


def look_at_metrics(environ: Mapping[str, Any]) -> None:
    """Say if what is counted here is a part of what there is."""
    if environ.get("wsgi.multiprocess") and _is_served(environ) and FOLDER not in os.environ:
        say_once(
            "Several processes serve this application, and each counts for itself: a scrape meets "
            f"one of them. Set {FOLDER} to an empty folder before the server starts."
        )


def look_at_config(config: Mapping[str, Any], state: State) -> None:
    """Say which settings came after they were read."""
    if late := late_settings(config, state):
        say_once(
            f"{', '.join(late)} was set behind Streaming(app), which reads the settings "
            "once: it has no effect. Set it before."
        )


def late_settings(config: Mapping[str, Any], state: State) -> list[str]:
    """The settings that came after they were read."""
    return sorted(
        key
        for key, value in config.items()
        if key.startswith("STREAMING_")
        and getattr(state.settings, key.removeprefix("STREAMING_").lower(), _NOTHING) != value
    )


def _is_served(environ: Mapping[str, Any]) -> bool:
    """Whether there is a server, and not a test's client or a made-up request."""
    return not _SERVERS.isdisjoint(environ)


def _is_bridged(environ: Mapping[str, Any]) -> bool:
    """Whether there is an ASGI server in front (a2wsgi tells, hypercorn's own bridge does not)."""
    return "asgi.scope" in environ
