"""What Redis' errors mean, and what to do about them."""

from __future__ import annotations

from redis import exceptions

REFUSALS = (
    ("OOM", "is out of memory: give it more (maxmemory), or keep less (STREAMING_RETENTION_…)"),
    ("READONLY", "is a read-only replica: name the master, or let redis+sentinel://… find it"),
    ("LOADING", "is still loading its data: wait"),
    ("MASTERDOWN", "is a replica that has lost its master"),
    ("MISCONF", "takes no writes because it cannot save to disk: look at its log and its disk"),
    ("NOREPLICAS", "takes no writes because too few replicas are connected"),
    ("NOAUTH", "wants a password: redis://user:password@host/… in STREAMING_LOG"),
    ("WRONGPASS", "does not know this user and password (STREAMING_LOG)"),
    ("NOPERM", "does not let this user do what is needed (ACL)"),
    ("CLUSTERDOWN", "has a cluster with hash slots that no node serves: start the missing nodes"),
    ("BUSY", "is busy with somebody's script"),
    ("NOSCRIPT", "does not keep scripts"),
)


def explain(error: Exception) -> str:
    """The predicate of a sentence whose subject is the server."""
    text = str(error)
    if isinstance(error, exceptions.MaxConnectionsError):
        return f"is asked for more connections than allowed ({text})"
    if isinstance(error, exceptions.BusyLoadingError):
        return "is still loading its data: wait"
    if isinstance(error, exceptions.AuthenticationError):
        return f"does not accept this user and password, or wants one (STREAMING_LOG): {text}"
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "did not answer in time"
    for word, meaning in REFUSALS:
        if word in text:
            return f"{meaning} ({text})"
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


def may_have_run(error: Exception) -> bool:
    """Whether a command that failed with ``error`` may have been carried out all the same."""
    if isinstance(error, exceptions.BusyLoadingError | exceptions.AuthenticationError):
        return False
    return isinstance(
        error, OSError | exceptions.ConnectionError | exceptions.TimeoutError
    ) and not _never_left(error)


def _never_left(error: Exception) -> bool:
    """Whether there was no connection to send it on."""
    return isinstance(error, exceptions.MaxConnectionsError | ConnectionRefusedError) or str(
        error
    ).startswith(("Error 111", "No master found"))
