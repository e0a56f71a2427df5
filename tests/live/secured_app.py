"""A page under flask-talisman's policy, with a script in a file and one inline."""

from flask import Flask, Response
from flask_talisman import Talisman

from streaming import Streaming

app = Flask("secured")
Talisman(app, force_https=False)
streaming = Streaming(app, authorize=lambda action, channel: True)

PAGE = """<!doctype html>
<title>secured</title>
<p id="events"></p><p id="socket"></p><p id="inline"></p>
<script type="module" src="/page.js"></script>
<script>document.getElementById("inline").textContent = "it ran";</script>
"""

SCRIPT = """
import { EventStream, ReconnectingSocket } from "/streaming/static/index.js";

const show = (id, text) => (document.getElementById(id).textContent = text);
new EventSource("/streaming/events?channel=a&history=1").onmessage = ({ data }) => {
  new EventStream("/streaming/events?channel=a&history=1").onmessage = () => show("events", data);
};
const socket = new ReconnectingSocket("/streaming/ws", { protocols: ["streaming.v1.json"] });
socket.addEventListener("message", ({ data }) => show("socket", JSON.parse(data).type));
"""


@app.get("/")
def page() -> str:
    return PAGE


@app.get("/favicon.ico")
def icon() -> tuple[str, int]:
    return "", 204


@app.get("/page.js")
def script() -> Response:
    streaming.publish("a", "hello")
    return Response(SCRIPT, mimetype="text/javascript")
