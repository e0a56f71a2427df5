"""streaming/web/data.py: what may be published, and as which text."""

import datetime
import decimal
import enum
import json
import uuid
from typing import Any

import pytest
from flask import Flask
from flask.json.provider import DefaultJSONProvider
from markupsafe import Markup

from streaming import Streaming
from streaming.web.data import print_data


@pytest.fixture
def app() -> Flask:
    app = Flask("x")
    app.testing = True  # or that nobody hears it is said at the end
    return app


@pytest.mark.parametrize("text", ["", "hello", '{"a": 1}', "null", '"quoted"', "a\nb", "你好 😀"])
def test_a_text_stays_as_it_is_even_if_it_looks_like_json(app: Flask, text: str) -> None:
    with app.app_context():
        assert print_data(text) is text


class Colour(str, enum.Enum):  # noqa: UP042 - whose str() is not its value
    RED = "red"


@pytest.mark.parametrize("text", [Markup("<b>a</b>"), Colour.RED])
def test_other_kinds_of_text_are_plain_text_behind_it(app: Flask, text: str) -> None:
    with app.app_context():
        plain = print_data(text)
    assert type(plain) is str
    assert plain in ("<b>a</b>", "red")


@pytest.mark.parametrize(
    "value",
    [{"price": 1.5, "名": "é"}, [1, "a", None], ("a", "b"), 0, -1.5, True, False, None, {}, []],
)
def test_anything_else_is_json(app: Flask, value: Any) -> None:
    with app.app_context():
        assert json.loads(print_data(value)) == (list(value) if type(value) is tuple else value)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_bytes_are_refused_with_what_to_do(app: Flask, make: Any) -> None:
    with app.app_context(), pytest.raises(TypeError, match=r"not bytes: .*data\.decode\(\)") as no:
        print_data(make(b"hello"))
    assert "hello" not in str(no.value)


@pytest.mark.parametrize("value", [object(), {1, 2}, iter("ab"), {"a": b"bytes"}, print_data])
def test_what_json_has_no_word_for_is_a_type_error(app: Flask, value: Any) -> None:
    with app.app_context(), pytest.raises(TypeError, match="JSON"):
        print_data(value)


def test_what_flask_can_write_can_be_published_with_an_app_and_without(app: Flask) -> None:
    value = {
        "at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "id": uuid.UUID(int=1),
        "sum": decimal.Decimal("1.50"),
    }
    without = print_data(value)
    with app.app_context():
        assert json.loads(print_data(value)) == json.loads(without)
    assert json.loads(without)["sum"] == "1.50"


class Shouting(DefaultJSONProvider):
    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return super().dumps(obj, **kwargs).upper()


def test_the_applications_own_provider_writes_it(app: Flask) -> None:
    app.json = Shouting(app)
    streaming = Streaming(app)
    with app.app_context():
        assert streaming.publish("a", ["x"]).data == '["X"]'
        assert streaming.publish("a", "x").data == "x"


def test_what_cannot_be_published_leaves_no_trace(app: Flask) -> None:
    streaming = Streaming(app)
    with app.app_context(), pytest.raises(TypeError):
        streaming.publish("a", b"x")
    assert app.extensions["streaming"].hub.log.tail("a").offset == 0
