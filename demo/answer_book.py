"""The demo's built-in answer book: prepared answers found by keyword, in typed pieces. No model.

The answers are Markdown.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LONGEST_QUESTION = 2_000  # characters; whatever follows them is not looked at

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN_WORD = re.compile("[a-z0-9]+")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}

# UAX #29 by pattern, where the general category is not enough.
_EXTENDS = re.compile(
    "[\u0e33\u0eb3\u200c\u200d\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
    "\u1160-\u11ff\ud7b0-\ud7fb]"  # the last two: Hangul vowels and final consonants
)
_PREPENDS = re.compile(
    "[\u200d\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2"
    "\U000111c3\U0001193f\U00011941\U00011a3a\U00011a84-\U00011a89\U00011d46\U00011f02]"
)
_HANGUL = re.compile("[\u1100-\u115f\ua960-\ua97c][\u1100-\u115f\ua960-\ua97c\uac00-\ud7a3]")


@dataclass(frozen=True, slots=True)
class Entry:
    """A question the book knows, with the words that point to it and its answer."""

    id: str
    keywords: list[str]
    question: str
    answer: str


def find_answer(question: str, language: str | None = None) -> str:
    """Return the answer that fits ``question`` best, or a text that says that there is none.

    ``language`` is ``"en"``, ``"zh"`` or a tag such as ``"zh-CN"``; with anything else a Chinese
    character in the question makes the answer Chinese. Keywords of both languages count in either.
    """
    asked = question[:LONGEST_QUESTION]
    spoken = _known(language) or ("zh" if _HAN.search(asked) else "en")
    words, joined = _folded(asked)
    best, most = -1, 1
    for index, terms in enumerate(_terms()):
        score = sum(weight for term, weight in terms if term in words or term in joined)
        if score >= most:  # the later wins a tie: the book goes from broad to narrow
            best, most = index, score
    entries, fallback = _book(spoken)
    if best >= 0:
        return entries[best].answer
    return "\n".join([fallback, "", *(f"- {each}" for each in questions(spoken)[1:6])])


def questions(language: str | None = None) -> list[str]:
    """Return the questions the book knows, broad ones first, in English or as asked in Chinese."""
    return [entry.question for entry in _book(_known(language) or "en")[0]]


def pieces(text: str) -> Iterator[str]:
    """Cut ``text`` into what a person types at once: a word, or one or two Chinese characters.

    White space stays with what it follows. Joined together the pieces are ``text`` again, and no
    cut is inside a grapheme (UAX #29): every piece can be shown as soon as it arrives.
    """
    start, wide, spaced, previous = 0, 0, False, ""
    for index, char in enumerate(text):
        if char.isspace():
            spaced = True
        elif not _belongs_to(previous, char):
            is_wide = unicodedata.east_asian_width(char) in "WF"
            if index and (spaced or wide == 2 or is_wide != (wide > 0)):
                yield text[start:index]
                start, wide = index, 0
            wide += is_wide
            spaced = False
        previous = char
    if text:
        yield text[start:]


def _belongs_to(previous: str, char: str) -> bool:
    if _EXTENDS.match(char) or unicodedata.category(char) in ("Mn", "Me", "Mc"):
        return True
    return _PREPENDS.match(previous) is not None or _HANGUL.match(previous + char) is not None


def _known(language: str | None) -> str | None:
    tag = language[:2].lower() if isinstance(language, str) else ""  # it comes from a request
    return tag if tag in ("en", "zh") else None


def _folded(text: str) -> tuple[str, str]:
    """The Latin words of ``text`` between single spaces, and all of it without white space."""
    plain = text.translate(_FULL_WIDTH).casefold()
    return f" {' '.join(_LATIN_WORD.findall(plain))} ", "".join(plain.split())


@cache
def _book(language: str) -> tuple[tuple[Entry, ...], str]:
    path = Path(__file__).with_name(f"answers.{language}.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    return tuple(Entry(**entry) for entry in content["entries"]), content["fallback"]


@cache
def _terms() -> tuple[tuple[tuple[str, int], ...], ...]:
    pairs = zip(_book("en")[0], _book("zh")[0], strict=True)
    return tuple(tuple({_term(word) for word in en.keywords + zh.keywords}) for en, zh in pairs)


def _term(keyword: str) -> tuple[str, int]:
    words, joined = _folded(keyword)
    han = len(_HAN.findall(joined))
    # A Latin word weighs two Chinese characters; the limit keeps long names of broad things down.
    return (joined if han else words), min(2 * len(words.split()) + han, 4)
