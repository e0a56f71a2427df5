"""Real-time streaming for Flask: SSE, fetch streaming and WebSocket on one log per channel.

A session of use::

    app = Flask(__name__)
    streaming = Streaming(app)                      # GET /streaming/events?channel=news

    @app.post("/news")
    def news():
        message = streaming.publish("news", request.get_data(as_text=True))
        return str(message.id), 201

The road of every message, the publisher's own included:

1. ``hub.Hub.publish`` checks it and appends it to the log, which makes its id (``logs``).
2. The log tells the dispatcher which channel got something (``hub.dispatcher``).
3. The dispatcher reads it, moves on, and has it written to all at the head (``hub.fanout``);
   subscribers that lag are rung, and read it themselves (``hub.subscription``).
4. It becomes bytes once for each format (``clients.formats``, ``wire``).
5. The bytes go to each client's socket, by whoever may write to it now (``clients.outlet``).
"""

from .bell import Bell as Bell
from .clients.closed import ConnectionClosed as ConnectionClosed
from .clients.formats import NDJSON as NDJSON
from .clients.formats import SSE as SSE
from .clients.life import Take as Take
from .clients.registry import Registry as Registry
from .clients.websocket import Connection as Connection
from .errors import ClientGone as ClientGone
from .errors import ConfigurationError as ConfigurationError
from .errors import Forbidden as Forbidden
from .errors import HandshakeError as HandshakeError
from .errors import HubClosed as HubClosed
from .errors import InvalidCursor as InvalidCursor
from .errors import InvalidMessage as InvalidMessage
from .errors import InvalidRequest as InvalidRequest
from .errors import Lagged as Lagged
from .errors import LogUnavailable as LogUnavailable
from .errors import ProtocolError as ProtocolError
from .errors import StreamingError as StreamingError
from .errors import TooLarge as TooLarge
from .errors import TooManyClients as TooManyClients
from .errors import TooSlow as TooSlow
from .errors import UnsupportedMediaType as UnsupportedMediaType
from .hub.generation import current_run as current_run
from .hub.hub import Hub as Hub
from .hub.parts import Answer as Answer
from .hub.parts import Part as Part
from .hub.presence import Presence as Presence
from .hub.presence import presence_channel as presence_channel
from .hub.subscription import Subscription as Subscription
from .logs import Member as Member
from .logs import MemoryLog as MemoryLog
from .logs import Retention as Retention
from .logs import SqliteLog as SqliteLog
from .logs import open_log as open_log
from .message import Cursor as Cursor
from .message import Gap as Gap
from .message import Message as Message
from .message import Position as Position
from .settings import Settings as Settings
from .web.chat import chat as chat
from .web.extension import Streaming as Streaming
from .web.openai import openai_api as openai_api
from .web.origin import allow_origin as allow_origin
from .web.protocol import PROTOCOL as PROTOCOL
from .web.protocol import converse as converse
from .web.publisher import Publisher as Publisher
from .web.requests import read_json as read_json
from .web.requests import read_text as read_text
from .web.routes import not_a_websocket as not_a_websocket
from .web.runs import Run as Run
from .web.sock import Sock as Sock
from .web.state import State as State
from .web.state import current_state as current_state
from .web.stream import stream as stream
from .web.ui_messages import ui_messages_api as ui_messages_api
from .web.worker import drain_worker as drain_worker
from .web.worker import watch_worker as watch_worker
