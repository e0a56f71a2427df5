"""Real-time streaming for Flask: SSE, fetch streaming and WebSocket on one log per channel.

A session of use::

    app = Flask(__name__)
    streaming = Streaming(app)                      # GET /streaming/events?channel=news

    @app.post("/news")
    def news():
        message = streaming.publish("news", request.get_data(as_text=True))
        return str(message.id), 201

What is named here is what the package promises, and ``docs/api.md`` says it all. Its rooms behind
(``streaming.hub`` and so on) are the house, and may change from one version to the next.
"""

from .clients.closed import ConnectionClosed
from .clients.formats import NDJSON, SSE
from .clients.life import Take
from .clients.websocket import Connection
from .errors import (
    ChannelEnded,
    ConfigurationError,
    Forbidden,
    HubClosed,
    InvalidMessage,
    InvalidRequest,
    Lagged,
    LogUnavailable,
    RunStopped,
    StreamingError,
    TooLarge,
    TooManyClients,
    TooManyRuns,
    TooMuch,
    UnknownRun,
)
from .hub.generation import Generation, current_run
from .hub.parts import Answer, Part
from .hub.subscription import Subscription
from .identity import Identity
from .logs import Member
from .message import Gap, Message
from .web.chat import chat
from .web.extension import Streaming
from .web.openai import openai_api
from .web.publisher import Publisher
from .web.runs import Run
from .web.sock import Sock
from .web.stream import stream
from .web.ui_messages import ui_messages_api
from .web.worker import drain_worker, watch_worker

__version__ = "0.1.0"

__all__ = [
    # channels
    "Streaming",
    "Publisher",
    "Message",
    "Gap",
    "Member",
    "Identity",
    "Subscription",
    # answers
    "stream",
    "SSE",
    "NDJSON",
    # answers that survive
    "Run",
    "Part",
    "Answer",
    "current_run",
    "Generation",
    "openai_api",
    "ui_messages_api",
    # WebSockets
    "Sock",
    "Connection",
    "Take",
    "chat",
    # gunicorn.conf.py
    "watch_worker",
    "drain_worker",
    # what is raised
    "StreamingError",
    "ConfigurationError",
    "InvalidMessage",
    "InvalidRequest",
    "TooLarge",
    "Forbidden",
    "ChannelEnded",
    "UnknownRun",
    "TooManyRuns",
    "RunStopped",
    "LogUnavailable",
    "HubClosed",
    "TooManyClients",
    "TooMuch",
    "Lagged",
    "ConnectionClosed",
]
