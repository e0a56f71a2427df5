"""``flask streaming bench``: what is delivered, lost and doubled is what it says."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streaming.web.cli.bench.follower import Refused, _Chunks
from streaming.web.cli.bench.score import Score, Sheet, quantile
from tests.middleware import Wsgi
from tests.sites import make_app, serve
from tests.web.cli.terminal import Terminal, terminal

SMALL = ["--connections", "6", "--channels", "3", "--each", "2", "--rate", "40", "--seconds", "2"]


def bench(shell: Terminal, url: str, *args: str) -> Any:
    result = shell.call("bench", "--url", url, *SMALL, "--json", *args)
    return result.exit_code, json.loads(result.stdout.splitlines()[-1]) if result.stdout else {}


def changing(change: Callable[[bytes], bytes]) -> Callable[[Wsgi], Wsgi]:
    """Middleware that makes something else of the fourth message of the first channel."""

    def wrap(app: Wsgi) -> Wsgi:
        def wrapped(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
            pieces = app(environ, lambda *how: start_response(*how))
            try:
                for piece in pieces:
                    blocks = re.split(rb"(?<=\n\n)", piece)
                    yield b"".join(change(one) if b":0 3 " in one else one for one in blocks)
            finally:
                getattr(pieces, "close", lambda: None)()

        return wrapped

    return wrap


def test_clients_that_are_cut_get_every_message_once(tmp_path: Path) -> None:
    with terminal(log=f"sqlite:///{tmp_path}/log.db") as shell, serve(shell.app) as site:
        status, said = bench(shell, site.url, "--cut", "0.5")
        assert (status, said["lost"], said["doubled"], said["gaps"]) == (0, 0, 0, 0)
        assert said["delivered"] == 4 * said["published"]  # each channel has four followers
        assert said["cuts"] > 6
        assert said["replay_p50_ms"] is not None
        shown = shell.call("bench", "--url", site.url, *SMALL)
        assert "lost            0\n" in shown.stdout


@pytest.mark.parametrize(
    ("change", "what"), [(lambda block: b"", "lost"), (lambda block: block * 2, "doubled")]
)
def test_what_is_lost_or_doubled_on_the_way_is_found(
    change: Callable[[bytes], bytes], what: str, tmp_path: Path
) -> None:
    app = make_app(log=f"sqlite:///{tmp_path}/log.db")
    with terminal(app) as shell, serve(app, wrap=changing(change)) as site:
        status, said = bench(shell, site.url)
        assert status == 1
        assert said[what] == 4


def test_what_cannot_be_followed_is_said_with_why(tmp_path: Path) -> None:
    with (
        terminal(log=f"sqlite:///{tmp_path}/log.db") as shell,
        serve(make_app(authorize=lambda *_: False)) as site,
    ):
        refused = shell.call("bench", "--url", site.url, *SMALL)
        assert refused.exit_code == 1
        assert "403 FORBIDDEN" in refused.output
        assert "STREAMING_PUBLIC = ['bench:*']" in refused.output
        assert shell.call("bench", "--url", site.url, "--each", "20").exit_code == 2
        assert shell.call("bench", "--url", "example.org").exit_code == 2
    assert "refused" in shell.call("bench", "--url", "http://127.0.0.1:1", *SMALL).output


def test_a_sheet_tells_what_is_lost_from_what_is_doubled() -> None:
    score = Score()
    sheet = Sheet(["a", "b"], score)
    for number in (0, 1, 1, 4, 2):
        sheet.note("a", number)
    assert score.counts == {"delivered": 3, "doubled": 2, "lost": 2}
    assert not sheet.has({"a": 5, "b": 1})
    assert sheet.has({"a": 5, "b": 0})
    sheet.close({"a": 6, "b": 3})
    assert score.counts["lost"] == 2 + 1 + 3


def test_quantiles_are_values_that_were_there() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([float(n) for n in range(200)], 0.99) == 198.0


WHOLE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", range(1, len(WHOLE) + 1))
def test_an_answer_is_read_the_same_however_it_comes(size: int) -> None:
    chunks = _Chunks()
    parts = [WHOLE[at : at + size] for at in range(0, len(WHOLE), size)]
    assert b"".join(body for part in parts for body in chunks.feed(part)) == b"abcde"


def test_a_refusal_is_read_with_its_reason() -> None:
    with pytest.raises(Refused, match=r"HTTP/1.1 503 Busy"):
        list(_Chunks().feed(b"HTTP/1.1 503 Busy\r\n\r\nfull"))
