"""Notifications for people who have logged in, with Flask-Login.

What is for one user reaches all tabs of that user, and nobody else:

    flask --app examples/notifications/app run
"""

import secrets

import flask_login
from flask import Flask, abort, redirect, render_template, request, url_for
from flask_login import LoginManager, UserMixin, current_user, login_required

from streaming import InvalidMessage, Streaming

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.secret_key = secrets.token_hex()  # yours: one that stays, and that all workers have
app.config.update(MAX_CONTENT_LENGTH=16_384, SESSION_COOKIE_SAMESITE="Lax")  # from our own pages
app.register_error_handler(InvalidMessage, lambda error: (str(error), 400))  # a name of nobody
streaming = Streaming(app, identify=lambda: current_user)  # who a client is


class User(UserMixin):
    def __init__(self, name):
        self.id = self.name = name


LoginManager(app).user_loader(User)


@app.before_request
def check_page():  # browsers say with each POST whose page it comes from: ours only
    if request.method == "POST" and request.origin not in (None, request.host_url.rstrip("/")):
        abort(403)


@app.get("/")
def home():
    return render_template("index.html")


@app.post("/login")
def login():
    name = request.form["name"].strip()  # a real login asks for a password, too
    streaming.user_channel(name)  # raises if nobody can be called so
    flask_login.login_user(User(name))
    return redirect(url_for("home"))


@app.post("/logout")
@login_required
def logout():
    gone = current_user.id
    flask_login.logout_user()
    streaming.revoke(identity=gone)  # ends the streams in all tabs, on all workers
    return redirect(url_for("home"))


@app.get("/mine")
@login_required
def mine():
    # the last 20 and all that come; when the connection breaks, what came meanwhile
    return streaming.events(streaming.user_channel(current_user.id), history=20)


@app.post("/notify")
@login_required
def notify():
    message = {"from": current_user.name, "text": request.form["text"][:500]}
    streaming.publish_to(request.form["to"].strip(), message)
    return "", 204
