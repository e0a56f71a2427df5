"""streaming/wire/handshake.py: RFC 6455 section 4.2."""

import pytest
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from streaming.errors import HandshakeError
from streaming.wire import handshake

GOOD = {
    "Host": "example.org",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def check(**changes: str | None) -> str:
    headers = dict(GOOD)
    for name, value in changes.items():
        header = name.replace("_", "-")
        headers = {k: v for k, v in headers.items() if k.lower() != header.lower()}
        if value is not None:
            headers[header] = value
    return handshake.check_handshake("GET", "HTTP/1.1", headers)


def test_the_example_of_the_rfc_is_accepted() -> None:
    assert handshake.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == ACCEPT
    assert check() == ACCEPT


def test_another_librarys_client_accepts_the_answer() -> None:
    client = ClientProtocol(parse_uri("ws://example.org/chat"))
    request = client.connect()
    accept = handshake.check_handshake("GET", "1.1", dict(request.headers.raw_items()))
    assert accept == handshake.accept_key(client.key)


@pytest.mark.parametrize(
    "changes",
    [
        {"UPGRADE": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"connection": "keep-alive, Upgrade"},
        {"Connection": "keep-alive ,\tUPGRADE"},
        {"sec_websocket_version": " 13 "},
    ],
)
def test_case_and_lists_do_not_matter(changes: dict[str, str]) -> None:
    assert check(**changes) == ACCEPT


@pytest.mark.parametrize(
    "changes", [{"Content-Length": "5"}, {"content_length": "x"}, {"Transfer_Encoding": "chunked"}]
)
def test_a_body_is_refused(changes: dict[str, str]) -> None:
    """Its bytes would be taken for frames."""
    with pytest.raises(HandshakeError, match="no body") as caught:
        check(**changes)
    assert caught.value.status == 400
    assert check(Content_Length="0") == ACCEPT


@pytest.mark.parametrize("version", ["HTTP/1.1", "1.1", "HTTP/2", "HTTP/2.0", "HTTP/1.10"])
def test_http_1_1_or_higher_will_do(version: str) -> None:
    assert handshake.check_handshake("GET", version, GOOD) == ACCEPT


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/0.9", "1.0", "", "HTTP/", "rubbish", "-1.1"])
def test_an_older_or_unreadable_http_version_is_refused(version: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        handshake.check_handshake("GET", version, GOOD)
    assert caught.value.status == 400


@pytest.mark.parametrize("method", ["POST", "HEAD", "get", "CONNECT", ""])
def test_another_method_is_refused(method: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        handshake.check_handshake(method, "HTTP/1.1", GOOD)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": None},
        {"Upgrade": ""},
        {"Upgrade": "h2c"},
        {"Upgrade": "websockets"},
        {"Connection": None},
        {"Connection": "keep-alive"},
        {"Connection": "close, upgraded"},
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ"},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==="},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25j"},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZSE="},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZS-ub25jZQ=="},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="},
        {"Sec_WebSocket_Key": "é" * 24},
    ],
)
def test_a_missing_or_malformed_header_is_refused_with_400(changes: dict[str, str | None]) -> None:
    with pytest.raises(HandshakeError) as caught:
        check(**changes)
    assert caught.value.status == 400


@pytest.mark.parametrize("version", [None, "", "8", "12", "14", "013", "13, 13", "thirteen"])
def test_another_websocket_version_is_answered_with_426_and_ours(version: str | None) -> None:
    with pytest.raises(HandshakeError) as caught:
        check(Sec_WebSocket_Version=version)
    assert caught.value.status == 426
    assert caught.value.headers["Sec-WebSocket-Version"] == "13"


def test_the_first_offered_subprotocol_that_is_supported_is_chosen() -> None:
    supported = ["streaming.v1.json", "streaming.v2.json"]
    choose = handshake.choose_subprotocol
    assert choose("chat, streaming.v2.json ,streaming.v1.json", supported) == "streaming.v2.json"
    assert choose("Streaming.V1.JSON", supported) is None
    assert choose("", ["", "a"]) is None
    assert choose(None, supported) is None
    assert choose("a,b", []) is None
