"""Flask-Login around WebSockets, for ``test_guarded.py``: the name in the URL is who comes."""

import os
import threading
from collections.abc import Callable
from functools import wraps

from flask import Flask, Response, abort, redirect, request
from flask_login import LoginManager, UserMixin, login_required

from streaming import Connection, Sock, Streaming, Take, chat

app = Flask(__name__)
app.secret_key = "not secret"
app.config["STREAMING_LOG"] = os.environ.get("STREAMING_LOG", "memory:")
streaming = Streaming(app, authorize=lambda action, channel: not channel.startswith("private"))
sock = Sock(app)
login = LoginManager(app)
waited_for = threading.Event()


class User(UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


@login.request_loader  # type: ignore[untyped-decorator]
def load_user(request: object) -> User | None:
    """The user that the URL names."""
    name = getattr(request, "args", {}).get("user")
    return User(name) if name else None


@app.get("/login")
def show_login() -> str:
    """Where strangers of the redirecting routes are sent."""
    return "Who are you?"


@app.get("/page")
def page() -> str:
    """What follows a refusal on the same connection."""
    return "a page"


@sock.route("/members")
@login_required  # type: ignore[untyped-decorator]
def members(ws: Connection) -> None:
    """401 for strangers, an echo for users."""
    for message in ws:
        ws.send(message)


def must_log_in(view: Callable[..., object]) -> Callable[..., object]:
    """A guard as people write it by hand: it sends strangers to a page."""

    @wraps(view)
    def guarded(*args: object, **kwargs: object) -> object:
        return view(*args, **kwargs) if "user" in request.args else redirect("/login")

    return guarded


@sock.route("/redirects")
@must_log_in
@login_required  # type: ignore[untyped-decorator]
def redirects(ws: Connection) -> Take:
    """302 for strangers; messages come back to users."""
    return ws.send


@sock.route("/rooms/<room>")
def talk(ws: Connection, room: str) -> Take:
    """``authorize`` says 403 to rooms that are private."""
    return chat(ws, room)


@sock.route("/aborts/<int:status>")
def aborts(ws: Connection, status: int) -> None:
    """Refuses behind its first message."""
    ws.send("hello")
    abort(status)


@sock.route("/answers/<int:status>")
def answers(ws: Connection, status: int) -> Response:
    """Answers as a view behind its first message."""
    ws.send("hello")
    return Response("no", status)


@sock.route("/silent")
def silent(ws: Connection) -> None:
    """Never touches ``ws``."""


@sock.route("/busy")
def busy(ws: Connection) -> None:
    """Waits for something else, and sends nothing before it comes."""
    waited_for.wait(60)


@app.post("/go-on")
def go_on() -> dict[str, str]:
    """What ``busy`` waits for."""
    waited_for.set()
    return {"told": "busy"}


@sock.route("/plain")
def plain(ws: Connection) -> str:
    """Answers everybody as a page."""
    return f"not for {ws.id}"
