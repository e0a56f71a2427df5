"""Fixtures for pytest, which finds them where the package is installed.

They need the fixture ``app`` that a test suite of a Flask application has.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import Any
from unittest import mock

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from ..errors import Recalled
from ..web.state import states
from . import deadline
from .later import Clock, clock
from .published import Published, record
from .site import Site, serve

STREAMS = {"text/event-stream", "application/x-ndjson"}


@pytest.fixture
def streaming_site(app: Flask) -> Generator[Site]:
    """The application on a real server in this process: see ``serve``."""
    with serve(app) as site:
        yield site


@pytest.fixture
def published(app: Flask) -> Iterator[Published]:
    """What the application publishes during the test: see ``record``."""
    with record(app) as found:
        yield found


@pytest.fixture
def streaming_clock(app: Flask) -> Iterator[Clock]:
    """A clock of the application that the test sets: see ``clock``."""
    with clock(app) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_endless_body() -> Iterator[None]:
    """Whoever asks Flask's test client for the whole of a stream that does not end is told so."""
    with mock.patch.object(TestResponse, "make_sequence", _make_sequence):
        yield


_make_sequence_at_once = TestResponse.make_sequence


def _make_sequence(response: TestResponse) -> None:
    if response.is_sequence or response.mimetype not in STREAMS:
        _make_sequence_at_once(response)
        return
    whole: Future[None] = Future()
    Thread(target=_run, args=[whole, response], daemon=True).start()
    try:
        whole.result(deadline.PATIENCE)
    except TimeoutError:
        for state in states:
            for client in state.registry.clients():
                client.end(Recalled("The test does not wait for the end."))
        raise deadline.TooLate(
            f"This stream has not ended within {deadline.PATIENCE:g} s, and .data is all of it. "
            "Read it event by event: with streaming_site.events(path) as reader: reader.next()"
        ) from None


def _run(whole: Future[None], response: TestResponse) -> Any:
    try:
        _make_sequence_at_once(response)
        whole.set_result(None)
    except BaseException as error:
        whole.set_exception(error)
