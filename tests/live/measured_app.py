"""An application whose metrics are read, as docs/observing.md has it."""

import os

from flask import Flask, Response

from streaming import Sock, Streaming

app = Flask("measured")
app.config["STREAMING_LOG"] = os.environ["STREAMING_LOG"]
streaming = Streaming(app, authorize=lambda action, channel: True)
Sock(app).route("/echo", endpoint="echo")(lambda ws: ws.send)


@app.get("/metrics")
def metrics() -> Response:
    """What Prometheus reads."""
    return streaming.metrics()
