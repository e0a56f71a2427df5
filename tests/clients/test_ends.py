"""streaming/clients/ends.py: one line of the server's log for each connection, at its end."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from streaming.clients.client import Client, Traffic
from streaming.clients.closed import ConnectionClosed
from streaming.clients.ends import note_end
from streaming.clients.registry import Registry
from streaming.errors import ClientGone, StreamEnded, StreamingError
from streaming.identity import Identity
from streaming.settings import Settings
from tests.polling import wait_until
from tests.sites import make_app, serve

LOGGER = "streaming.connections"

FIELDS = (
    *("client", "identity", "peer", "transport", "seconds", "reason", "close_code", "detail"),
    *("sent_messages", "sent_bytes", "received_messages", "received_bytes"),
)


class Leaving(Client):
    transport = "websocket"

    @property
    def traffic(self) -> Traffic:
        return Traffic(4, 40, 2, 20)


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    handler, logger = Kept(), logging.getLogger(LOGGER)
    logger.addHandler(handler)
    with caplog.at_level(logging.INFO, LOGGER):
        yield handler.records
    logger.removeHandler(handler)


def left(reason: StreamingError | str, records: list[logging.LogRecord]) -> tuple[str, Any]:
    """The line of a client that ended for this, and its fields."""
    registry = Registry()
    client = Leaving(registry.deadlines, Settings(heartbeat=None, send_timeout=None), "192.0.2.1")
    client.identity = Identity("ann", "Ann")
    registry.add(client)
    registry.remove(client, reason)
    registry.remove(client, "again")
    (record,) = records
    return record.getMessage(), {name: getattr(record, name) for name in FIELDS}


def test_a_connection_that_ends_is_one_line_that_programs_can_read_too(
    records: list[logging.LogRecord],
) -> None:
    line, fields = left(ClientGone("No pong within 15 s."), records)
    id, seconds = fields.pop("client"), fields.pop("seconds")
    assert line == (
        f"websocket {id} of 'ann' from 192.0.2.1 ended after {seconds:.3f} s, client_gone: "
        "No pong within 15 s. (sent 4 messages, 40 bytes; received 2 messages, 20 bytes)"
    )
    assert fields == {
        **{"identity": "ann", "peer": "192.0.2.1", "transport": "websocket"},
        **{"reason": "client_gone", "close_code": 1006, "detail": "No pong within 15 s."},
        **{"sent_messages": 4, "sent_bytes": 40, "received_messages": 2, "received_bytes": 20},
    }


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (ConnectionClosed(1000, "token\n2026 ERROR forged"), "Connection closed (1000)"),
        (StreamEnded("Channel 'run:token' has ended."), "The end (1000)"),
    ],
)
def test_what_a_client_said_or_a_channel_is_called_is_not_in_it(
    reason: StreamingError, said: str, records: list[logging.LogRecord]
) -> None:
    line, fields = left(reason, records)
    assert f": {said} (sent" in line
    assert "token" not in f"{line} {fields}"


def test_where_nobody_reads_it_nothing_is_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        note_end(None, "left", "")  # type: ignore[arg-type]
    assert not caplog.records


def test_a_stream_of_a_real_server_says_what_it_was_sent(records: list[logging.LogRecord]) -> None:
    with serve(make_app()) as site:
        with site.get("/streaming/events?channel=token") as client:
            assert client.next_event() is not None
            site.state.hub.publish("token", "12345")
            assert client.next_event() is not None
        site.wait_empty()
    wait_until(lambda: records, "it is said")
    (record,) = records
    assert (record.transport, record.reason) == ("sse", "client_gone")  # type: ignore[attr-defined]
    assert (record.sent_messages, record.sent_bytes) == (1, 5)  # type: ignore[attr-defined]
    assert "token" not in record.getMessage()


def test_a_line_that_the_applications_logging_refuses_does_not_hold_up_the_end(
    records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = logging.getLogRecordFactory()

    def make_with_client(*args: Any, **options: Any) -> logging.LogRecord:
        record = make(*args, **options)
        record.client = "of the application"
        return record

    monkeypatch.setattr(logging, "_logRecordFactory", make_with_client)
    registry = Registry()
    client = Leaving(registry.deadlines, Settings(heartbeat=None, send_timeout=None), "192.0.2.1")
    registry.add(client)
    registry.remove(client, ClientGone("The client left."))
    (record,) = records
    assert "ended after" in record.getMessage()
    assert vars(record)["client"] == "of the application"
