"""A system that has no thread left."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def no_thread(*names: str) -> Iterator[list[str]]:
    """No thread of such a name can be started; those that were refused."""
    start, refused = threading.Thread.start, []

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(names):
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    with mock.patch.object(threading.Thread, "start", refuse):
        yield refused


@contextmanager
def no_thread_at_first(name: str, meanwhile: Callable[[], object]) -> Iterator[None]:
    """The first thread of that name cannot be started, and somebody else does this ``meanwhile``,
    as far as he comes; all of it in the end."""
    other, start = threading.Thread(target=meanwhile), threading.Thread.start

    def refuse_first(thread: threading.Thread) -> None:
        if thread.name != name or other.ident is not None:
            start(thread)
            return
        start(other)
        other.join(0.1)
        raise RuntimeError("can't start new thread")

    with mock.patch.object(threading.Thread, "start", refuse_first):
        yield
        other.join()
