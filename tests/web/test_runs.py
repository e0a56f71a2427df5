"""streaming/web/runs.py: answers over HTTP and WebSocket, begun, joined, resumed and stopped."""

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flask import Flask, Response, request

from streaming import LogUnavailable, Message, Part, Streaming, current_run
from streaming.hub import keeper
from streaming.web import runs as web_runs
from tests.greenlets import ROOT, is_green, run_file
from tests.hub.test_runs import Gate, Refusal
from tests.live.clients import Event, RawClient
from tests.polling import PATIENCE, wait_until
from tests.sites import WAYS, Site, Way, serve

SSE, NDJSON, TEXT, JSON = (
    "text/event-stream",
    "application/x-ndjson",
    "text/plain",
    "application/json",
)


@pytest.fixture(autouse=True)
def keeper_that_looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LOOK", 0.02)


class Asker:
    """A site whose view ``POST /ask`` answers with what the test lets through the gate."""

    def __init__(self, allow: Any = lambda action, channel: True, **config: Any) -> None:
        self.app = app = Flask("asker")
        app.config.update({f"STREAMING_{key.upper()}": value for key, value in config.items()})
        self.streaming = Streaming(app, authorize=allow)
        self.gate = Gate()
        self.count = 0
        self.error: Exception | None = None

        @app.post("/ask")
        def ask() -> Response:
            return self.streaming.run(self.answer, request.get_data(as_text=True)).response()

    def answer(self, question: str) -> Iterator[str | Part]:
        self.count += 1
        if self.error is not None:
            raise self.error
        yield question
        yield Part("data", {"n": 1})
        yield from current_run().closes(self.gate)


@pytest.fixture(params=WAYS, ids=str)
def asker(request: pytest.FixtureRequest) -> Iterator[Any]:
    way: Way = request.param
    asker = Asker(**dict(way.settings))
    with serve(asker.app, way=way) as site:
        yield SimpleNamespace(
            site=site,
            gate=asker.gate,
            asker=asker,
            http=httpx.Client(base_url=site.url, verify=False, timeout=PATIENCE),
        )
        asker.gate.give("the end")
        wait_until(lambda: site.state.runs.making.made == {}, "nothing is made any more")


def ask(asker: Any, question: str = "question ", **headers: str) -> httpx.Response:
    """Begin a run and return at once what there is."""
    answer = asker.http.post("/ask", content=question, headers={"Accept": JSON, **headers})
    assert answer.status_code == 202
    return answer  # type: ignore[no-any-return]


def state_of(asker: Any, url: str) -> Any:
    answer = asker.http.get(url, headers={"Accept": JSON})
    assert answer.status_code == 200
    return answer.json()


def read_text_of(events: list[Event]) -> str:
    """What a client has on its page behind these events."""
    text = ""
    for event in events:
        if event.event == "snapshot":
            text = event.json()["text"]
        elif event.event == "text":
            text += event.data or ""
    return text


def read_to_close(client: RawClient) -> list[Event]:
    events = []
    while (event := client.next_event()) is not None:
        events.append(event)
    return events


def events_of(site: Site, url: str, after: str | None = None) -> RawClient:
    headers = {"Accept": SSE, **({} if after is None else {"Last-Event-ID": after})}
    return site.get(url, headers=headers)


def test_whoever_asked_gets_the_answer_as_it_is_made_and_knows_where_it_is(asker: Any) -> None:
    with asker.http.stream("POST", "/ask", content="q ") as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith(TEXT)
        where = answer.headers["Location"]
        pieces = answer.iter_text()
        assert next(pieces) == "q "
        asker.gate.give("one ", "two", "the end")
        assert "".join(pieces) == "one two"
    assert state_of(asker, where)["state"] == "done"
    assert asker.http.get(where, headers={"Accept": TEXT}).text == "q one two"


def test_a_late_reader_gets_what_was_said_as_one_snapshot_then_the_rest(asker: Any) -> None:
    where = ask(asker).headers["Location"]
    asker.gate.give("one ")
    wait_until(lambda: state_of(asker, where)["text"] == "question one ", "it is said")
    with events_of(asker.site, where) as client:
        ready, snapshot = client.next_event(), client.next_event()
        assert ready is not None
        assert snapshot is not None
        assert ready.event == "ready"
        assert ready.id is not None
        assert ready.id.endswith("-0")
        assert snapshot.event == "snapshot"
        assert snapshot.json()["text"] == "question one "
        assert {"kind": "data", "data": {"n": 1}} in snapshot.json()["parts"]
        assert snapshot.json()["state"] == "running"
        asker.gate.give("two", "the end")
        *rest, end, close = read_to_close(client)
    assert read_text_of([snapshot, *rest]) == "question one two"
    assert (end.event, end.json()["state"]) == ("end", "done")
    assert (close.event, close.json()) == ("close", {})


def test_a_late_reader_is_told_that_the_beginning_is_no_longer_held() -> None:
    asker = Asker(retentions={"run:*": {"messages": 2}})
    with serve(asker.app) as site, httpx.Client(base_url=site.url, timeout=PATIENCE) as client:
        where = client.post("/ask", content="q", headers={"Accept": JSON}).headers["Location"]

        def read(form: str) -> str:
            return client.get(where, headers={"Accept": form}).text

        for piece in ("one", "two", "three"):
            asker.gate.give(piece)
            wait_until(lambda said=piece: said in read(JSON), "it is said")  # type: ignore[misc]
        asker.gate.give("the end")
        wait_until(lambda: '"state":"done"' in read(JSON), "it is over")
        told = {form: read(form).replace("\\", "") for form in (JSON, NDJSON, SSE)}
    assert all('"whole":false' in text for text in told.values()), told


def test_a_cut_behind_any_event_resumes_with_nothing_lost_or_doubled(asker: Any) -> None:
    asker.gate.give("one ", "two ", "three", "the end")
    where = ask(asker).headers["Location"]
    wait_until(lambda: state_of(asker, where)["state"] == "done", "it is over")
    with asker.http.stream("GET", where, headers={"Accept": SSE, "Last-Event-ID": "start"}) as all_:
        assert all_.status_code == 200
    with events_of(asker.site, where) as client:
        first = read_to_close(client)
    epoch = str(first[0].id).partition("-")[0]
    size = int(str(first[-2].id).partition("-")[2])
    for offset in range(1, size):
        with events_of(asker.site, where, f"{epoch}-{offset}") as client:
            rest = read_to_close(client)
        assert [event.id for event in rest if event.event not in ("ready", "close")] == [
            f"{epoch}-{n}" for n in range(offset + 1, size + 1)
        ]
        assert [event.event for event in rest[-2:]] == ["end", "close"]
    gone = asker.http.get(where, headers={"Accept": SSE, "Last-Event-ID": f"{epoch}-{size}"})
    assert gone.status_code == 204, "an EventSource comes back after everything else"


def test_lines_say_the_same_as_events(asker: Any) -> None:
    asker.gate.give("one", "the end")
    with asker.http.stream("POST", "/ask", content="q ", headers={"Accept": NDJSON}) as answer:
        lines = [json.loads(line) for line in answer.iter_lines() if line]
    assert [line["event"] for line in lines][:3] == ["ready", "start", "text"]
    assert "".join(line["data"] for line in lines if line["event"] == "text") == "q one"
    assert [line["event"] for line in lines][-2:] == ["end", "close"]


def test_it_is_read_over_a_websocket_too_which_goes_on_behind_its_end(asker: Any) -> None:
    if asker.site.way.tls or asker.site.way.version == "1.0":
        return  # WebSockets have tests of their own for that
    answer = ask(asker).json()
    asker.gate.give("one", "the end")
    channel = f"run:{answer['id']}"
    with asker.site.json() as ws:
        assert ws.ask(type="subscribe", channel=channel, after="start")["type"] == "ready"
        said = ""
        while (frame := ws.recv())["type"] == "message":
            said += frame["data"] if frame["event"] == "text" else ""
        assert frame == {"type": "ended", "channel": channel}
        assert said == "question one"
        again = ws.ask(type="subscribe", channel=channel)
        assert again["type"] == "ready", "it is followed no longer"
        assert ws.recv() == {"type": "ended", "channel": channel}
        refused = ws.ask(type="publish", channel=channel, data="more")
        assert (refused["type"], refused["status"]) == ("error", 403)
        asker.site.state.hub.end("job")
        refused = ws.ask(type="publish", channel="job", data="more")
        assert (refused["type"], refused["status"]) == ("error", 409)


def test_a_retried_post_joins_the_running_answer(asker: Any) -> None:
    key = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    first = ask(asker, **key)
    asker.gate.give("one ")
    wait_until(lambda: "one" in state_of(asker, first.headers["Location"])["text"], "it is said")
    headers = {"Accept": SSE, **key}
    with asker.http.stream("POST", "/ask", content="other", headers=headers) as second:
        assert second.headers["Location"] == first.headers["Location"]
        asker.gate.give("two", "the end")
        assert "question one " in "".join(second.iter_text())
    assert asker.asker.count == 1
    assert ask(asker, **key).json()["text"] == "question one two", "and when it is over"


def test_of_ten_posts_with_one_key_at_once_one_generates(asker: Any) -> None:
    asker.gate.give("one", "the end")
    texts: list[str] = []

    def post() -> None:
        with httpx.Client(base_url=asker.site.url, verify=False, timeout=PATIENCE) as http:
            answer = http.post("/ask", content="q ", headers={"Idempotency-Key": "one"})
            texts.append(answer.text)

    threads = [threading.Thread(target=post) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert texts == ["q one"] * 10
    assert asker.asker.count == 1


@pytest.mark.parametrize("key", ["", "x" * 129])
def test_a_key_that_is_none_is_the_clients_mistake(asker: Any, key: str) -> None:
    answer = asker.http.post("/ask", headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


def test_whoever_may_stops_it_and_everybody_is_told(asker: Any) -> None:
    where = ask(asker).headers["Location"]
    wait_until(lambda: state_of(asker, where)["text"] == "question ", "it is said")
    with events_of(asker.site, where) as client:
        assert client.next_event()
        assert client.next_event()
        stopped = asker.http.delete(where)
        assert (stopped.status_code, stopped.json()["state"]) == (200, "stopped")
        events = read_to_close(client)
    assert events[-2].json()["state"] == "stopped"
    wait_until(lambda: asker.gate.is_closed, "the upstream is closed")
    again = asker.http.delete(where)
    assert (again.status_code, again.json()["state"]) == (200, "stopped")
    assert asker.http.get(where, headers={"Accept": TEXT}).text == "question ", "it is kept"


@pytest.mark.parametrize("accept", [SSE, NDJSON, TEXT])
@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (ValueError("x"), 500, None),
        (Refusal(401), 502, None),
        (Refusal(403), 502, None),
        (Refusal(429, "7"), 429, "7"),
        (Refusal(503), 503, None),
    ],
    ids=["a bug", "401", "403", "429", "503"],
)
def test_a_failure_before_the_first_piece_is_an_error_of_http(
    accept: str, error: Exception, status: int, after: str | None
) -> None:
    asker = Asker()
    asker.error = error
    with (
        serve(asker.app, expect_errors=True) as site,
        httpx.Client(base_url=site.url, timeout=PATIENCE) as http,
    ):
        answer = http.post("/ask", headers={"Accept": accept, "Idempotency-Key": "k"})
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers.get("Retry-After") == after
        assert "secret" not in answer.text
        asker.error = None
        asker.gate.give("the end")
        again = http.post("/ask", content="q", headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.text) == (200, "q"), "the key may try again"
        wait_until(lambda: site.state.runs.making.made == {}, "nothing is made any more")


def test_a_later_failure_is_told_in_the_stream_and_text_is_broken_off() -> None:
    asker = Asker()
    with (
        serve(asker.app, expect_errors=True) as site,
        httpx.Client(base_url=site.url, timeout=PATIENCE) as http,
    ):
        with http.stream("POST", "/ask", content="q", headers={"Accept": SSE}) as answer:
            where = answer.headers["Location"]
            asker.gate.close()  # the upstream breaks
            body = "".join(answer.iter_text())
        assert '"state":"failed"' in body
        assert body.endswith("event: close\ndata: {}\n\n")
        with site.get(where, headers={"Accept": TEXT}) as client:
            assert (client.status, client.read_all()) == (200, b"q")
            assert client.ending == "cut"
        assert http.get(where, headers={"Accept": JSON}).json()["detail"] == "The answer failed."


def test_who_may_not_read_or_stop_is_refused_and_what_is_unknown_is_unknown() -> None:
    asked: list[tuple[str, str]] = []

    def allow(action: str, channel: str) -> bool:
        asked.append((action, channel))
        return False

    asker = Asker(allow)
    asker.gate.give("the end")
    with serve(asker.app) as site, httpx.Client(base_url=site.url, timeout=PATIENCE) as http:
        answer = http.post("/ask", content="q", headers={"Accept": JSON})
        assert answer.status_code == 202, "the application's own view has decided"
        where, channel = answer.headers["Location"], f"run:{answer.json()['id']}"
        assert http.get(where).status_code == 403
        assert http.delete(where).status_code == 403
        assert asked == [("subscribe", channel), ("stop", channel)]
    open_asker = Asker()
    with serve(open_asker.app) as site, httpx.Client(base_url=site.url, timeout=PATIENCE) as http:
        for accept in (SSE, NDJSON, TEXT, JSON):
            unknown = http.get(f"/streaming/runs/{'0' * 32}", headers={"Accept": accept})
            assert (unknown.status_code, unknown.json()["title"]) == (404, "No such run")
        assert http.delete(f"/streaming/runs/{'0' * 32}").status_code == 404
        assert http.get("/streaming/runs/no/such").status_code == 404
        assert http.get(f"/streaming/runs/{'x' * 200}").status_code == 400


def test_by_default_nobody_stops_a_run_over_the_network() -> None:
    app = Flask("plain")
    streaming = Streaming(app)
    with app.app_context():
        id = streaming.run(["a"]).id
        assert streaming.find_run(id) is not None
        assert streaming.find_run("0" * 32) is None
        assert app.test_client().delete(f"/streaming/runs/{id}").status_code == 403
        wait_until(lambda: [run.state for run in streaming.runs()] == ["done"], "it is listed")
        run = streaming.find_run(id)
        assert run is not None
        assert (run.state, run.answer().text, run.is_stopped) == ("done", "a", False)


def test_a_producer_has_an_app_context_and_no_request() -> None:
    app = Flask("plain")
    streaming = Streaming(app)
    seen: list[object] = []

    def answer() -> str:
        from flask import current_app, has_request_context

        seen.extend([current_app.name, has_request_context(), current_run().id])
        streaming.publish("news", "it works")
        return "a"

    @app.post("/ask")
    def ask() -> Response:
        return streaming.run(answer).response()

    posted = app.test_client().post("/ask", headers={"Accept": JSON})
    wait_until(lambda: app.extensions["streaming"].runs.making.made == {}, "it is over")
    assert seen == ["plain", False, posted.get_json()["id"]]
    with pytest.raises(RuntimeError, match="for producers"):
        current_run()


def test_the_address_is_below_the_prefix_and_the_script_name() -> None:
    app = Flask("plain")
    streaming = Streaming()
    app.register_blueprint(streaming.blueprint, url_prefix="/live", name="other")

    @app.post("/ask")
    def ask() -> Response:
        return streaming.run(["a"]).response()

    client = app.test_client()
    answer = client.post("/ask", environ_overrides={"SCRIPT_NAME": "/app"})
    assert answer.headers["Location"].startswith("/app/live/runs/")
    assert client.get(answer.headers["Location"].removeprefix("/app")).status_code == 200


def test_attempts_of_one_key_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Flask("plain")
    streaming = Streaming(app)

    def fail() -> None:
        raise ValueError

    with app.test_request_context():
        ids = [streaming.run(fail, key="k").id]
        state = app.extensions["streaming"]
        for _ in range(web_runs.ATTEMPTS + 2):
            wait_until(lambda: state.runs.making.made == {}, "it has failed")
            ids.append(streaming.run(fail, key="k").id)
        wait_until(lambda: state.runs.making.made == {}, "it has failed")
    assert len(set(ids)) == web_runs.ATTEMPTS


def test_a_key_whose_run_is_no_longer_kept_begins_another() -> None:
    asker = Asker()
    asker.gate.give("one", "the end", "two", "the end")
    client, log = asker.app.test_client(), asker.app.extensions["streaming"].hub.log
    post = partial(client.post, "/ask", headers={"Idempotency-Key": "k"})
    assert post().get_data(as_text=True) == "one"
    (first,) = log.channels("run:")
    assert log.prune(first)
    assert post().get_data(as_text=True) == "two"
    assert post().get_data(as_text=True) == "two", "that one is kept"


def test_a_key_whose_run_never_began_for_its_maker_begins_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asker = Asker()
    asker.gate.give("one", "the end")
    client, log = asker.app.test_client(), asker.app.extensions["streaming"].hub.log
    post = partial(client.post, "/ask", headers={"Idempotency-Key": "k"})
    append = log.append

    def store_and_fail(channel: str, data: str, **how: Any) -> Message:
        append(channel, data, **how)
        raise LogUnavailable("It may be stored.")

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", store_and_fail)
        assert post().status_code == 503
    assert post().get_data(as_text=True) == "one"
    assert asker.count == 1


@pytest.mark.parametrize(
    ("page", "text"), [("runs.md", "You asked: why?"), ("runs.zh-CN.md", "你问的是：why?")]
)
def test_what_the_page_about_runs_shows_works(page: str, text: str) -> None:
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL
    )
    shown: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), shown)
        shown.setdefault("asking", shown["app"])  # the first app of the page
    app, streaming = shown["asking"], shown["streaming"]
    assert app.test_client().post("/ask", data="why?").get_data(as_text=True) == text
    said = (
        shown["app"]
        .test_client()
        .post(
            "/v1/chat/completions",
            json={"model": "house", "messages": [{"role": "user", "content": "why?"}]},
        )
    )
    assert said.get_json()["choices"][0]["message"]["content"].endswith("why?")
    with app.app_context():
        run = streaming.run(shown["research"], "why?")
        wait_until(lambda: run.state == "done", "it is over")
        kinds = [part.kind for part in run.answer().parts]
        assert kinds == ["reasoning", "tool-call", "tool-result", "text", "usage"]
        waiting = streaming.run(shown["slow"], "why?")
        waiting.stop()
        assert waiting.is_stopped
    wait_until(
        lambda: app.extensions["streaming"].runs.making.made == {}, "nothing is made any more"
    )


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
