"""demo/model.py: a real model, through a real server that speaks OpenAI's chat completions."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import app as demo
from demo import model
from demo.model import Model
from streaming import ConfigurationError
from tests.openai_server import ModelServer, chunk, model_server
from tests.polling import PATIENCE, wait_until
from tests.sites import drained

URL, NAME, KEY = model.KEYS


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


@pytest.fixture
def app(server: ModelServer) -> Iterator[Flask]:
    with drained(demo.create_app(**{URL: server.url, NAME: "small"})) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def ask(client: FlaskClient, question: str = "Why?", **more: Any) -> TestResponse:
    return client.post("/ask", json={"question": question, **more})


def begin(client: FlaskClient) -> str:
    """The address of an answer that is being made."""
    answer = client.post("/ask", json={"question": "?"}, headers={"Accept": "application/json"})
    assert answer.status_code == 202
    return answer.headers["Location"]


def state_of(client: FlaskClient, location: str) -> dict[str, Any]:
    answer = client.get(location, headers={"Accept": "application/json"})
    assert isinstance(answer.json, dict)
    return answer.json


def ended(client: FlaskClient, location: str) -> dict[str, Any]:
    over = ("done", "stopped", "failed", "interrupted")
    wait_until(lambda: state_of(client, location)["state"] in over, "the end of the answer")
    return state_of(client, location)


def test_what_a_model_says_is_the_answer(client: FlaskClient, server: ModelServer) -> None:
    server.say("Be", "cause 中", "文 😀.")
    assert ask(client).text == "Because 中文 😀."
    (asked,) = server.asked
    assert asked["path"] == "/v1/chat/completions"
    assert asked["model"] == "small"
    assert asked["stream"] is True
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["messages"][-1]["content"] == "Why?"


def test_the_key_goes_to_the_server_and_nowhere_else(server: ModelServer) -> None:
    settings = {URL: server.url, NAME: "small", KEY: "sk-very-secret"}
    with drained(demo.create_app(**settings)) as app:
        server.say("yes")
        assert ask(app.test_client()).text == "yes"
        assert server.keys == ["Bearer sk-very-secret"]
        assert not any("secret" in str(value) for value in app.config.values())
        assert "secret" not in app.test_client().get("/typewriter").text


def test_what_was_said_before_goes_with_the_question(
    client: FlaskClient, server: ModelServer
) -> None:
    server.say("yes")
    history = [{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}]
    assert ask(client, "e", history=history).status_code == 200
    said = [(m["role"], m["content"]) for m in server.asked[0]["messages"][1:]]
    assert said == [
        *[("user", "a"), ("assistant", "b")],
        *[("user", "c"), ("assistant", "d"), ("user", "e")],
    ]


@pytest.mark.parametrize(
    "history",
    [7, "x", {}, ["x"], [{}], [{"question": "a"}], [{"question": 1, "answer": "b"}], [[]]],
)
def test_a_history_that_makes_no_sense_is_refused(
    client: FlaskClient, server: ModelServer, history: object
) -> None:
    assert ask(client, history=history).status_code == 400
    assert server.asked == []


def test_blocks_thoughts_and_figures_come_beside_the_text(
    client: FlaskClient, server: ModelServer
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    server.says = [
        chunk(role="assistant", content=None),
        chunk(reasoning_content="hm, "),
        chunk(reasoning="so"),
        chunk(content="**Yes**\n\n"),
        chunk(content="`x`"),
        chunk(finish="stop"),
        {**chunk(usage=usage), "choices": []},
    ]
    answer = ended(client, begin(client))
    assert answer["state"] == "done"
    assert answer["text"] == "**Yes**\n\n`x`"
    assert [part for part in answer["parts"] if part["kind"] != "text"] == [
        {"kind": "reasoning", "data": "hm, so"},
        {"kind": "data", "data": {"markdown": [["p", ["strong", "Yes"]]], "end": 9}},
        {"kind": "usage", "data": {"input": 3, "output": 4}},
        {"kind": "data", "data": {"markdown": [["p", ["code", "x"]]], "end": 12}},
    ]


@pytest.mark.parametrize(("language", "word"), [("en", "cut off"), ("zh", "截断")])
def test_an_answer_without_room_says_so(
    client: FlaskClient, server: ModelServer, language: str, word: str
) -> None:
    server.say("An", finish="length")
    headers = {"Accept": "application/json"}
    question = {"question": "?", "language": language}
    location = client.post("/ask", json=question, headers=headers).headers["Location"]
    parts = ended(client, location)["parts"]
    (told,) = [part["data"] for part in parts if part["kind"] == "error"]
    assert word in told


@pytest.mark.parametrize(
    ("theirs", "ours"), [(400, 502), (401, 502), (403, 502), (404, 502), (500, 502), (503, 503)]
)
def test_a_server_that_refuses_is_a_status_and_its_words_stay_here(
    client: FlaskClient, server: ModelServer, theirs: int, ours: int
) -> None:
    server.status = theirs
    answer = ask(client)
    assert answer.status_code == ours
    assert answer.content_type == "application/problem+json"
    assert "secret" not in answer.text
    assert len(server.asked) == 1  # nobody tries again by himself


def test_a_busy_server_says_when_to_come_back(client: FlaskClient, server: ModelServer) -> None:
    server.status, server.headers = 429, {"Retry-After": "7"}
    answer = ask(client)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"


def test_a_server_that_is_not_there_is_a_bad_gateway(server: ModelServer) -> None:
    with drained(demo.create_app(**{URL: "http://127.0.0.1:9/v1", NAME: "small"})) as app:
        assert ask(app.test_client()).status_code == 502


@pytest.mark.parametrize("ends", [True, False])
def test_a_server_that_breaks_off_before_a_word_is_a_bad_gateway(
    client: FlaskClient, server: ModelServer, ends: bool
) -> None:
    server.say(finish=None)
    server.ends = ends
    assert ask(client).status_code == 502


@pytest.mark.parametrize("ends", [True, False])
def test_an_answer_that_breaks_off_has_failed_and_keeps_its_text(
    client: FlaskClient, server: ModelServer, ends: bool
) -> None:
    server.say("half of ", "it", finish=None)
    server.ends = ends
    answer = ended(client, begin(client))
    assert answer["state"] == "failed"
    assert answer["text"] == "half of it"


@pytest.mark.parametrize("said", [(), ("once ",)], ids=["before a word", "in mid-sentence"])
def test_stopping_hangs_up_on_a_model_that_is_slow(
    client: FlaskClient, server: ModelServer, said: tuple[str, ...]
) -> None:
    never = threading.Event()
    server.says = [*(chunk(content=piece) for piece in said), never, chunk(content="more")]
    location = begin(client)
    text = "".join(said)
    wait_until(lambda: server.asked and state_of(client, location)["text"] == text, "its text")
    stopped = client.delete(location)
    assert stopped.json is not None
    assert stopped.json["state"] == "stopped"
    assert server.left.wait(PATIENCE)
    never.set()
    answer = ended(client, location)
    assert (answer["state"], answer["text"]) == ("stopped", text)


def test_the_page_says_who_answers(client: FlaskClient) -> None:
    page = client.get("/typewriter?lang=en").text
    assert "written by small" in page
    assert "not an AI" not in page
    with drained(demo.create_app()) as app:
        page = app.test_client().get("/typewriter?lang=en").text
        assert "an answer book, not a model" in page


# settings


def test_without_settings_there_is_no_model() -> None:
    assert Model.of({}) is None
    assert Model.of({NAME: "", URL: None}) is None


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({URL: "http://127.0.0.1/v1"}, "STREAMING_OPENAI_MODEL"),
        ({KEY: "sk"}, "STREAMING_OPENAI_MODEL"),
        ({NAME: "m"}, "STREAMING_OPENAI_API_KEY"),
        ({NAME: "m", URL: "127.0.0.1:80"}, "http://"),
        ({NAME: "m", URL: "ftp://host/v1"}, "http://"),
        ({NAME: "m", URL: "http://host:x/v1"}, "http://"),
        ({NAME: "m", URL: "http:///v1"}, "http://"),
        ({NAME: 7, KEY: "sk"}, "text"),
        ({NAME: "m", KEY: "sk\n"}, "space"),
    ],
)
def test_settings_that_do_not_go_together_stop_the_start(
    settings: dict[str, object], word: str
) -> None:
    with pytest.raises(ConfigurationError, match=word) as refused:
        demo.create_app(**settings)
    assert "sk" not in str(refused.value)


def test_a_setting_from_the_environment_is_a_text_whatever_it_looks_like(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(NAME, "4")
    monkeypatch.setenv(KEY, "1e5")
    found = Model.of({NAME: "4", KEY: "1e5"})
    with drained(demo.create_app()) as app:
        assert app.jinja_env.globals["model"] == found == Model("4", None, "1e5")


def test_a_setting_that_is_misspelt_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match="STREAMING_OPENAI_MODLE"):
        demo.create_app(STREAMING_OPENAI_MODLE="m")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"flask-streaming\[openai\]"):
        Model.of({NAME: "m", KEY: "k"})
