"""streaming/web/ui_messages.py: what useChat asks, and resumes. Its own client is in tests/live."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from flask import Flask

from streaming import Streaming, ui_messages_api
from streaming.hub.making import PREFIX
from tests.hub.test_runs import Gate
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, serve

STREAM = "/api/chat/c1/stream"


class Chats:
    """An application whose answers come through the gate."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.at_stop: Callable[[], object] = lambda: None
        """Called while it is asked who may stop an answer."""
        self.app = Flask("chats")
        Streaming(self.app, authorize=self.allow)
        self.app.register_blueprint(ui_messages_api(self.answer), url_prefix="/api/chat")

    def answer(self, messages: list[Any], options: dict[str, Any]) -> Iterator[str]:
        yield from self.gate

    def allow(self, action: str, channel: str) -> bool:
        if action == "stop":
            self.at_stop()
        return True


@pytest.fixture
def chats() -> Chats:
    return Chats()


@pytest.fixture
def site(chats: Chats) -> Iterator[Site]:
    with serve(chats.app) as site:
        yield site
        wait_until(lambda: site.state.runs.making.made == {}, "nothing is made any more")


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, timeout=PATIENCE) as client:
        yield client


def ask(client: httpx.Client, key: str | None = None) -> AbstractContextManager[httpx.Response]:
    turns = [{"role": "user", "content": "why?"}]
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.stream("POST", "/api/chat", json={"id": "c1", "messages": turns}, headers=headers)


def forget(site: Site) -> None:
    """Let the only answer there is be forgotten, once it is over."""
    wait_until(lambda: site.state.runs.making.made == {}, "it is over")
    (channel,) = site.state.hub.log.channels(PREFIX)
    assert site.state.hub.prune(channel)


def test_a_chat_whose_last_answer_is_no_longer_kept_has_none_to_resume_or_stop(
    chats: Chats, site: Site, client: httpx.Client
) -> None:
    chats.gate.give("because", "the end")
    with ask(client) as answer:
        assert "because" in "".join(answer.iter_text())
    assert [client.get(STREAM).status_code, client.delete(STREAM).status_code] == [204, 204]
    forget(site)
    assert [client.get(STREAM).status_code, client.delete(STREAM).status_code] == [204, 204]


def test_an_answer_that_is_over_and_forgotten_while_it_is_stopped_needs_no_stop(
    chats: Chats, site: Site, client: httpx.Client
) -> None:
    def end_and_forget() -> None:
        chats.gate.give("the end")
        forget(site)

    chats.at_stop = end_and_forget
    chats.gate.give("because")
    with ask(client) as answer:
        assert client.delete(STREAM).status_code == 204
        assert "[DONE]" in "".join(answer.iter_text())


def test_a_question_that_is_asked_again_does_not_hide_the_answer_to_the_next(
    chats: Chats, site: Site, client: httpx.Client
) -> None:
    chats.gate.give("because", "the end")
    with ask(client, "one") as answer:
        first = "".join(answer.iter_text())
    chats.gate.give("so")
    with ask(client, "two") as answer:
        with ask(client, "one") as late:
            assert "".join(late.iter_text()) == first
        with client.stream("GET", STREAM) as resumed:
            assert resumed.status_code == 200
            chats.gate.give("the end")
            assert "".join(resumed.iter_text()) == "".join(answer.iter_text())
