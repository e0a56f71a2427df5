"""streaming/hub/backlog.py: what waits for the log, as few messages."""

import random

from streaming.hub.backlog import Backlog


def drain(backlog: Backlog) -> list[tuple[str, str]]:
    found = []
    while (item := backlog.first(again=False)) is not None:
        found.append(item)
        backlog.pop()
    assert backlog.size == 0
    return found


def test_pieces_in_a_row_are_one_message_and_others_are_not() -> None:
    backlog = Backlog(100)
    for event, text, merges in [
        ("text", "a", True),
        ("text", "b", True),
        ("data", "1", False),
        ("data", "2", False),
        ("text", "c", True),
        ("reasoning", "d", True),
        ("end", "{}", False),
    ]:
        backlog.put(event, text, merges=merges)
    assert drain(backlog) == [
        ("text", "ab"),
        ("data", "1"),
        ("data", "2"),
        ("text", "c"),
        ("reasoning", "d"),
        ("end", "{}"),
    ]


def test_what_is_tried_again_is_the_same_whatever_came_meanwhile() -> None:
    backlog = Backlog(100)
    backlog.put("text", "a", merges=True)
    assert backlog.first(again=False) == ("text", "a")
    backlog.put("text", "b", merges=True)
    assert backlog.first(again=True) == ("text", "a")
    backlog.pop()
    assert drain(backlog) == [("text", "b")]


def test_a_long_text_is_cut_and_a_long_message_is_not() -> None:
    backlog = Backlog(3)
    backlog.put("text", "你好😀abcde", merges=True)
    assert backlog.size == 15
    backlog.put("data", "123456", merges=False)
    assert drain(backlog) == [
        ("text", "你好😀"),
        ("text", "abc"),
        ("text", "de"),
        ("data", "123456"),
    ]


def test_any_mixture_of_puts_and_tries_loses_and_doubles_nothing() -> None:
    for seed in range(200):
        chance, backlog = random.Random(seed), Backlog(5)
        put, got, again = "", "", False
        for n in range(60):
            if chance.random() < 0.5:
                text = f"{n} " * chance.randrange(1, 4)
                put += text
                backlog.put("text", text, merges=True)
            elif (item := backlog.first(again=again)) is not None:
                again = chance.random() < 0.5  # it failed
                if not again:
                    got += item[1]
                    backlog.pop()
        got += "".join(text for _, text in drain(backlog))
        assert got == put


def test_what_is_cleared_is_gone() -> None:
    backlog = Backlog(5)
    backlog.put("text", "a", merges=True)
    backlog.clear()
    assert drain(backlog) == []
