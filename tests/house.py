"""An application that lets nobody in who has no ticket."""

from typing import Any

from flask import Flask, request

from streaming import Connection, Identity, Sock, Streaming, chat

ADA = Identity("ada", "Ada")


class House:
    """An application that knows nobody by itself, and lets nobody in."""

    def __init__(self, *, authorize: bool = True, **config: Any) -> None:
        self.open: set[str] = set()
        self.app = app = Flask("house")
        app.config.update(SECRET_KEY="secret", **config)
        self.streaming = Streaming(
            app, authorize=self.authorize if authorize else None, identify=lambda: None
        )
        sock = Sock(app)
        sock.route("/talk", endpoint="talk")(lambda ws: chat(ws, "room"))
        sock.route("/echo", endpoint="echo")(self.echo)
        app.add_url_rule("/mine/<name>", view_func=self.mine)
        app.add_url_rule("/whoami", view_func=self.whoami)

    def authorize(self, action: str, channel: str, identity: Identity | None) -> bool:
        return channel in self.open

    def echo(self, ws: Connection) -> None:
        self.streaming.check_allowed("subscribe", "news")
        for message in ws:
            ws.send(message)

    def mine(self, name: str) -> Any:
        self.streaming.check_allowed("subscribe", "news")
        return self.streaming.events(name)

    def whoami(self) -> dict[str, object]:
        who = self.streaming.identity()
        return {"who": who and who.id, "ticket": request.args.get("ticket")}

    def ticket(self, *channels: str, **said: Any) -> str:
        with self.app.app_context():
            return self.streaming.ticket(*channels, **{"identity": ADA, **said})

    def publish(self, channel: str, data: str) -> None:
        with self.app.app_context():
            self.streaming.publish(channel, data)

    def revoke(self, **whom: str) -> None:
        with self.app.app_context():
            self.streaming.revoke(**whom)


def url(channel: str, ticket: str) -> str:
    return f"/streaming/events?channel={channel}&ticket={ticket}"
