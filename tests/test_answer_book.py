"""The answer book finds its own answers, stays calm for any input and breaks no character."""

import json
import random
import re
import sys
import time
from pathlib import Path

import pytest

from demo import answer_book
from demo.answer_book import find_answer, pieces, questions

LANGUAGES = ("en", "zh")
FILES = {
    language: json.loads(
        Path(answer_book.__file__).with_name(f"answers.{language}.json").read_text("utf-8")
    )
    for language in LANGUAGES
}
ENTRIES = [
    pytest.param(language, entry, id=f"{language}-{entry['id']}")
    for language in LANGUAGES
    for entry in FILES[language]["entries"]
]
TEXTS = [entry["answer"] for file in FILES.values() for entry in file["entries"]]
TEXTS += [file["fallback"] for file in FILES.values()]


def id_of(answer: str) -> str:
    for file in FILES.values():
        for entry in file["entries"]:
            if entry["answer"] == answer:
                return str(entry["id"])
    return "fallback"


@pytest.mark.parametrize(("language", "entry"), ENTRIES)
def test_every_entry_answers_its_own_question(language: str, entry: dict[str, str]) -> None:
    assert find_answer(entry["question"], language) == entry["answer"]
    assert find_answer(entry["question"]) == entry["answer"]
    assert find_answer(entry["question"].upper()) == entry["answer"]


@pytest.mark.parametrize(("language", "entry"), ENTRIES)
def test_every_answer_is_short_and_reads_well_as_text_too(
    language: str, entry: dict[str, str]
) -> None:
    answer = entry["answer"]
    said = re.sub("```.*?```", "", answer, flags=re.DOTALL)
    if language == "en":
        assert 60 <= len(said.split()) <= 170
    else:
        assert 120 <= len(said) <= 340
    assert answer == answer.strip()
    assert not any(mark in said for mark in ("](", "<", "\r", "\t", "```"))
    assert not any(line.startswith(("#", "-", " ", "|")) for line in said.split("\n"))


@pytest.mark.parametrize(("language", "entry"), ENTRIES)
def test_no_keyword_of_an_entry_is_empty_or_listed_twice(
    language: str, entry: dict[str, list[str]]
) -> None:
    terms = [answer_book._term(keyword) for keyword in entry["keywords"]]
    assert len(set(terms)) == len(terms) > 0
    assert all(weight > 0 for _, weight in terms)


def test_both_languages_have_the_same_entries_in_the_same_order() -> None:
    ids = [[entry["id"] for entry in FILES[language]["entries"]] for language in LANGUAGES]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0])


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("hello", "who"),
        ("Thanks!", "who"),
        ("Hi there, what is SSE?", "sse"),
        ("what's the difference between SSE and WebSocket", "choose"),
        ("SSE or WebSocket?", "choose"),
        ("Does WebSocket reconnect by itself?", "reconnect"),
        ("my server-sent events are buffered by a proxy", "nginx"),
        ("how can I stop streaming", "abort"),
        ("Why does the 7th of my tabs hang?", "six"),
        ("what happens to streams on deploy", "gunicorn"),
        ("how do I get started with Flask?", "flask"),
        ("Does it work with several workers?", "homes"),
        ("do messages survive a restart?", "homes"),
        ("who is online?", "chat"),
        ("\uff33\uff33\uff25?", "sse"),
        ("你好，什么是SSE？", "sse"),
        ("SSE 和 WebSocket 有什么区别", "choose"),
        ("断线之后怎么重连？", "reconnect"),
        ("websocket是什么", "websocket"),
        ("为什么消息一下子全部到达", "nginx"),
        ("怎么停止", "abort"),
        ("重启服务器的时候会怎样", "gunicorn"),
        ("支持 Redis 吗", "homes"),
        ("重启之后消息还在吗", "homes"),
        ("谁在线", "chat"),
        ("谢谢", "who"),
        ("What is the weather like?", "fallback"),
        ("今天天气怎么样", "fallback"),
    ],
)
def test_a_question_in_other_words_finds_the_fitting_entry(question: str, expected: str) -> None:
    assert id_of(find_answer(question)) == expected


def test_a_latin_keyword_is_found_as_a_whole_word_only() -> None:
    assert id_of(find_answer("assessment of hijacked chatter")) == "fallback"


@pytest.mark.parametrize(
    ("question", "language", "expected"),
    [
        ("gap", None, "en"),
        ("gap 呢", None, "zh"),
        ("what is a gap", "zh", "zh"),
        ("what is a gap", "zh-CN", "zh"),
        ("心跳", "en", "en"),
        ("心跳", "EN-gb", "en"),
        ("heartbeat", "fr", "en"),
        ("心跳", "", "zh"),
        ("心跳", "\0\ud800", "zh"),
    ],
)
def test_the_language_is_the_one_asked_for_or_else_that_of_the_question(
    question: str, language: str | None, expected: str
) -> None:
    known = {entry["answer"] for entry in FILES[expected]["entries"]}
    assert find_answer(question, language) in known


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_unknown_question_is_told_that_this_is_no_model_and_what_to_ask(language: str) -> None:
    answer = find_answer("zzz", language)
    assert ("not a language model" if language == "en" else "不是语言模型") in answer
    lines = [line.removeprefix("- ") for line in answer.split("\n")]
    suggested = [line for line in lines if line in questions(language)]
    assert len(suggested) >= 3
    assert all(id_of(find_answer(line, language)) != "fallback" for line in suggested)


def test_the_questions_are_offered_in_the_language_asked_for() -> None:
    assert questions("en") == [entry["question"] for entry in FILES["en"]["entries"]]
    assert questions("zh-TW") == [entry["question"] for entry in FILES["zh"]["entries"]]
    assert questions(None) == questions("xx") == questions("en")
    questions("en").clear()
    assert questions("en")


HOSTILE = [
    "",
    " \t\r\n\u2028\u3000",
    "\0" * 2_000,
    "\ud800\udc00\udfff" * 600,
    "\ufdfa" * 2_000,
    "e" + "\u0301\u0316" * 1_000,
    "👩\u200d" * 1_000,
    "({[*+?.\\^$|" * 180,
    "%s{0}{question}",
    "sse " * 500,
    "什么是" * 660,
    "\u202e\u2066<script>alert(1)</script>",
    "İıſß" * 500,
    "sse" * 100_000,
]


@pytest.mark.parametrize("question", HOSTILE, ids=range(len(HOSTILE)))
def test_no_string_makes_the_book_raise_or_dawdle(question: str) -> None:
    started = time.thread_time()
    answer = find_answer(question)
    assert "".join(pieces(question)) == question
    assert time.thread_time() - started < 5
    assert answer == find_answer(question)
    assert answer.encode()


def test_random_strings_never_raise_and_their_pieces_are_whole() -> None:
    rng = random.Random(2)
    alphabet = "ab 1中文，。\n\r\u0301\u200d\ufe0f👩👍🏽🇨🇳é\u1100\u1161\u11a8한"
    for _ in range(2_000):
        text = "".join(
            rng.choice(alphabet) if rng.random() < 0.9 else chr(rng.randrange(sys.maxunicode + 1))
            for _ in range(rng.randrange(40))
        )
        assert find_answer(text)
        cut = list(pieces(text))
        assert "".join(cut) == text
        assert all(cut)
        assert all(not piece[0].isspace() for piece in cut[1:])


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_the_pieces_of_an_answer_are_the_answer_and_each_is_as_short_as_a_typed_token(
    text: str,
) -> None:
    cut = list(pieces(text))
    assert "".join(cut) == text
    for piece in cut:
        assert len(piece.split()) == 1
        han = answer_book._HAN.findall(piece)
        assert len(piece.strip()) <= 2 if han else len(piece) < 50
    assert cut == list(pieces(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Hello big  world.\n\nNew", ["Hello ", "big  ", "world.\n\n", "New"]),
        (" x", [" ", "x"]),
        ("a\r\nb", ["a\r\n", "b"]),
        ("流式传输吧", ["流式", "传输", "吧"]),
        ("用 SSE 吧", ["用 ", "SSE ", "吧"]),
        ("用SSE吧", ["用", "SSE", "吧"]),
        ("cafe\u0301 au", ["cafe\u0301 ", "au"]),
        ("中\u0301文\ufe00字", ["中\u0301文\ufe00", "字"]),
        ("中\U000e0100文字", ["中\U000e0100文", "字"]),
        ("👨‍👩‍👧‍👦👍🏽👋", ["👨‍👩‍👧‍👦👍🏽", "👋"]),
        ("中❤️‍🔥文", ["中", "❤️‍🔥", "文"]),
        ("中🇨🇳🇩🇪文", ["中", "🇨🇳🇩🇪", "文"]),
        ("中1️⃣文", ["中", "1️⃣", "文"]),
        ("🏴󠁧󠁢󠁳󠁣󠁴󠁿 x", ["🏴󠁧󠁢󠁳󠁣󠁴󠁿 ", "x"]),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", ["\u1112\u1161\u11ab\u1100\u1173\u11af"]),
        ("\u0301a", ["\u0301a"]),
        ("a \u0301b", ["a \u0301", "b"]),
    ],
)
def test_a_piece_is_a_word_or_two_characters_and_never_part_of_a_grapheme(
    text: str, expected: list[str]
) -> None:
    assert list(pieces(text)) == expected
