"""streaming/clients/unfinished.py: what all messages hold together that have begun to arrive."""

from contextlib import ExitStack

import pytest

from streaming import Sock
from streaming.clients import inlet
from streaming.clients.inlet import Inlet
from streaming.clients.line import Line
from streaming.clients.unfinished import Holding, Unfinished
from streaming.own import Own
from tests.live.raw_websocket import CONTINUATION, TEXT, RawWebSocket
from tests.polling import wait_until
from tests.sites import make_app, serve
from tests.sockets import tcp_pair


class Sender:
    def __init__(self) -> None:
        self.is_given_up = False

    def give_up(self) -> None:
        self.is_given_up = True


def test_where_it_is_too_much_those_give_up_whose_message_began_first() -> None:
    unfinished, senders = Unfinished(100), [Sender() for _ in range(4)]
    for sender in senders[:3]:
        unfinished.note(sender, 30)
    unfinished.note(senders[0], 40)  # a little more of it: it has begun first all the same
    assert not any(sender.is_given_up for sender in senders)
    unfinished.note(senders[3], 50)
    assert [sender.is_given_up for sender in senders] == [True, True, False, False]
    assert (unfinished.size, len(unfinished)) == (80, 2)
    unfinished.note(senders[2], 0)
    unfinished.note(senders[2], 60)  # another one
    assert senders[3].is_given_up
    assert not senders[2].is_given_up
    unfinished.note(senders[2], 0)
    unfinished.note(senders[2], 0)
    assert (unfinished.size, len(unfinished)) == (0, 0)


def test_one_that_is_too_much_by_itself_gives_up() -> None:
    unfinished, sender = Unfinished(100), Sender()
    unfinished.note(sender, 101)
    assert sender.is_given_up
    assert (unfinished.size, len(unfinished)) == (0, 0)


def test_who_is_closed_while_a_message_begins_to_arrive_holds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may close the connection: ``ws.close()``."""

    class Interrupted(Unfinished):
        def note(self, who: Holding, size: int) -> None:
            if size:
                there.close()
            super().note(who, size)

    unfinished = Interrupted()
    monkeypatch.setattr(inlet, "unfinished", Own(lambda: unfinished))
    with tcp_pair() as (server, _):
        line = Line(server, "c", ping=b"", may=False, end=lambda reason: None)
        there = Inlet(line, 1000, decompress=None)
        there.feed(bytes([TEXT, 0x80 | 3, *bytes(4)]) + b"abc")  # no FIN, masked with zeros
        assert there.next() is None
    assert (unfinished.size, len(unfinished)) == (0, 0)


def test_a_websocket_that_leaves_its_message_unfinished_makes_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unfinished = Unfinished(100_000)
    monkeypatch.setattr(inlet, "unfinished", Own(lambda: unfinished))
    app = make_app()
    Sock(app).route("/echo")(lambda ws: ws.send)
    with serve(app) as site, ExitStack() as all_of_them:

        def connect() -> RawWebSocket:
            return all_of_them.enter_context(RawWebSocket(site, "/echo", subprotocol=None))  # type: ignore[arg-type]

        slow, quick, left = connect(), connect(), connect()
        slow.send(TEXT, b"x" * 60_000, first_bits=0)
        wait_until(lambda: unfinished.size == 60_000, "it is held")
        left.send(TEXT, b"x" * 10_000, first_bits=0)
        wait_until(lambda: unfinished.size == 70_000, "it is held, too")
        left.close()
        wait_until(lambda: unfinished.size == 60_000, "who has left holds nothing")
        quick.send(TEXT, b"y" * 50_000, first_bits=0)
        assert slow.read_close().close_code == 1013
        quick.send(CONTINUATION, b"y")
        assert quick.read_text() == "y" * 50_001
        wait_until(lambda: (unfinished.size, len(unfinished)) == (0, 0), "nothing is held")
