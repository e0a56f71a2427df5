"""An app that was there before: plain views, forms, sync workers. Of streaming it only publishes.

Its streams are in streams.py: a second gunicorn on the same log. Both with one command:

    sh examples/sync_app/serve.sh
"""

import os

from flask import Flask, abort, redirect, render_template, request, session, url_for

from streaming import Publisher

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.secret_key = os.environ["SECRET_KEY"]
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"  # not sent when a page of others posts to us
publisher = Publisher(os.environ["STREAMING_LOG"])


@app.get("/")
def home():
    return render_template("index.html", streams=os.environ["STREAMS"])


@app.post("/login")
def login():
    session["user"] = request.form["name"].strip()[:40]  # a real login asks for a password, too
    return redirect(url_for("home"))


@app.post("/orders")
def order():
    if "user" not in session:
        abort(401)
    # What the app has always done with an order, and one line more:
    publisher.publish("orders", {"from": session["user"], "what": request.form["what"][:200]})
    return redirect(url_for("home"))
