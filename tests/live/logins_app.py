"""People with Flask-Login in a chat, with notifications; answers say which worker they are of."""

import os

import flask_login
from flask import Flask, Response, redirect, request
from flask_login import LoginManager, UserMixin, current_user, login_required
from werkzeug.wrappers import Response as Answer

from streaming import Connection, Sock, Streaming, Take, chat

app = Flask(__name__)
app.secret_key = "the same on all workers"
app.config["STREAMING_LOG"] = os.environ["STREAMING_LOG"]
streaming = Streaming(
    app,
    identify=lambda: current_user,
    authorize=lambda action, channel, identity: channel == "lobby" and identity is not None,
)
sock, logins = Sock(app), LoginManager(app)


@logins.user_loader
def load(id: str) -> UserMixin:
    user = UserMixin()
    user.id = user.name = id
    return user


@app.post("/login")
def login() -> Answer:
    flask_login.login_user(load(request.form["id"]))
    return redirect("/")


@app.post("/logout")
@login_required
def logout() -> Answer:
    gone = current_user.id
    flask_login.logout_user()
    streaming.revoke(identity=gone)
    return redirect("/")


@app.post("/notify/<id>")
@login_required
def notify(id: str) -> tuple[str, int]:
    streaming.publish_to(id, f"{current_user.id} waves at you")
    return "", 204


@sock.route("/chat")
def talk(ws: Connection) -> Take:
    return chat(ws, "lobby", history=20)


@app.after_request
def name_worker(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response
