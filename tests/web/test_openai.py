"""streaming/web/openai.py: the official client, unchanged, and an application's own producer."""

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from flask import Flask

from streaming import Part, Streaming, current_run, openai_api
from streaming.hub import keeper
from tests.hub.test_runs import Gate, Refusal
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, serve


class Model:
    """An application with OpenAI's API, whose answers come through the gate."""

    def __init__(self, *, authorize: Any = lambda action, channel: True, **config: Any) -> None:
        self.app = Flask("model")
        self.app.config.update({f"STREAMING_{key.upper()}": value for key, value in config.items()})
        Streaming(self.app, authorize=authorize)
        self.gate = Gate()
        self.asked: list[tuple[list[Any], dict[str, Any]]] = []
        self.error: Exception | None = None
        self.app.register_blueprint(openai_api(self.answer, ["house"]), url_prefix="/v1")

    def answer(self, messages: list[Any], options: dict[str, Any]) -> Iterator[str | Part]:
        self.asked.append((messages, options))
        if self.error is not None:
            raise self.error
        yield Part("reasoning", "hm")
        yield messages[-1]["content"] + " "
        yield from current_run().closes(self.gate)
        yield Part("tool-call", {"id": "c1", "name": "search", "arguments": {"q": 1}})
        yield Part("usage", {"input": 3, "output": 4})


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setattr(keeper, "LOOK", 0.02)
    return Model()


@pytest.fixture
def site(model: Model) -> Iterator[Site]:
    with serve(model.app) as site:
        yield site
        model.gate.give("the end")
        wait_until(lambda: site.state.runs.making.made == {}, "nothing is made any more")


@pytest.fixture
def client(site: Site) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{site.url}/v1", api_key="any", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["house"]
    assert client.models.retrieve("house").owned_by == "application"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


HELLO: Any = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hello"}]


def test_a_completion_comes_whole(client: openai.OpenAI, model: Model) -> None:
    model.gate.give("you", "the end")
    found = client.chat.completions.create(model="house", messages=HELLO, temperature=0.5)
    (choice,) = found.choices
    assert choice.message.content == "hello you"
    assert choice.message.reasoning_content == "hm"  # type: ignore[attr-defined]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].function.arguments == '{"q":1}'  # type: ignore[union-attr]
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (3, 7)
    messages, options = model.asked[0]
    assert [turn["content"] for turn in messages] == ["Be short.", "hello"]
    assert options == {"model": "house", "temperature": 0.5}


def test_a_completion_comes_in_chunks_as_it_is_made(client: openai.OpenAI, model: Model) -> None:
    chunks = client.chat.completions.create(
        model="house", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    text, reasons, usage = "", [], None
    for chunk in chunks:
        if not chunk.choices:
            usage = chunk.usage
            continue
        text += chunk.choices[0].delta.content or ""
        reasons.append(chunk.choices[0].finish_reason)
        if text == "hello ":
            model.gate.give("you", "the end")
    assert text == "hello you"
    assert reasons[-1] == "tool_calls"
    assert usage is not None
    assert usage.completion_tokens == 4


def test_a_response_that_is_cut_off_is_resumed_by_sequence_number(
    client: openai.OpenAI, model: Model
) -> None:
    stream = client.responses.create(model="house", input="hello", stream=True, background=True)
    seen: list[Any] = []
    for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            stream.close()
            break
    id, last = seen[0].response.id, seen[-1].sequence_number
    model.gate.give("you ", "all", "the end")
    rest = list(client.responses.retrieve(id, stream=True, starting_after=last))
    assert [event.sequence_number for event in rest] == list(
        range(last + 1, last + 1 + len(rest))
    ), "none is lost, none comes twice"
    text = "".join(e.delta for e in [*seen, *rest] if e.type == "response.output_text.delta")
    assert text == "hello you all"
    assert rest[-1].type == "response.completed"
    assert rest[-1].response.output_text == text
    found = client.responses.retrieve(id)
    assert (found.status, found.output_text, found.background) == ("completed", text, True)
    assert found.usage is not None
    assert found.usage.total_tokens == 7
    assert [item.type for item in found.output] == ["reasoning", "message", "function_call"]
    for cut in range(len(seen) + len(rest)):
        again = list(client.responses.retrieve(id, stream=True, starting_after=cut - 1))
        assert [event.sequence_number for event in again] == list(range(cut, last + len(rest) + 1))
    assert len(model.asked) == 1


def test_a_response_is_cancelled(client: openai.OpenAI, model: Model) -> None:
    response = client.responses.create(model="house", input=HELLO, background=True)
    assert response.status == "in_progress"
    wait_until(lambda: client.responses.retrieve(response.id).output_text == "hello ", "it is said")
    cancelled = client.responses.cancel(response.id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "hello ")
    wait_until(lambda: model.gate.is_closed, "the upstream is closed")
    assert client.responses.retrieve(response.id).status == "cancelled"
    events = list(client.responses.retrieve(response.id, stream=True))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.status == "cancelled"


def test_a_response_in_the_foreground_is_waited_for(client: openai.OpenAI, model: Model) -> None:
    model.gate.give("you", "the end")
    found = client.responses.create(model="house", input="hello", instructions="Be short.")
    assert (found.status, found.output_text) == ("completed", "hello you")
    assert model.asked[0][0][0] == {"role": "system", "content": "Be short."}


def test_a_stream_in_the_foreground_that_nobody_reads_is_stopped(
    client: openai.OpenAI, model: Model, site: Site
) -> None:
    stream = client.chat.completions.create(model="house", messages=HELLO, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    (made,) = site.state.runs.making.made.values()
    assert made.patience == 10.0
    stream.close()
    made.lonely = made.patience = 0.0  # whether its reader was seen or not
    wait_until(lambda: model.gate.is_closed, "the upstream is closed")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), openai.InternalServerError),
        (Refusal(401), openai.InternalServerError),
        (Refusal(429, "7"), openai.RateLimitError),
        (Refusal(503), openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_is_an_error_as_the_client_knows_it(
    error: Exception, kind: type[openai.APIStatusError], stream: bool
) -> None:
    model = Model()
    model.error = error
    with (
        serve(model.app, expect_errors=True) as site,
        openai.OpenAI(base_url=f"{site.url}/v1", api_key="any", max_retries=0) as client,
    ):
        with pytest.raises(kind) as caught:
            client.chat.completions.create(model="house", messages=HELLO, stream=stream)  # type: ignore[call-overload]
        assert "secret" not in str(caught.value)
        with pytest.raises(kind):
            client.responses.create(model="house", input="hello", stream=stream)  # type: ignore[call-overload]


def test_an_answer_whose_beginning_is_no_longer_held_is_not_given_for_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "LOOK", 0.02)
    model = Model(retentions={"run:*": {"messages": 2}})
    model.gate.give("you", "the end")
    with (
        serve(model.app) as site,
        openai.OpenAI(
            base_url=f"{site.url}/v1", api_key="any", max_retries=0, timeout=PATIENCE
        ) as client,
    ):
        with pytest.raises(openai.APIStatusError, match="no longer held") as refused:
            client.chat.completions.create(model="house", messages=HELLO)
        assert refused.value.status_code == 410
        model.gate = Gate()
        model.gate.give("you", "the end")
        found = client.responses.create(model="house", input="hello")
        for answer in (found, client.responses.retrieve(found.id)):
            assert answer.status == "failed"
            assert answer.error is not None
            assert "no longer held" in answer.error.message


def test_a_failure_in_the_midst_is_told_in_the_stream() -> None:
    model = Model()
    with (
        serve(model.app, expect_errors=True) as site,
        openai.OpenAI(base_url=f"{site.url}/v1", api_key="any", max_retries=0) as client,
    ):
        chunks = client.chat.completions.create(model="house", messages=HELLO, stream=True)
        threading.Timer(0.1, model.gate.close).start()
        with pytest.raises(openai.APIError, match="The answer failed"):
            list(chunks)
        events = list(client.responses.create(model="house", input="x", stream=True))
        assert events[-1].type == "response.failed"
        assert events[-1].response.error is not None
        assert events[-1].response.error.message == "The answer failed."


@pytest.mark.parametrize(
    "body",
    [
        {"model": "house"},
        {"model": "house", "messages": []},
        {"model": "house", "messages": "hello"},
        {"model": "house", "messages": [5]},
        {"model": "house", "messages": [{"role": 5, "content": "x"}]},
        {"model": "house", "messages": [{"role": "user", "content": 5}]},
    ],
)
def test_what_is_no_conversation_is_a_bad_request(client: openai.OpenAI, body: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        client.post("/chat/completions", body=body, cast_to=object)


def test_what_is_not_there_or_not_allowed_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.chat.completions.create(model="other", messages=HELLO)
    for id in ("resp_" + "0" * 32, "other"):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(id)
    model = Model(authorize=lambda action, channel: False)
    with (
        serve(model.app) as site,
        openai.OpenAI(base_url=f"{site.url}/v1", api_key="any", max_retries=0) as other,
    ):
        model.gate.give("the end")
        response = other.responses.create(model="house", input="hello")
        for use in (other.responses.retrieve, other.responses.cancel):
            with pytest.raises(openai.PermissionDeniedError):
                use(response.id)
        with pytest.raises(openai.BadRequestError, match="starting_after"):
            client.get("/responses/resp_x?stream=true&starting_after=y", cast_to=object)
