"""A log file, line by line as it is written, for whoever has the password.

It is this application's own log. To follow another file: LOG_FILE=/var/log/syslog flask …

    flask --app examples/live_log/app run
"""

import hmac
import logging
import os
import secrets
import threading
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

from flask import Flask, Response, abort, render_template, request

from streaming import Streaming

PASSWORD = os.environ.get("LOG_PASSWORD") or secrets.token_urlsafe(8)
print(f" * Any user name, and the password {PASSWORD}")

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.config["MAX_CONTENT_LENGTH"] = 16_384
Path(app.instance_path).mkdir(exist_ok=True)
OWN = Path(app.instance_path) / "app.log"
FILE = Path(os.environ.get("LOG_FILE") or OWN)
file = RotatingFileHandler(OWN, maxBytes=1_000_000, backupCount=1)
logging.basicConfig(handlers=[file, logging.StreamHandler()], level=logging.INFO)
streaming = Streaming(app, authorize=lambda action, name: (action, name) == ("subscribe", "log"))
begun = threading.Lock()


def lines(path: Path) -> Iterator[str]:
    """What is written into a file from now on; after a rotation, into the new one of its name."""
    file, line = path.open(errors="replace"), ""
    file.seek(0, os.SEEK_END)
    while not streaming.closed.wait(0 if line.endswith("\n") else 0.2):
        if line.endswith("\n"):
            yield line.rstrip("\n")[:4000]
            line = ""
        line += file.readline()  # nothing, or a part, if the rest is not written yet
        if (
            not line
            and path.exists()
            and not os.path.samestat(path.stat(), os.fstat(file.fileno()))
        ):
            file.close()
            file = path.open(errors="replace")


def follow() -> None:
    with app.app_context():
        for line in lines(FILE):
            streaming.publish("log", line)


@app.before_request
def check() -> Response | None:
    """Logs are not for everybody. This is asked before the addresses of `streaming`, too."""
    password = getattr(request.authorization, "password", None) or ""
    if not hmac.compare_digest(password.encode(), PASSWORD.encode()):
        return Response("A password is needed.", 401, {"WWW-Authenticate": "Basic"})
    if request.method == "POST" and request.origin not in (None, request.host_url.rstrip("/")):
        abort(403)  # sent by a page of others, with the password that the browser remembers
    if begun.acquire(blocking=False):  # at the first request, in the process that serves it
        threading.Thread(target=follow, daemon=True).start()
    return None


@app.get("/")
def home() -> str:
    return render_template("index.html", name=FILE.name)


@app.post("/write")
def write() -> tuple[str, int]:
    app.logger.warning("A visitor says %r", request.form["text"])  # %r: it makes no line of its own
    return "", 204
