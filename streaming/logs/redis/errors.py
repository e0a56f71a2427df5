"""What Redis' errors mean, and what to do about them."""

from __future__ import annotations

from redis import exceptions

FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
"""What talking to Redis raises."""

MEANINGS: tuple[tuple[str, type[Exception] | None, str], ...] = (
    (
        "OOM",
        exceptions.OutOfMemoryError,
        "is out of memory: give it more (maxmemory), or keep less (STREAMING_RETENTION_…)",
    ),
    (
        "READONLY",
        exceptions.ReadOnlyError,
        "is a read-only replica: name the master, or let redis+sentinel://… find it",
    ),
    ("LOADING", exceptions.BusyLoadingError, "is still loading its data: wait"),
    ("MASTERDOWN", exceptions.MasterDownError, "is a replica that has lost its master"),
    ("MISCONF", None, "takes no writes, for it cannot save to disk: look at its log and its disk"),
    ("NOREPLICAS", None, "takes no writes, for too few replicas are connected"),
    (
        "NOPERM",
        exceptions.NoPermissionError,
        "does not let this user do what is needed: keys, channels and commands (ACL)",
    ),
    (
        "NOAUTH",
        exceptions.AuthenticationError,
        "does not accept this user and password, or wants one (STREAMING_LOG)",
    ),
    (
        "CLUSTERDOWN",
        exceptions.ClusterDownError,
        "is a cluster with hash slots that no node serves: start the missing nodes",
    ),
    ("BUSY", None, "is busy with somebody's script"),
    ("can't publish", None, "does not let this user publish to our channels (ACL)"),
    ("The user executing the script", None, "does not let this user do what is needed (ACL)"),
    ("max number of clients", None, "has as many clients as it takes (maxclients)"),
    (
        "WRONGTYPE",
        None,
        "has what somebody else put among our keys: delete it, or choose another ?prefix=",
    ),
    (
        "FOREIGN",
        None,
        "has what somebody else put among our messages: delete it, or choose another ?prefix=",
    ),
)
"""What an error begins with or is, and what it means."""


def explain(error: Exception) -> str:
    """The predicate of a sentence whose subject is the server."""
    text = str(error)
    for word, kind, meaning in MEANINGS:
        if word in text or (kind is not None and isinstance(error, kind)):
            return f"{meaning} ({text})"
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return f"did not answer in time ({text})"
    if isinstance(error, OSError | exceptions.ConnectionError):
        return f"cannot be reached ({text})"
    return f"answered with an error ({text})"


def is_outage(error: Exception) -> bool:
    """Whether the server is away, rather than there and unwilling."""
    return isinstance(
        error,
        OSError
        | exceptions.ConnectionError
        | exceptions.TimeoutError
        | exceptions.RedisClusterException
        | exceptions.ClusterDownError,
    )


def is_foreign(error: Exception) -> bool:
    """Whether somebody else has used names of ours."""
    return str(error).startswith(("WRONGTYPE", "FOREIGN"))


def may_have_run(error: BaseException | None) -> bool:
    """Whether a command that failed with ``error`` may have been carried out all the same."""
    if isinstance(error, exceptions.BusyLoadingError | exceptions.AuthenticationError):
        return False
    if isinstance(error, exceptions.MaxConnectionsError):
        return False
    if any(words in str(error) for words in ("connecting to", "max number of clients")):
        return False
    return isinstance(error, OSError | exceptions.ConnectionError | exceptions.TimeoutError)
