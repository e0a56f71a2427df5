"""The streams of the app. Knows who has logged in there, because it has the same SECRET_KEY."""

import os

from flask import Flask, session

from streaming import Streaming

app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]
app.config["STREAMING_LOG"] = os.environ["STREAMING_LOG"]
app.config["STREAMING_ORIGINS"] = os.environ["PAGES"].split()  # whose pages may read them
Streaming(
    app,
    identify=lambda: session.get("user"),
    authorize=lambda action, channel, user: user and (action, channel) == ("subscribe", "orders"),
)
