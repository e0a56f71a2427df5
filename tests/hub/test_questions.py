"""streaming/hub/questions.py: what all processes of a log are asked."""

import json
from dataclasses import asdict

import pytest

from streaming.hub.hub import Hub
from streaming.hub.orders import Order, given_since, order_of
from streaming.hub.questions import PAGE, Question, reply
from streaming.logs import MemoryLog
from streaming.message import Message


def test_a_question_is_read_as_it_was_asked_and_is_no_order() -> None:
    asked = Question("ada", "news", 7)
    assert Question.parse(asked.text()) == asked
    assert Order.parse(asked.text()) is None
    assert Question.parse(order_of("ada", None, None).text()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"reply": "news"},
        {"reply": "streaming:orders"},
        {"reply": 7},
        {"limit": 0},
        {"limit": 10**9},
        {"limit": "7"},
        {"identity": 7},
        {"channel": ["news"]},
        {"new": "in another version"},
    ],
)
def test_what_no_version_asks_is_passed_over(wrong: dict[str, object]) -> None:
    assert Question.parse(json.dumps({"question": asdict(Question()) | wrong})) is None


@pytest.mark.parametrize("text", ["", "[]", "7", '{"question": 7}', "[" * 100_000])
def test_what_is_no_question_is_passed_over(text: str) -> None:
    assert Question.parse(text) is None


def test_orders_are_found_between_questions() -> None:
    hub = Hub(MemoryLog())
    place = hub.log.tail("streaming:orders")
    for text in (Question().text(), order_of("ada", None, None).text(), Question().text()):
        hub.publish("streaming:orders", text)
    assert [order.identity for order in given_since(hub, place)[0]] == ["ada"]
    hub.close()


@pytest.mark.parametrize(("count", "messages"), [(0, 1), (PAGE, 1), (PAGE + 1, 2)])
def test_an_answer_comes_in_pages_and_also_if_there_is_nobody(count: int, messages: int) -> None:
    hub, question = Hub(MemoryLog()), Question()
    reply(hub, question, count + 5, [{"id": n} for n in range(count)])
    with hub.subscribe(question.reply, history=100) as answers:
        said = [json.loads(item.data) for item in answers.take(0) if isinstance(item, Message)]
    assert len(said) == messages
    assert {page["total"] for page in said} == {count + 5}
    assert [one["id"] for page in said for one in page["clients"]] == list(range(count))
    hub.close()
