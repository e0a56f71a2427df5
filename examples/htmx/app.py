"""A list that grows in all windows, with htmx and no line of JavaScript of our own.

htmx and its extension for server-sent events come from npm; see package.json.

    npm install --prefix examples/htmx && flask --app examples/htmx/app run
"""

import os
from datetime import datetime

from flask import Flask, abort, render_template, request, send_from_directory

from streaming import Streaming

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.config["STREAMING_LOG"] = os.environ.get("STREAMING_LOG", "sqlite:///notes.db")  # outlives us
app.config["STREAMING_PUBLIC"] = ["notes"]  # anybody may read; nobody publishes but our views
app.config["MAX_CONTENT_LENGTH"] = 16_384  # of what is posted to us
streaming = Streaming(app)
SCRIPTS = {"htmx.js": "htmx.org/dist/htmx.min.js", "sse.js": "htmx-ext-sse/dist/sse.min.js"}


@app.template_global()
def t(english, chinese):
    """The text in the reader's language: by ?lang=zh, or as the browser asks for it."""
    best = request.accept_languages.best_match(["en", "zh"], "en")
    return chinese if request.args.get("lang", best) == "zh" else english


@app.before_request
def check_page():
    """Browsers say with each POST whose page it comes from; ours may, those of others not."""
    if request.method == "POST" and request.origin not in (None, request.host_url.rstrip("/")):
        abort(403)


@app.after_request
def allow_own_scripts(response):  # no text can become a script, whatever is forgotten elsewhere
    response.headers["Content-Security-Policy"] = "default-src 'self'; img-src data:"
    return response


@app.get("/")
def home():
    return render_template("index.html")


@app.get("/scripts/<name>")
def script(name):
    return send_from_directory("node_modules", SCRIPTS.get(name, ""))


@app.post("/notes")
def add():
    if text := request.form["text"].strip()[:500]:
        now = f"{datetime.now():%H:%M:%S}"
        # Jinja escapes the text, so <script> is shown and not run.
        streaming.publish("notes", render_template("note.html", text=text, at=now))
    return home()
