"""A chat room over a WebSocket: who speaks is whom the server knows, and all see who is here.

flask --app examples/chat_room/app run
"""

import secrets

from flask import Flask, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from streaming import Identity, InvalidMessage, Streaming

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.secret_key = secrets.token_hex()  # yours: one that stays, and that all workers have
app.config.update(MAX_CONTENT_LENGTH=16_384, SESSION_COOKIE_SAMESITE="Lax")  # from our own pages
app.register_error_handler(InvalidMessage, lambda error: (str(error), 400))  # a name that is none


def identify() -> Identity | None:  # Flask's session is signed: nobody can make one up
    return Identity(session["id"], session["name"]) if "id" in session else None


def authorize(action: str, channel: str, identity: Identity | None) -> bool:
    return identity is not None and channel == "lobby" and action in ("subscribe", "publish")


streaming = Streaming(app, identify=identify, authorize=authorize)  # both asked for each client


@app.before_request
def check_page() -> None:  # browsers say with each POST whose page it comes from: ours only
    if request.method == "POST" and request.origin not in (None, request.host_url.rstrip("/")):
        abort(403)


@app.get("/")
def home() -> str:
    return render_template("index.html", me=identify())


@app.post("/enter")
def enter() -> Response:
    who = Identity(secrets.token_hex(8), request.form["name"].strip() or abort(400))
    session.update(id=who.id, name=who.name)  # two may have one name: the id tells them apart
    return redirect(url_for("home"))


@app.post("/go")
def go() -> Response:
    if gone := session.pop("id", None):
        streaming.revoke(identity=gone)  # closes the WebSockets of all tabs
    return redirect(url_for("home"))
