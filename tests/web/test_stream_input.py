"""streaming/web/responses.py: what ``stream`` is given, and what becomes of a producer's error."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from flask import Flask, Response

from streaming import SSE, stream
from tests.sites import make_app, serve


async def words() -> AsyncIterator[str]:
    yield "a"


async def answer() -> str:
    return "a"


class Rows:
    """Iterable as old classes are."""

    def __getitem__(self, place: int) -> str:
        return "abc"[place]


def app_of(pieces: Any, **config: object) -> Flask:
    app = make_app()
    app.config.update(config)
    app.get("/x")(lambda: stream(pieces() if callable(pieces) else pieces))
    return app


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: None, "NoneType"),
        (lambda: 5, "int"),
        (lambda: {"a": "b"}, "dict"),
        (lambda: b"abc", r"bytes; .*\[b'…'\]"),
        (lambda: bytearray(b"abc"), "bytearray"),
        (lambda: memoryview(b"abc"), "memoryview"),
        (words, "async"),
        (answer, "async"),
        (lambda: words, "call it"),
        (lambda: lambda: iter("abc"), "call it"),
        (lambda: Response("x"), "Response"),
    ],
)
def test_what_cannot_be_streamed_is_a_type_error_in_the_view(make: Any, word: str) -> None:
    told: list[str] = []
    app = make_app()

    @app.get("/x")
    def view() -> Response | str:
        try:
            return stream(make())
        except TypeError as error:
            told.append(str(error))
            return "refused"

    assert app.test_client().get("/x").data == b"refused"
    assert told[0].startswith("stream() takes an iterable of str or bytes, not ")
    with pytest.raises(TypeError, match=word):
        raise TypeError(told[0])


@pytest.mark.parametrize(
    "pieces", [["a", "b", "c"], ("a", b"b", "c"), iter("abc"), "abc", Rows(), [bytearray(b"abc")]]
)
def test_all_kinds_of_iterables_of_text_and_bytes_are_streamed(pieces: Any) -> None:
    assert app_of(pieces).test_client().get("/x").data == b"abc"


@pytest.mark.parametrize("piece", [5, None, {"a": 1}, ["a"], 2.5])
def test_a_piece_that_is_neither_text_nor_bytes_fails_the_answer_in_clear_words(
    piece: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(app_of([piece]), expect_errors=True) as site, site.get("/x") as first:
        assert (first.status, first.json()["title"]) == (500, "The answer failed")
    words = f"A piece of a stream is str or bytes, not {type(piece).__name__}"
    assert words in caplog.text
    caplog.clear()
    with serve(app_of(["a", piece]), expect_errors=True) as site, site.get("/x") as later:
        assert later.status == 200
        assert later.read_all().startswith(b"a")
        assert later.ending == "cut"
    assert words in caplog.text


# a producer's error


def fails(before: int, error: Exception) -> Iterator[str]:
    for n in range(before):
        yield str(n)
    raise error


@pytest.mark.parametrize("config", [{"TESTING": True}, {"PROPAGATE_EXCEPTIONS": True}])
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("error", [ZeroDivisionError("in it"), OSError("in it")])
@pytest.mark.parametrize("form", [None, SSE])
def test_a_producers_error_is_raised_where_flask_raises_errors(
    config: dict[str, object], before: int, error: Exception, form: Any
) -> None:
    app = make_app()
    app.config.update(config)
    app.get("/x")(lambda: stream(fails(before, error), form=form))
    with pytest.raises(type(error), match="in it"):
        _ = app.test_client().get("/x").data
    assert len(app.extensions["streaming"].registry) == 0


@pytest.mark.parametrize("config", [{}, {"TESTING": True, "PROPAGATE_EXCEPTIONS": False}])
def test_elsewhere_it_is_told(config: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    client = app_of(lambda: fails(0, ZeroDivisionError("in it")), **config).test_client()
    assert client.get("/x").status_code == 500
    assert "in it" in caplog.text


def test_what_a_client_is_told_is_the_same_although_it_is_raised() -> None:
    app = make_app()
    app.testing = True
    app.get("/x")(lambda: stream(fails(1, ZeroDivisionError("in it")), form=SSE))
    with serve(app, expect_errors=True) as site, site.get("/x") as stream_:
        told = [event.event for event in stream_.events()]
    assert told[0] == "message"
    assert told[-1] in ("restart", "error", "close")
