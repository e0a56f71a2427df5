"""An app that was there before: plain views, forms, sync workers. Of streaming it only publishes.

Its streams are in streams.py: a second gunicorn on the same log. Both with one command:

    sh examples/sync_app/serve.sh
"""

import os

from flask import Flask, abort, redirect, render_template, request, session, url_for

from streaming import Publisher

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.secret_key = os.environ["SECRET_KEY"]
app.config.update(MAX_CONTENT_LENGTH=16_384, SESSION_COOKIE_SAMESITE="Lax")  # from our own pages
publisher = Publisher(os.environ["STREAMING_LOG"])


@app.before_request
def check_page():  # browsers say with each POST whose page it comes from: ours only
    if request.method == "POST" and request.origin not in (None, request.host_url.rstrip("/")):
        abort(403)


@app.get("/")
def home():
    return render_template("index.html", streams=os.environ["STREAMS"])


@app.post("/login")
def login():  # a real one asks for a password, too
    session["user"] = "".join(filter(str.isprintable, request.form["name"])).strip()[:40]
    return redirect(url_for("home"))


@app.post("/orders")
def order():
    user = session.get("user") or abort(401)
    # What the app has always done with an order, and one line more:
    publisher.publish("orders", {"from": user, "what": request.form["what"][:200]})
    return redirect(url_for("home"))
