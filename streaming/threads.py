"""Threads of the operating system, where the standard library's threads are greenlets.

gevent's own thread pool has such threads; so have C extensions, and those that were started before
threads were replaced. Our locks, bells and sockets belong to the loop of another thread, and must
not be waited for here. So what such a thread calls is done over there, and it waits for that.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
from _queue import Empty, SimpleQueue  # the one in ``queue`` is a greenlet's
from collections.abc import Callable
from contextvars import copy_context
from functools import partial, wraps
from typing import Any, Generic, ParamSpec, TypeVar

from .errors import LogUnavailable

P = ParamSpec("P")
T = TypeVar("T")

BEGIN = 5.0
"""Seconds within which the greenlets' thread has to begin with what another asks of it."""

LIMIT = 30.0
"""Seconds that it may take then."""

# For speed: the lock as it was while threads were threads, and where the greenlets run.
_plain: object = None
_ident: Callable[[], int] = threading.get_native_id
_here = 0
_post: Callable[..., object] | None = None


def from_any_thread(call: Callable[P, T]) -> Callable[P, T]:
    """``call``, done where greenlets run, whichever thread calls it.

    The function raises LogUnavailable where that thread does not begin with it, or cannot be found.
    """

    @wraps(call)
    def anywhere(*args: P.args, **kwargs: P.kwargs) -> T:
        if threading.Lock is _plain or _ident() == _here or not is_elsewhere():
            return call(*args, **kwargs)
        return do_there(partial(call, *args, **kwargs), limit=LIMIT)

    return anywhere


def are_greenlets() -> bool:
    """Whether threads that are started now are greenlets, in one thread of the system."""
    return threading.Lock.__module__ == "gevent.thread"


def is_here() -> bool:
    """Whether the caller is one of them: nobody else runs then while it does not wait."""
    return are_greenlets() and (_ident() == _here or _is_found_here())


def note_greenlets() -> None:
    """Remember where greenlets run, should the caller be one, for threads that come before others
    have used anything."""
    is_elsewhere()


def is_elsewhere() -> bool:
    """Whether threads are greenlets, and the caller is none of them."""
    return threading.Lock is not _plain and _ident() != _here and not _is_found_here()


def do_there(call: Callable[[], T], *, limit: float | None) -> T:
    """What ``call`` gives, called in a greenlet; for a thread that ``is_elsewhere``. Blocks it.

    Args:
        limit: Seconds that it may take; None for any time.

    Raises:
        LogUnavailable: If the greenlets' thread does not begin with it within ``BEGIN`` seconds,
            so that nothing was done; or is not done with it in time.
    """
    post = _post
    if post is None:
        raise LogUnavailable(
            "This is a thread of the operating system (gevent's thread pool, a C extension), and "
            "no greenlet of this process has used streaming yet. Use it in one of them first."
        )
    errand = _Errand(call)
    try:
        post(errand.begin)
    except Exception as error:  # the loop has ended
        raise LogUnavailable(f"The thread of the greenlets has ended: {error}") from error
    return errand.wait(limit)


def wait_there(call: Callable[[float | None], T], timeout: float | None) -> T:
    """``do_there`` for what waits itself, ``timeout`` seconds or for ever."""
    return do_there(partial(call, timeout), limit=None if timeout is None else timeout + LIMIT)


class _Errand(Generic[T]):
    """What one thread has another do."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call: Callable[[], T] = partial(copy_context().run, call)
        self._tickets = [None]  # whoever takes it decides whether it is done
        self._answers: SimpleQueue[Callable[[], T]] = SimpleQueue()

    def begin(self) -> None:
        """Called by the loop, which must not wait."""
        if self._take():
            _thread.start_new_thread(self._run, ())

    def wait(self, limit: float | None) -> T:
        return (self._answer(BEGIN) or self._late_answer(limit))()

    def _answer(self, timeout: float | None) -> Callable[[], T] | None:
        try:
            return self._answers.get(timeout=timeout)
        except Empty:
            return None

    def _late_answer(self, limit: float | None) -> Callable[[], T]:
        if self._take():
            raise LogUnavailable(
                f"The thread of the greenlets was held up for {BEGIN:g} s: nothing was done. "
                "Something there computes or waits without giving others a turn."
            )
        answer = self._answer(limit)
        if answer is None:
            raise LogUnavailable(
                f"The thread of the greenlets has not been done within {limit} s with what this "
                "one has asked of it. It may be done all the same."
            )
        return answer

    def _take(self) -> bool:
        try:
            self._tickets.pop()
        except IndexError:
            return False
        return True

    def _run(self) -> None:
        try:
            result = self._call()
        except BaseException as error:
            self._answers.put(partial(_throw, error))
        else:
            self._answers.put(lambda: result)


def _throw(error: BaseException) -> Any:
    try:
        raise error
    finally:
        del error


def _is_found_here() -> bool:
    """Note where the greenlets run, if that is here."""
    global _here, _ident, _plain, _post
    if not are_greenlets():
        _plain = threading.Lock
        return True
    if _post is not None or (sys.platform == "linux" and threading.get_native_id() != os.getpid()):
        return False
    gevent: Any = sys.modules["gevent"]
    _ident = sys.modules["gevent.monkey"].get_original("_thread", "get_ident")
    _post = gevent.get_hub().loop.run_callback_threadsafe  # before ``_here``: others see that first
    _here = _ident()
    return True


def _forget() -> None:
    global _here, _post
    _here, _post = 0, None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)
