"""Others' wire formats in front of a producer that does what the question says."""

import os
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask

from streaming import Part, Streaming, openai_api, ui_messages_api

app = Flask(__name__)
app.config.update({k: v for k, v in os.environ.items() if k.startswith("STREAMING_")})
streaming = Streaming(app, authorize=lambda action, channel: True)


def answer(messages: list[dict[str, Any]], options: dict[str, Any]) -> Iterator[str | Part]:
    """``<pieces> <seconds> <file>``: so many pieces, with so many seconds between two; in the
    middle it waits until there is the file."""
    count, *more = messages[-1]["content"].split()
    pause, file = [*more, *("0", "")[len(more) :]]
    yield Part("reasoning", "hm")
    for n in range(int(count)):
        yield f"{n} "
        time.sleep(float(pause))
        while file and n == int(count) // 2 and not os.path.exists(file):
            time.sleep(0.02)
    yield Part("tool-call", {"id": "c1", "name": "search", "arguments": {"q": 1}})
    yield Part("tool-result", {"id": "c1", "result": "found"})
    yield Part("data", {"a": 1})
    yield Part("usage", {"input": 1, "output": 2})


app.register_blueprint(openai_api(answer, ["house"]), url_prefix="/v1")
app.register_blueprint(ui_messages_api(answer), url_prefix="/api/chat")


@app.get("/")
def home() -> str:
    return "here"
