"""Flask and flask-sock as one would write it at first: a queue for every subscriber."""

import queue
import threading
from collections.abc import Iterator

from flask import Flask, Response, request
from flask_sock import Sock
from simple_websocket import Server

app = Flask(__name__)
sock = Sock(app)
lock = threading.Lock()
subscribers: list[queue.Queue[str]] = []
clients: list[Server] = []


@app.get("/events")
def events() -> Response:
    mine: queue.Queue[str] = queue.Queue()
    with lock:
        subscribers.append(mine)

    def stream() -> Iterator[str]:
        try:
            yield ": connected\n\n"  # no header leaves before the first piece
            while True:
                yield f"data: {mine.get()}\n\n"
        finally:
            with lock:
                subscribers.remove(mine)

    return Response(stream(), mimetype="text/event-stream")


@app.post("/publish")
def publish() -> tuple[str, int]:
    text = request.get_data(as_text=True)
    with lock:
        for subscriber in subscribers:
            subscriber.put(text)
    return "", 204


@sock.route("/ws")  # type: ignore[untyped-decorator]
def chat(ws: Server) -> None:
    ws.send("Welcome to the WebSocket server!")
    with lock:
        clients.append(ws)
    try:
        while True:
            text = ws.receive()
            with lock:
                for client in clients:
                    said = "You said" if client is ws else "Other client said"
                    client.send(f"{said}: {text}")
    finally:
        with lock:
            clients.remove(ws)


@sock.route("/echo")  # type: ignore[untyped-decorator]
def echo(ws: Server) -> None:
    while True:
        ws.send(f"You said: {ws.receive()}")
