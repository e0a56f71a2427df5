"""Notifications, chat and presence for people who have logged in, with Flask-Login:
``STREAMING_LOG=sqlite:///logins.db gunicorn --workers 2 examples.logins:app``."""

import os

import flask_login
from flask import Flask, redirect, render_template, request
from flask_login import LoginManager, UserMixin, current_user, login_required

from streaming import Sock, Streaming, chat

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY", "change me")
app.config["STREAMING_LOG"] = os.environ.get("STREAMING_LOG", "memory:")
streaming = Streaming(
    app,
    identify=lambda: current_user,
    authorize=lambda action, channel, identity: channel == "lobby" and identity is not None,
)
sock, logins = Sock(app), LoginManager(app)


@logins.user_loader
def load(id):
    user = UserMixin()
    user.id = user.name = id
    return user


@app.get("/")
def home():
    own = streaming.user_channel(current_user.id) if current_user.is_authenticated else ""
    return render_template("logins.html", own=own)


@app.post("/login")
def login():  # a real one asks for a password
    flask_login.login_user(load(request.form["id"]))
    return redirect("/")


@app.post("/logout")
@login_required
def logout():
    gone = current_user.id
    flask_login.logout_user()
    streaming.revoke(identity=gone)
    return redirect("/")


@app.post("/notify/<id>")
@login_required
def notify(id):
    streaming.publish_to(id, f"{current_user.id} waves at you")
    return "", 204


@sock.route("/chat")
def talk(ws):
    return chat(ws, "lobby", history=20)
