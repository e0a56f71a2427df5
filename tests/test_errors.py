"""streaming/errors.py: the tree, and what the transports read off it."""

import json
from http import HTTPStatus

import pytest

from streaming import errors
from streaming.errors import HandshakeError, ProtocolError, StreamingError

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, StreamingError)
]

TRANSLATIONS = {
    "StreamingError": (500, 1011),
    "ConfigurationError": (500, 1011),
    "InvalidMessage": (400, 1008),
    "InvalidRequest": (400, 1008),
    "InvalidCursor": (400, 1008),
    "Forbidden": (403, 1008),
    "InvalidTicket": (401, 1008),
    "UnsupportedMediaType": (415, 1003),
    "TooLarge": (413, 1009),
    "TooSlow": (408, 1008),
    "HandshakeError": (400, 1002),
    "ProtocolError": (400, 1002),
    "LogUnavailable": (503, 1013),
    "TooManyClients": (503, 1013),
    "TooManyRuns": (503, 1013),
    "TooMuch": (429, 1013),
    "UnknownRun": (404, 1008),
    "RunStopped": (409, 1011),
    "StreamEnded": (410, 1000),
    "ChannelEnded": (409, 1008),
    "Lagged": (503, 1013),
    "HubClosed": (503, 1012),
    "Recalled": (503, 1012),
    "Revoked": (403, 1008),
    "ProducerFailed": (500, 1011),
    "ClientGone": (500, 1006),
}


def test_every_class_has_the_status_and_the_close_code_of_its_kind() -> None:
    assert {c.__name__: (c("why").status, c("why").close_code) for c in CLASSES} == TRANSLATIONS


@pytest.mark.parametrize("kind", CLASSES)
def test_every_status_and_close_code_exists(kind: type[StreamingError]) -> None:
    assert HTTPStatus(kind("why").status) >= 400
    assert 1000 <= kind("why").close_code <= 1013


@pytest.mark.parametrize("kind", CLASSES)
def test_a_problem_says_what_happened_in_plain_json(kind: type[StreamingError]) -> None:
    error = kind("Something broke; mend it.")
    problem = error.problem()
    assert json.loads(json.dumps(problem)) == {
        "type": "about:blank",
        "title": kind.title,
        "status": kind("why").status,
        "detail": error.told,
    }
    assert kind.title
    is_for_operators = isinstance(error, errors.LogUnavailable)
    assert (error.told == "Something broke; mend it.") != is_for_operators


def test_a_mistake_of_the_application_is_not_told_and_is_nobody_elses() -> None:
    error = errors.InvalidMessage("'my secret channel' is not a channel name.")
    error.blame_application()
    assert (error.status, error.close_code) == (500, 1011)
    assert error.problem()["status"] == 500
    assert "secret" not in error.told
    assert "secret" in str(error)
    assert errors.InvalidMessage("another").status == 400


def test_a_long_detail_is_cut_for_clients_and_whole_for_the_log() -> None:
    error = errors.InvalidRequest("x" * 1_000_000)
    assert len(error.told) == errors.LONGEST
    assert error.told.endswith("…")
    assert len(str(error)) == 1_000_000


@pytest.mark.parametrize("kind", CLASSES)
def test_whoever_is_asked_to_come_back_is_told_when(kind: type[StreamingError]) -> None:
    error = kind("why")
    if error.status in (429, 503) and not isinstance(error, errors.Lagged):
        assert int(error.headers["Retry-After"]) > 0
    else:
        assert "Retry-After" not in error.headers


def test_a_handshake_without_an_upgrade_is_told_how_to_upgrade() -> None:
    assert HandshakeError("no upgrade", status=426).headers == {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
    }
    assert HandshakeError("no upgrade", status=426).problem()["status"] == 426
    assert HandshakeError("bad key").headers == {}


def test_the_instance_of_a_protocol_error_knows_its_close_code() -> None:
    assert ProtocolError("not UTF-8", 1007).close_code == 1007
    assert ProtocolError("bad opcode").close_code == 1002


def test_an_unreadable_cursor_is_caught_as_a_bad_request() -> None:
    with pytest.raises(errors.InvalidRequest):
        raise errors.InvalidCursor("what is this")
