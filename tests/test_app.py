"""app.py: the demo, its pages, the tutorial's endpoints and the answers."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import app as demo
from demo import answer_book
from streaming import ConfigurationError, Gap, Message
from streaming.web.piece_body import PieceBody
from tests.live.clients import SseReader
from tests.live.raw_websocket import RawWebSocket, handshake
from tests.polling import PATIENCE
from tests.problems import check_problem
from tests.sites import drained, serve

PAGES = ["/", "/sse", "/typewriter", "/chat"]
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@pytest.fixture
def app() -> Iterator[Flask]:
    app = demo.create_app()
    yield app
    app.extensions["streaming"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses of streams take no time; the list is what was asked for."""
    paused: list[float] = []

    def pause(self: PieceBody) -> Iterator[bytes]:
        if self.every:
            paused.append(round(self.every, 1))
        yield from ()

    monkeypatch.setattr(PieceBody, "pause", pause)
    return paused


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer book does not pause."""
    monkeypatch.setattr(demo, "TYPING", 0)


def language(answer: TestResponse) -> str:
    found = re.search(r'<html lang="([^"]+)"', answer.text)
    assert found
    return found[1]


# pages


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(("lang", "tag"), [("en", "en"), ("zh", "zh-CN")])
def test_every_page_is_there_in_both_languages(
    client: FlaskClient, path: str, lang: str, tag: str
) -> None:
    answer = client.get(path, query_string={"lang": lang})
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert language(answer) == tag
    name = path.strip("/") or "home"
    assert f'data-page="{name}"' in answer.text
    assert ("实时" in answer.text or "的" in answer.text) == (lang == "zh")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_the_strict_policy_and_nothing_inline(
    client: FlaskClient, path: str
) -> None:
    answer = client.get(path)
    assert answer.headers["Content-Security-Policy"] == CSP
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", answer.text)


@pytest.mark.parametrize("path", PAGES)
def test_everything_a_page_loads_is_served(client: FlaskClient, path: str) -> None:
    page = client.get(path).text
    links = re.findall(r'(?:src|href|data-client|data-texts)="(/[^"#?]*)"', page)
    assert any("static" in link for link in links)
    for link in links:
        answer = client.get(link)
        assert answer.status_code == 200, link
        answer.close()


ADDRESS = re.compile(r"""(?:ws|http)s?://[^\s"'<]*|(?<![\w<.])/[a-z][^\s"'<`]*|(?<=")/(?=")""")
"""What looks like an address in a page, in attributes and in what is shown."""


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("how", ["SCRIPT_NAME", "X-Forwarded-Prefix"])
def test_every_address_of_a_page_is_under_the_prefix_that_the_app_has(
    monkeypatch: pytest.MonkeyPatch, how: str, path: str, lang: str
) -> None:
    is_proxy = how == "X-Forwarded-Prefix"
    monkeypatch.setenv("TRUSTED_PROXIES", str(int(is_proxy)))
    asking: dict[str, Any] = {"environ_overrides": {how: "/app"}}
    if is_proxy:
        asking = {"headers": {how: "/app"}}
    with drained(demo.create_app()) as app:
        check_addresses(app.test_client(), f"{path}?lang={lang}", asking)


def check_addresses(client: FlaskClient, path: str, asking: dict[str, Any]) -> None:
    page = client.get(path, **asking)
    found = ADDRESS.findall(page.text.replace('"/hello"', ""))  # a view of the sample's own
    assert len(found) > 10
    for address in found:
        assert address.removeprefix("http://localhost").startswith("/app/"), address
    loaded = re.findall(r'(?:src|href|data-[a-z]+)="(/app[^"#]*)"', page.text)
    assert len(loaded) > 9
    for address in loaded:
        with client.get(address.removeprefix("/app"), **asking) as answer:
            is_there = answer.status_code in (200, 405, 426)  # a POST's, a WebSocket's
            assert is_there or "streaming/events" in address, address
    assert "Path=/app" in page.headers["Set-Cookie"]


def test_no_script_knows_an_address_by_heart() -> None:
    root = Path(demo.__file__).parent
    for script in [*root.glob("static/*.js"), *root.glob("streaming/static/*.js")]:
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", script.read_text("utf-8"), flags=re.DOTALL)
        assert not re.findall(r"""["'`]/[a-z][^"'`]*["'`]""", code), script.name


def test_a_host_with_an_underscore_does_not_break_an_address(client: FlaskClient) -> None:
    for path in PAGES:
        page = client.get(path, headers={"Host": "my_app:8000"}).text
        assert ":///" not in page
    typed = client.get("/typewriter", headers={"Host": "my_app:8000"}).text
    assert "http://my_app:8000/ask" in typed


def test_a_prefix_that_no_proxy_is_said_to_set_is_not_believed(client: FlaskClient) -> None:
    page = client.get("/", headers={"X-Forwarded-Prefix": "/evil"})
    assert "/evil" not in page.text


@pytest.mark.parametrize(
    ("accepted", "tag"),
    [
        (None, "en"),
        ("zh", "zh-CN"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("zh-TW", "zh-CN"),
        ("en-GB,zh;q=0.5", "en"),
        ("zh-CN,en;q=0.9", "zh-CN"),
        ("zh;q=0,de", "en"),
        ("de", "en"),
        ("de,zh;q=0.5", "zh-CN"),
        ("*", "en"),
        (";q=x,\xff", "en"),
    ],
)
def test_the_browsers_language_decides_at_first(
    client: FlaskClient, accepted: str | None, tag: str
) -> None:
    headers = {} if accepted is None else {"Accept-Language": accepted}
    answer = client.get("/", headers=headers)
    assert language(answer) == tag
    assert "Set-Cookie" not in answer.headers
    assert {"Accept-Language", "Cookie"} <= {v.strip() for v in answer.headers["Vary"].split(",")}


def test_a_language_that_was_chosen_is_kept_in_a_cookie(client: FlaskClient) -> None:
    chinese = {"Accept-Language": "zh"}
    assert "lang=en" in client.get("/?lang=en", headers=chinese).headers["Set-Cookie"]
    assert language(client.get("/sse", headers=chinese)) == "en"
    assert language(client.get("/sse?lang=zh")) == "zh-CN"
    assert language(client.get("/chat")) == "zh-CN"


@pytest.mark.parametrize("nonsense", ["fr", "", "<script>", "../en", "\0"])
def test_a_language_nobody_speaks_is_not_chosen(client: FlaskClient, nonsense: str) -> None:
    answer = client.get("/", query_string={"lang": nonsense})
    assert language(answer) == "en"
    assert "Set-Cookie" not in answer.headers
    client.set_cookie("lang", "nonsense")
    assert language(client.get("/", headers={"Accept-Language": "zh"})) == "zh-CN"


def test_both_languages_have_the_same_texts() -> None:
    assert demo.TEXTS["en"].keys() == demo.TEXTS["zh"].keys()


# the tutorial


def test_the_tutorials_stream_greets_five_times_and_ends_with_close(
    client: FlaskClient, no_pause: list[float]
) -> None:
    started = datetime.now(UTC)
    answer = client.get("/events")
    assert answer.mimetype == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    *greetings, close = SseReader().feed(answer.data)
    assert len(greetings) == 5
    assert no_pause == [2.0] * 5  # the first at once, then every 2 s, the end after 10 s
    for greeting in greetings:
        assert (greeting.event, greeting.id, greeting.retry) == ("message", None, None)
        assert re.fullmatch(
            r'\{"message":"Hello World","timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"\}',
            greeting.data or "",
        )
        at = datetime.fromisoformat(greeting.json()["timestamp"])
        assert abs((at - started).total_seconds()) < 60
    assert (close.event, close.data) == ("close", "{}")


def test_the_tutorials_stream_is_sse_whatever_the_client_accepts(
    client: FlaskClient, no_pause: list[float]
) -> None:
    for accept in ("text/plain", "application/x-ndjson", "*/*"):
        answer = client.get("/events", headers={"Accept": accept})
        assert answer.data.startswith(b"data: {"), accept


@pytest.mark.parametrize("path", ["/ws", "/"])
def test_the_tutorials_chat_is_at_ws_and_at_the_root(app: Flask, path: str) -> None:
    with serve(app) as site:
        one = RawWebSocket(site, path, subprotocol=None)  # type: ignore[arg-type]
        two = RawWebSocket(site, path, subprotocol=None)  # type: ignore[arg-type]
        with one, two:
            for ws in (one, two):
                assert ws.read_text() == "Welcome to the WebSocket server!"
            two.send(1, b"first")  # so that both are certainly in the room
            assert two.read_text() == "You said: first"
            one.send(1, "你好".encode())
            assert two.read_text() == "Other client said: 你好"
            while (told := one.read_text()) == "Other client said: first":
                pass
            assert told == "You said: 你好"
        with site.json() as client:
            client.ask(type="subscribe", channel="chat", history=1)
            assert client.recv()["data"] == "你好"


def test_a_plain_request_for_ws_is_told_to_upgrade(client: FlaskClient) -> None:
    answer = client.get("/ws")
    check_problem(answer, 426, "WebSocket client")
    assert answer.headers["Upgrade"] == "websocket"


@pytest.mark.parametrize("path", ["/ws", "/"])
def test_a_foreign_page_may_not_open_the_chat(app: Flask, path: str) -> None:
    with serve(app) as site:
        request = handshake(site, path, Origin="https://evil.example")  # type: ignore[arg-type]
        assert site.raw(request)[0] == 403


# answers


def ask(client: FlaskClient, question: object, accept: str | None = None, **more: object):  # type: ignore[no-untyped-def]
    headers = {} if accept is None else {"Accept": accept}
    return client.post("/ask", json={"question": question, **more}, headers=headers)


@pytest.mark.parametrize("question", ["What is SSE?", "什么是 WebSocket?", "qwertz", "<b>&"])
def test_an_answer_is_the_same_in_all_formats(
    client: FlaskClient, quick: None, question: str
) -> None:
    answer = answer_book.find_answer(question)
    for accept in (None, "*/*", "text/plain"):
        plain = ask(client, question, accept)
        assert plain.mimetype == "text/plain"
        assert plain.text == answer
    lines = ask(client, question, "application/x-ndjson")
    told = [json.loads(line) for line in lines.data.splitlines()]
    assert "".join(line["data"] for line in told if line["event"] == "text") == answer
    assert [line["event"] for line in told[-2:]] == ["end", "close"]
    events = SseReader().feed(ask(client, question, "text/event-stream").data)
    assert "".join(event.data or "" for event in events if event.event == "text") == answer
    assert [event.event for event in events[-2:]] == ["end", "close"]
    blocks = [json.loads(event.data or "") for event in events if event.event == "data"]
    assert [node[0] for block in blocks for node in block["markdown"]]
    assert blocks[-1]["end"] == len(answer)


def test_an_answer_can_be_read_again_at_its_address_by_anybody(
    client: FlaskClient, quick: None
) -> None:
    first = ask(client, "What is SSE?")
    again = client.get(first.headers["Location"], headers={"Accept": "text/plain"})
    assert again.text == first.text
    assert client.get("/streaming/runs/nothing").status_code == 404


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer book does not come to its end."""
    monkeypatch.setattr(demo, "TYPING", PATIENCE)


def test_an_answer_can_be_stopped_by_anybody_who_knows_its_address(
    client: FlaskClient, slow: None
) -> None:
    location = ask(client, "What is SSE?", "application/json").headers["Location"]
    stopped = client.delete(location)
    assert stopped.json is not None
    assert stopped.json["state"] == "stopped"


def test_answers_come_at_typing_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    run = SimpleNamespace(wait=waited.append)
    monkeypatch.setattr(demo, "current_run", lambda: run)
    pieces = list(demo.recite("What is SSE?", "en"))
    assert waited == [demo.TYPING] * len(pieces)
    assert 0 < demo.TYPING < 1


def test_the_language_of_an_answer_may_be_asked_for(client: FlaskClient, quick: None) -> None:
    for lang in ("en", "zh"):
        expected = answer_book.find_answer("SSE", lang)
        assert ask(client, "SSE", language=lang).text == expected
    assert answer_book.find_answer("SSE", "en") != answer_book.find_answer("SSE", "zh")


@pytest.mark.parametrize("language", [7, None, [], {}, "fr", "\ud800", ["en"]])
def test_a_language_that_makes_no_sense_is_no_failure(
    client: FlaskClient, quick: None, language: object
) -> None:
    expected = answer_book.find_answer("What is SSE?")
    assert ask(client, "What is SSE?", language=language).text == expected


@pytest.mark.parametrize("question", [None, "", "  \n", 7, [], {}, True])
def test_a_missing_or_empty_question_is_refused(client: FlaskClient, question: object) -> None:
    check_problem(ask(client, question), 400, "'question' is missing or empty")


def test_a_body_that_cannot_be_read_is_refused_with_the_right_status(client: FlaskClient) -> None:
    check_problem(client.post("/ask", json={}), 400, "'question'")
    check_problem(client.post("/ask", json=[]), 400, "JSON object")
    deep = b"[" * 60_000
    check_problem(client.post("/ask", data=deep, content_type="application/json"), 400, "JSON")
    check_problem(client.post("/ask", data="{", content_type="application/json"), 400, "JSON")
    check_problem(client.post("/ask", data="question=x"), 415, "Content-Type")
    check_problem(client.post("/ask"), 415)
    body = b'{"question": "\xff"}'
    check_problem(client.post("/ask", data=body, content_type="application/json"), 400, "UTF-8")
    check_problem(ask(client, "x" * 2001), 400, "at most 2000")
    check_problem(ask(client, "x" * 70_000), 413, "capacity limit")


def test_half_a_surrogate_pair_in_a_question_is_no_failure(
    client: FlaskClient, quick: None
) -> None:
    assert ask(client, "\ud800 SSE").status_code == 200


def test_a_reader_who_stops_frees_the_server(app: Flask) -> None:
    with serve(app) as site:
        headers = {"Content-Type": "application/json"}
        body = b'{"question": "What is SSE?"}'
        with site.get("/ask", method="POST", headers=headers, body=body) as client:
            assert client.read()
            assert len(site.registry) == 1
        site.wait_empty()


# channels, errors, the rest


def test_the_demos_open_channels_may_be_published_to_and_no_others(client: FlaskClient) -> None:
    for channel, status in {"news": 201, "chat": 201, "ticker": 403, "private": 403}.items():
        answer = client.post(f"/streaming/channels/{channel}", json={"data": "x"})
        assert answer.status_code == status, channel


@pytest.mark.parametrize("path", ["/nothing", "/static/nothing.js", "/streaming/nothing", "/%ff"])
def test_an_unknown_path_is_a_problem(client: FlaskClient, path: str) -> None:
    check_problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("GET", "/ask"),
        ("POST", "/events"),
        ("DELETE", "/chat"),
        ("PUT", "/streaming/channels/news"),
    ],
)
def test_the_wrong_method_is_a_problem_that_names_the_right_ones(
    client: FlaskClient, method: str, path: str
) -> None:
    answer = client.open(path, method=method)
    check_problem(answer, 405)
    assert answer.headers["Allow"]


def test_an_error_of_the_demo_itself_is_a_problem_without_its_secrets(app: Flask) -> None:
    def fail() -> str:
        raise ZeroDivisionError("secret")

    app.add_url_rule("/fail", view_func=fail)
    answer = app.test_client().get("/fail")
    check_problem(answer, 500)
    assert "secret" not in answer.text


SAFE = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


@pytest.mark.parametrize(
    "path", [*PAGES, "/nothing", "/clients", "/events", "/ws", "/static/icon.svg"]
)
def test_every_answer_says_what_a_browser_may_do_with_it(client: FlaskClient, path: str) -> None:
    with client.get(path) as answer:
        assert {name: answer.headers[name] for name in SAFE} == SAFE


def test_the_packages_answers_in_the_demo_say_so_too(client: FlaskClient) -> None:
    for path in ("/streaming/events", "/streaming/readyz", "/streaming/static/index.js"):
        with client.get(path) as answer:
            assert {name: answer.headers[name] for name in SAFE} == SAFE


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_cookie_is_for_no_script_and_over_tls_for_nothing_else(
    client: FlaskClient, scheme: str
) -> None:
    flags = client.get("/?lang=zh", base_url=f"{scheme}://localhost").headers["Set-Cookie"]
    assert "; HttpOnly" in flags
    assert "; SameSite=Lax" in flags
    assert ("; Secure" in flags) == (scheme == "https")


def test_the_clients_are_told_in_plain_data(app: Flask) -> None:
    with serve(app) as site, site.get("/streaming/events?channel=news") as stream:
        assert stream.next_event().event == "ready"  # type: ignore[union-attr]
        with site.get("/clients") as client:
            (row,) = client.json()["clients"]
    assert (row["transport"], row["channels"]) == ("sse", ["news"])


def test_the_address_of_an_answer_is_told_to_nobody_else(app: Flask, slow: None) -> None:
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    body = b'{"question": "What is SSE?"}'
    with serve(app) as site, site.get("/ask", method="POST", headers=headers, body=body) as reader:
        assert reader.next_event() is not None
        with site.get("/clients") as client:
            rows = client.json()["clients"]
        where = reader.headers["location"]
        with site.get(where, method="DELETE") as stopping:
            assert stopping.json()["state"] == "stopped"
    assert ["run:…"] in [row["channels"] for row in rows]
    assert where.rpartition("/")[2] not in json.dumps(rows)


def test_the_ticker_starts_with_the_first_request_and_not_before(app: Flask) -> None:
    log = app.extensions["streaming"].hub.log
    with serve(app) as site, site.get("/streaming/events?channel=ticker") as client:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        event = client.next_event()
        assert event is not None
        assert event.event == "message"
        tick = event.json()
        assert tick.keys() == {"n", "at"}
    assert log.tail("ticker").offset >= 1


def test_configuration_comes_from_the_environment_and_the_caller_goes_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STREAMING_HEARTBEAT", "7.5")
    monkeypatch.setenv("STREAMING_ORIGINS", '["https://listed.example"]')
    monkeypatch.setenv("STREAMING_COMPRESSION", "true")
    monkeypatch.setenv("STREAMING_LOG", "memory:")
    settings = demo.create_app(STREAMING_HEARTBEAT=3).extensions["streaming"].settings
    assert settings.heartbeat == 3
    assert settings.origins == ["https://listed.example"]
    assert settings.compression is True
    assert settings.log == "memory:"


def test_a_trusted_proxy_is_believed_only_if_it_is_said_to_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forwarded = {"X-Forwarded-Host": "public.example", "X-Forwarded-Proto": "https"}
    for proxies, host in (("0", "localhost"), ("1", "public.example")):
        monkeypatch.setenv("TRUSTED_PROXIES", proxies)
        app = demo.create_app()
        seen: list[str] = []
        app.before_request(lambda seen=seen: seen.append(demo.request.host))
        app.test_client().get("/clients", headers=forwarded)
        app.extensions["streaming"].close()
        assert seen == [host]


@pytest.mark.parametrize("value", ["true", "", "-1", "1.5"])
def test_a_number_of_proxies_that_is_none_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", value)
    with pytest.raises(ConfigurationError, match=f"TRUSTED_PROXIES is '{value}'"):
        demo.create_app()


def test_workers_that_share_a_log_publish_each_tick_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "TICK", 0.2)
    url = f"sqlite:///{tmp_path / 'log.db'}"
    apps = [demo.create_app(STREAMING_LOG=url) for _ in range(2)]
    states = [app.extensions["streaming"] for app in apps]
    with states[0].hub.subscribe("ticker") as subscription:
        for app in apps:
            demo.start_ticker(app)
        seen: list[Message | Gap] = []
        while len(seen) < 2:
            seen += subscription.take(PATIENCE)
    for state in states:
        state.close()
        state.hub.log.close()
    ticks = [json.loads(item.data)["n"] for item in seen if isinstance(item, Message)]
    assert len(set(ticks)) == len(seen)
