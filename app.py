"""The demo: the tutorial's three ways to stream, and what comes after them, in one file."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, make_response, render_template, request, url_for
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from demo import answer_book
from demo.markdown import with_blocks
from demo.model import KEYS, Model
from streaming import (
    SSE,
    ConfigurationError,
    Connection,
    InvalidRequest,
    LogUnavailable,
    Part,
    Sock,
    Streaming,
    Take,
    chat,
    current_run,
    stream,
)

PUBLIC = {"news", "chat"}
"""Channels that anybody may publish to; it is a demo."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}
"""Of all answers: scripts, styles and connections are ours, no text becomes markup or a script, and
no page of others shows ours in a frame."""

LONGEST_QUESTION = 2000
"""Characters."""

TICK = 2.0
"""Seconds between two messages on the channel ``ticker``."""

TYPING = 0.03
"""Seconds between two pieces of an answer."""

TEXTS: dict[str, dict[str, str]] = {
    lang: json.loads((Path(__file__).parent / "static" / f"texts.{lang}.json").read_text("utf-8"))
    for lang in ("en", "zh")
}


def is_allowed(action: str, channel: str) -> bool:
    """What anybody may do: read, stop an answer whose name they know, publish to some channels."""
    return action in ("subscribe", "stop") or channel in PUBLIC


streaming = Streaming(authorize=is_allowed)


def create_app(**config: object) -> Flask:
    """The demo application; ``config`` goes over ``STREAMING_*`` environment variables."""
    app = Flask(__name__)
    texts = {key: text for key, text in os.environ.items() if key.startswith("STREAMING_")}
    model = Model.of({**texts, **config})
    settings = {**{key: _value(text) for key, text in texts.items()}, **config}
    app.config.update({key: value for key, value in settings.items() if key not in KEYS})
    app.jinja_env.globals["model"] = model
    streaming.init_app(app)
    given = os.environ.get("TRUSTED_PROXIES", "0")
    if not given.isdecimal():
        raise ConfigurationError(
            f"TRUSTED_PROXIES is {given!r:.100}; it must be how many proxies stand in front, as 1."
        )
    if proxies := int(given):
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_prefix=proxies
        )
    add_pages(app)
    add_answers(app, model)
    add_tutorial(app)
    app.before_request(once(lambda: start_ticker(app)))
    app.after_request(finish)
    app.register_error_handler(HTTPException, problem)
    return app


def add_pages(app: Flask) -> None:
    """The four pages, in the language of the reader."""
    for name, path in {
        "home": "/",
        "sse": "/sse",
        "typewriter": "/typewriter",
        "chat": "/chat",
    }.items():
        app.add_url_rule(path, name, lambda name=name: page(name))

    @app.get("/clients")
    def clients() -> Response:
        snapshot: dict[str, Any] = {**streaming.clients()}
        for client in snapshot["clients"]:
            client["channels"] = [hidden(channel) for channel in client.get("channels", ())]
        return jsonify(snapshot)


def hidden(channel: str) -> str:
    """The name of ``channel``, unless who knows it may read or stop somebody's answer."""
    return "run:…" if channel.startswith("run:") else channel


def add_answers(app: Flask, model: Model | None) -> None:
    """Questions, answered in runs: whoever knows an answer's address can read it again."""

    @app.post("/ask")
    def ask() -> Response:
        body = read_body()
        question, language, history = read_question(body), body.get("language"), read_history(body)
        if model is None:
            return streaming.run(recite, question, language).response()
        return streaming.run(think, model, question, history, language).response()


def recite(question: str, language: str | None) -> Iterator[str | Part]:
    """What the answer book has to say, at the speed of typing."""
    for piece in with_blocks(answer_book.pieces(answer_book.find_answer(question, language))):
        yield piece
        current_run().wait(TYPING)


def think(model: Model, *asked: Any) -> Iterator[str | Part]:
    """What the model has to say, as fast as it says it."""
    return with_blocks(model.answer(*asked))


def read_history(body: Mapping[str, object]) -> list[dict[str, str]]:
    """What was said before, as the page tells it: turns with a ``question`` and an ``answer``."""
    history = body.get("history", [])
    names = {"question", "answer"}
    if isinstance(history, list) and all(
        isinstance(turn, dict) and names == turn.keys() and all(map(_is_text, turn.values()))
        for turn in history
    ):
        return history
    raise InvalidRequest("'history' must be a list of objects with a 'question' and an 'answer'.")


def add_tutorial(app: Flask) -> None:
    """The endpoints of the tutorial, as its pages expect them."""

    @app.get("/events", endpoint="events")
    def greet() -> Response:
        return stream(greetings(), every=2, form=SSE)

    sock = Sock(app)

    @sock.route("/ws", endpoint="socket")
    @sock.route("/", endpoint="root_socket")
    def talk(ws: Connection) -> Take:
        return chat(ws, "chat")

    @app.get("/ws")
    def plain_ws() -> Response:
        error = HTTPException("Connect here with a WebSocket client.")
        error.code = 426
        answer = problem(error)
        answer.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})
        return answer


def read_body() -> dict[str, Any]:
    """The JSON object that ``POST /ask`` was sent."""
    request.max_content_length = 64 * 1024
    if not request.is_json:
        abort(415, "Send the question as JSON, with Content-Type: application/json.")
    try:
        body = request.get_json()
    except (BadRequest, RecursionError):  # the latter: a thousand brackets
        abort(400, "The body is not JSON in UTF-8.")
    return body if isinstance(body, dict) else {}


def read_question(body: Mapping[str, object]) -> str:
    """What ``POST /ask`` wants to know."""
    question = body.get("question")
    if not isinstance(question, str) or not question.strip():
        abort(400, "'question' is missing or empty. Send a JSON object that has it.")
    if len(question) > LONGEST_QUESTION:
        abort(400, f"The question is too long; at most {LONGEST_QUESTION} characters are read.")
    return question.strip()


def greetings() -> Iterator[str]:
    """Five greetings; the response pauses 2 s after each, which makes the tutorial's 10 s."""
    for _ in range(5):
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield json.dumps({"message": "Hello World", "timestamp": now}, separators=(",", ":"))


def start_ticker(app: Flask) -> None:
    """Publish to ``ticker`` every 2 s until the process is to stop.

    Every worker does, with the same key for the same tick, so that each tick is there once.
    """

    def run() -> None:
        with app.app_context():
            while not streaming.closed.wait(TICK - time.time() % TICK):
                tick = round(time.time() / TICK)
                now = datetime.now(UTC).isoformat(timespec="seconds")
                with suppress(LogUnavailable):  # the next tick tries again
                    data = {"n": tick % 10_000, "at": now}
                    streaming.publish("ticker", data, key=f"tick {tick}")

    threading.Thread(target=run, name="demo ticker", daemon=True).start()


def once(action: Callable[[], None]) -> Callable[[], None]:
    """``action`` at the first call only: a worker's first request, after the fork."""
    lock = threading.Lock()

    def first() -> None:
        if lock.acquire(blocking=False):
            action()

    return first


def page(name: str) -> Response:
    """The page ``name`` in the reader's language, which a cookie keeps once it was chosen."""
    chosen = request.args.get("lang")
    lang = (
        chosen
        if chosen in TEXTS
        else request.cookies.get("lang")
        if request.cookies.get("lang") in TEXTS
        else next((tag for tag in spoken_tags() if tag in TEXTS), "en")
    )
    site = f"{request.scheme}://{request.headers.get('Host', '')}"
    html = render_template(f"{name}.html", lang=lang, t=reader(lang or "en"), site=site)
    response = make_response(html)
    response.headers["Vary"] = "Accept-Language, Cookie"
    if chosen in TEXTS:
        path = request.script_root or "/"
        flags: dict[str, Any] = {"samesite": "Lax", "httponly": True, "secure": request.is_secure}
        response.set_cookie("lang", str(chosen), max_age=31_536_000, path=path, **flags)
    return response


def reader(lang: str) -> Callable[[str], str]:
    """The texts of a language by their keys, with our addresses where they are mentioned."""
    places = {
        "{events}": url_for("events"),
        "{ws}": url_for("plain_ws"),
        "{static}": url_for("streaming.static", filename=""),
    }

    def text(key: str) -> str:
        found = TEXTS[lang][key]
        for name, address in places.items():
            found = found.replace(name, address)
        return found

    return text


def spoken_tags() -> Iterator[str]:
    """The languages the browser asks for, the favourite first, without their regions."""
    return (tag.partition("-")[0].lower() for tag, weight in request.accept_languages if weight)


def finish(response: Response) -> Response:
    """What all answers share."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return streaming.allow_origin(response)


def problem(error: HTTPException) -> Response:
    """Errors of Flask itself as ``application/problem+json`` (RFC 9457)."""
    response = make_response(error.get_response())
    body = {
        "type": "about:blank",
        "title": error.name,
        "status": error.code,
        "detail": error.description,
    }
    response.data = json.dumps(body)
    response.content_type = "application/problem+json"
    return response


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _value(text: str) -> object:
    """An environment variable as a setting: JSON where it is JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


app = create_app()
