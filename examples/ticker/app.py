"""Prices, ten a second: whoever falls behind gets the newest, and not all that were missed.

flask --app examples/ticker/app run
"""

import random
import threading

from flask import Flask, render_template

from streaming import Streaming

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.config["STREAMING_PUBLIC"] = ["price:*"]  # anybody may read prices; only we publish them
app.config["STREAMING_POLICIES"] = {"price:*": "latest"}  # the default, "replay", misses nothing
streaming = Streaming(app)
begun = threading.Lock()


def trade() -> None:
    """Publish prices until the process is to stop."""
    prices = {"ACME": 100.0, "GLOBEX": 40.0}
    number = 0
    with app.app_context():
        while not streaming.closed.wait(0.1):
            number += 1
            for name in prices:
                prices[name] = max(1.0, prices[name] * random.uniform(0.99, 1.0102))
                streaming.publish(f"price:{name}", {"number": number, "price": prices[name]})


@app.before_request
def begin() -> None:
    """Start trading with the first request, in the process that serves it.

    With several workers let one process trade, a script with `streaming.Publisher`.
    """
    if begun.acquire(blocking=False):
        threading.Thread(target=trade, daemon=True).start()


@app.get("/")
def home() -> str:
    return render_template("index.html")
