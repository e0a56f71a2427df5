"""Heads of requests, and how gunicorn's own parser reads them."""

from typing import Any

from gunicorn.config import Config
from gunicorn.http import get_parser

BROWSER = (
    b"GET /events?channel=news&x=%20y HTTP/1.1\r\n"
    b"Host: example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/event-stream\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Connection: keep-alive\r\n"
    b"Cookie: session=abcdef0123456789; theme=dark\r\n"
    b"\r\n"
)
PEER = ("127.0.0.1", 40000)


def configured(**settings: Any) -> Config:
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    return cfg


class Said:
    """A connection on which all has been said already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, size: int) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return piece


def read_by_gunicorn(cfg: Config, data: bytes, peer: Any = PEER) -> Any:
    """The request as gunicorn's parser makes it; raises what it raises."""
    return next(get_parser(cfg, Said(data), peer))
