"""Commands to Redis, however it is reached: one server, a Sentinel's master, a Cluster."""

from __future__ import annotations

import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoScriptError, ReadOnlyError, RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

from ...errors import LogUnavailable
from .backoff import Backoff, Outage
from .ear import Ear
from .errors import FAILURES, explain, is_foreign, is_outage
from .scripts import Script
from .url import RedisURL

TIMEOUT = 2.0
"""Seconds to connect, and seconds to wait for an answer."""

SENTINEL_TIMEOUT = 0.5
"""Seconds that one sentinel may take to connect and to answer."""

SCANNED = 1000
"""Keys that a server looks at in one command to find some."""

CONNECTIONS = 16
"""Commands that are on their way at the same time; the others wait their turn, ``TIMEOUT`` long."""


class Commands:
    """Runs scripts, a bounded time each. From any thread; connects when first used.

    An answer takes at most three times ``TIMEOUT``: for its turn, to connect, and to wait; and
    ``SENTINEL_TIMEOUT`` twice for each sentinel that is away. After a failure the next callers
    fail at once, until one of them finds the server back.
    """

    def __init__(self, url: RedisURL) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._client: Any = None
        self._is_closed = False
        self._turns = threading.BoundedSemaphore(CONNECTIONS)
        self._outages: defaultdict[str, Outage] = defaultdict(_outage)

    def run(self, script: Script, keys: Sequence[str], *args: object, again: bool = False) -> Any:
        """What ``script`` gives.

        Args:
            again: It may be sent once more if the connection broke, because it does no harm twice.

        Raises:
            LogUnavailable: If it could not be run; the cause is Redis' error, if there was one.
        """
        client = self._open()
        all_args = (len(keys), *keys, *args)

        def ask() -> Any:
            return self._send(client, script, all_args, again=again)

        return self._ask(client, self._node(client, keys[0]), ask, keys[0])

    def find(self, pattern: str, limit: int) -> list[str]:
        """Names of keys that fit ``pattern``, at most ``limit``, on all nodes; those that can be
        found within ``TIMEOUT``.

        Raises:
            LogUnavailable: If the server cannot be reached.
        """
        client = self._open()

        def ask() -> list[str]:
            until = time.monotonic() + TIMEOUT
            found: dict[str, None] = {}
            for node in _nodes(client):
                cursor = -1
                while cursor and len(found) < limit and time.monotonic() < until:
                    cursor, some = node.scan(max(cursor, 0), match=pattern, count=SCANNED)
                    found |= dict.fromkeys(some)
            return list(found)[:limit]

        return cast("list[str]", self._ask(client, "", ask))

    def _ask(self, client: Any, node: str, ask: Callable[[], Any], key: str = "") -> Any:
        outage = self._outages[node]
        outage.check()
        if not self._turns.acquire(timeout=TIMEOUT):
            raise LogUnavailable(
                f"Redis ({self._url}) is slower than we ask it: {CONNECTIONS} commands wait."
            )
        try:
            result = ask()
        except FAILURES as error:
            raise self._failure(outage, error, key) from error
        finally:
            self._turns.release()
            if self._is_closed:
                _let_go(client)
        outage.succeed()
        return result

    def ping(self) -> None:
        """Return if all servers that hold channels answer.

        Raises:
            LogUnavailable: If one does not.
        """
        try:
            client = self._open()
            if self._url.kind == "cluster":
                client.ping(target_nodes=RedisCluster.PRIMARIES)
            else:
                client.ping()
        except FAILURES as error:
            raise LogUnavailable(f"Redis ({self._url}) {explain(error)}.") from error

    def listen(self) -> Ear:
        """A connection of its own that announcements arrive on.

        Raises:
            LogUnavailable: If none can be had.
        """
        try:
            client = self._open()
            if self._url.kind == "cluster":  # each node passes on what any of them announces
                client = client.get_redis_connection(client.get_random_node())
            return Ear(client.connection_pool, self._url)
        except FAILURES as error:
            raise LogUnavailable(f"Redis ({self._url}) {explain(error)}.") from error

    def close(self) -> None:
        """Close the connections; those in use when their command is over. Idempotent."""
        with self._lock:
            self._is_closed = True
        if self._client is not None:  # kept: redis-py's own end would cut who still listens
            _let_go(self._client)

    def _send(self, client: Any, script: Script, args: tuple[object, ...], *, again: bool) -> Any:
        try:
            try:
                return client.execute_command("EVALSHA", script.sha, *args)
            except NoScriptError:  # it was restarted, or never saw it
                return client.execute_command("EVAL", script.text, *args)
        except redis.ConnectionError:
            if not again:
                raise
            return self._send(client, script, args, again=False)

    def _failure(self, outage: Outage, error: Exception, key: str = "") -> LogUnavailable:
        why = f"Redis ({self._url}) {explain(error)}."
        if key and is_foreign(error):
            why += f" It is {key} or beside it."
        if is_outage(error):
            outage.fail(why)
        else:
            outage.succeed()
        client = self._client
        if isinstance(error, ReadOnlyError) and client is not None:
            _let_go(client)  # the name may belong to another server by now: look it up again
        return LogUnavailable(why)

    def _node(self, client: Any, key: str) -> str:
        """The node that ``key`` is on, if there are several: one may be away and the others not."""
        if self._url.kind != "cluster":
            return ""
        try:
            return str(client.get_node_from_key(key).name)
        except (RedisClusterException, AttributeError):  # none: the command will say so
            return "nobody's"

    def _open(self) -> Any:
        """The client; a Cluster's connects when it is made.

        Raises:
            LogUnavailable: If it cannot.
        """
        if self._client is not None and not self._is_closed:
            return self._client
        with self._lock:
            if self._is_closed:
                raise LogUnavailable("The log is closed.")
            if self._client is None:
                outage = self._outages["all"]
                outage.check()
                try:
                    self._client = _connect(self._url)
                except FAILURES as error:
                    raise self._failure(outage, error) from error
                outage.succeed()
            return self._client


def _outage() -> Outage:
    return Outage(Backoff(cap=2.0), patience=3 * TIMEOUT)


def _nodes(client: Any) -> list[Any]:
    """The client of each server that has a part of the channels."""
    if not isinstance(client, RedisCluster):
        return [client]
    return [client.get_redis_connection(node) for node in client.get_primaries()]  # type: ignore[no-untyped-call]


def _let_go(client: Any) -> None:
    """Close the connections that are not in use: closing others confuses those who wait there."""
    if isinstance(client, RedisCluster):
        nodes = client.get_nodes()  # type: ignore[no-untyped-call]
        clients = [node.redis_connection for node in nodes]
    else:
        clients = [client]
    for one in clients:
        if one is not None:
            one.connection_pool.disconnect(inuse_connections=False)


def _connect(url: RedisURL) -> Any:
    """redis-py's client for ``url``; a Cluster's connects at once, the others later."""
    options: dict[str, Any] = {
        "username": url.username,
        "password": url.password,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 30,  # an idle connection may have been cut on its way
        "decode_responses": True,
        "protocol": 2,
        "max_connections": CONNECTIONS + 2,  # one listens
    }
    if url.tls:
        options |= {
            "ssl": True,
            "ssl_cert_reqs": url.options.get("ssl_cert_reqs", "required"),
            "ssl_check_hostname": url.options.get("ssl_cert_reqs", "required") == "required",
            "ssl_ca_certs": url.options.get("ssl_ca_certs"),
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        }
    never = Retry(NoBackoff(), 0)  # sent twice is appended twice
    if url.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in url.nodes]  # type: ignore[no-untyped-call]
        return RedisCluster(
            startup_nodes=nodes, retry=never, require_full_coverage=False, **options
        )
    options |= {"db": url.db, "retry": never}
    if url.kind == "sentinel":
        quick = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
        who = {name: url.options.get(f"sentinel_{name}") for name in ("username", "password")}
        tls = {name: value for name, value in options.items() if name.startswith("ssl")}
        sentinels = Sentinel(  # type: ignore[no-untyped-call]
            url.nodes, sentinel_kwargs=who | quick | tls | {"retry": never}, **options
        )
        return sentinels.master_for(url.service)  # type: ignore[no-untyped-call]
    ((host, port),) = url.nodes
    return redis.Redis(host=host, port=port, **options)
