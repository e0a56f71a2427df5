"""streaming/clients/opening.py: a handshake is answered once, or left to the server."""

import threading

import pytest

from streaming import HubClosed
from streaming.clients.opening import Opening, Reply
from tests.polling import PATIENCE


def test_a_handshake_is_answered_once_and_can_then_not_be_refused() -> None:
    said: list[str] = []
    opening = Opening(lambda: said.append("101"))
    assert opening.phase is Reply.WAITING
    assert opening.open()
    assert opening.open()
    assert not opening.refuse()
    assert (said, opening.phase) == (["101"], Reply.OPEN)


def test_what_is_refused_is_never_answered() -> None:
    said: list[str] = []
    opening = Opening(lambda: said.append("101"))
    assert opening.refuse()
    assert opening.refuse()
    assert not opening.open()
    assert (said, opening.phase) == ([], Reply.REFUSED)


def test_an_answer_that_fails_has_refused() -> None:
    def fail() -> None:
        raise HubClosed

    opening = Opening(fail)
    with pytest.raises(HubClosed):
        opening.open()
    assert not opening.open()
    assert opening.refuse()


def test_who_refuses_while_another_answers_waits_and_comes_too_late() -> None:
    begun, go_on, said = threading.Event(), threading.Event(), list[object]()

    def answer() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        said.append("101")

    opening = Opening(answer)
    threads = [threading.Thread(target=opening.open)]
    threads[0].start()
    assert begun.wait(PATIENCE)
    threads.append(threading.Thread(target=lambda: said.append(opening.refuse())))
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert said == ["101", False]
