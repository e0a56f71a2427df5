"""streaming/web/server/worker.py: when it leaves all to gunicorn. The rest is in tests/live."""

from typing import Any

import pytest

from streaming.web.server.worker import is_plain
from tests.web.server.heads import configured


@pytest.mark.parametrize("settings", [{}, {"keepalive": 0}, {"workers": 4}, {"sendfile": False}])
def test_what_is_usual_is_plain(settings: dict[str, Any]) -> None:
    assert is_plain(configured(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"certfile": "cert.pem", "keyfile": "key.pem"},
        {"proxy_protocol": "v1"},
        {"proxy_protocol": "auto"},
        {"protocol": "uwsgi"},
        {"http2_cleartext": "upgrade"},
        {"http2_cleartext": "prior-knowledge"},
    ],
)
def test_what_is_rare_is_gunicorns(settings: dict[str, Any]) -> None:
    assert not is_plain(configured(**settings))
