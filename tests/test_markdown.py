"""demo/markdown.py: Markdown in pieces, as trees of what a page can show."""

import random
import time
from typing import Any

import pytest

from demo.markdown import LONGEST, LONGEST_CODE, Blocks, with_blocks
from streaming import Part

EVERYTHING = """\
# Title <b>x</b>
a paragraph
goes on

1. one `c`

2. two
   - x **bold** *em* ~~gone~~

after 😀

| a | b |
|---|---|
| 1 | 2 |

```python title="x"
print("<b>")

```
> said\\
> so

***
~~~
open
"""

NODES = [
    ["h4", "Title <b>x</b>"],
    ["p", "a paragraph\ngoes on"],
    [
        "ol",
        ["li", ["p", "one ", ["code", "c"]]],
        [
            "li",
            ["p", "two"],
            ["ul", ["li", "x ", ["strong", "bold"], " ", ["em", "em"], " ", ["s", "gone"]]],
        ],
    ],
    ["p", "after 😀"],
    [
        "table",
        ["thead", ["tr", ["th", "a"], ["th", "b"]]],
        ["tbody", ["tr", ["td", "1"], ["td", "2"]]],
    ],
    ["pre", {"language": "python"}, 'print("<b>")\n\n'],
    ["blockquote", ["p", "said", ["br"], "so"]],
    ["hr"],
    ["pre", "open\n"],
]


def nodes_of(*pieces: str) -> list[Any]:
    blocks = Blocks()
    found = [node for piece in pieces for node in blocks.feed(piece)]
    return [*found, *blocks.finish()]


def cut(text: str, rng: random.Random) -> list[str]:
    places = sorted(rng.sample(range(1, len(text)), rng.randrange(20)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def test_all_that_a_page_can_show_becomes_nodes() -> None:
    assert nodes_of(EVERYTHING) == NODES


def test_any_cutting_gives_the_same_nodes() -> None:
    assert nodes_of(*EVERYTHING) == NODES
    rng = random.Random(3)
    for _ in range(200):
        pieces = cut(EVERYTHING, rng)
        assert nodes_of(*pieces) == NODES, pieces


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("a\n\nb", [["p", "a"]]),
        ("a\nb", []),
        ("a\n \nb", [["p", "a"]]),
        ("# a\n\n", [["h4", "a"]]),
        ("a\n===\n\n", [["h4", "a"]]),
        ("- a\n\n", []),  # may go on
        ("- a\n\nb\n\n", [["ul", ["li", "a"]], ["p", "b"]]),
        ("    code\n\n", []),
        ("```\na\n\n", []),
        ("```\na\n```\n", [["pre", "a\n"]]),
        ("````\n```\n\n", []),
        ("> a\n\n", [["blockquote", ["p", "a"]]]),
        ("| a |\n|---|\n| b |\n\n", None),
    ],
)
def test_a_block_comes_as_soon_as_nothing_can_be_added_to_it(text: str, nodes: Any) -> None:
    blocks = Blocks()
    found = [node for piece in text for node in blocks.feed(piece)]
    assert bool(found) if nodes is None else found == nodes
    assert blocks.end == (text.rindex("\n") + 1 if found else 0)


def test_the_end_counts_as_javascript_does() -> None:
    blocks = Blocks()
    blocks.feed("😀中\n\nb")
    assert blocks.end == len("😀中\n\n") + 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("a <img src=x onerror=y> b", "a <img src=x onerror=y> b"),
        ("<div>\n*x*\n</div>", None),
        ("[a](javascript:alert(1))", "[a](javascript:alert(1))"),
        ("[a](/local)", "a"),
        ("[a](data:text/html,x)", "[a](data:text/html,x)"),
        ("[a](//evil.example)", "a"),
        ("![alt](relative.png)", "alt"),
        ("&lt;b&gt; &amp;", "<b> &"),
    ],
)
def test_what_a_page_must_not_have_is_text(text: str, shown: str | None) -> None:
    (paragraph,) = nodes_of(text)
    tags = {node[0] for node in paragraph[1:] if isinstance(node, list)}
    assert tags <= {"em"}
    if shown is not None:
        assert paragraph == ["p", shown]


def test_links_lead_to_the_web_and_pictures_become_links() -> None:
    text = "[a](HTTPS://x.y) <https://z> [m](mailto:a@b.c) ![pic](http://x/y.png)"
    (paragraph,) = nodes_of(text)
    assert [node[1:] for node in paragraph[1:] if isinstance(node, list)] == [
        [{"href": "HTTPS://x.y"}, "a"],
        [{"href": "https://z"}, "https://z"],
        [{"href": "mailto:a@b.c"}, "m"],
        [{"href": "http://x/y.png"}, "pic"],
    ]


def test_a_list_may_begin_anywhere() -> None:
    assert nodes_of("3. a\n4. b") == [["ol", {"start": 3}, ["li", "a"], ["li", "b"]]]


@pytest.mark.parametrize("text", ["", "\n", " \n\n\n", "\r\n", "\0", "\r", "a\rb\r\r\nc\r\n\r\n"])
def test_odd_line_ends_are_no_failure(text: str) -> None:
    for pieces in ([text], [*text]):
        assert len(nodes_of(*pieces)) <= 2


HOSTILE = {
    "wide table": "|a" * 500 + "\n" + "|-" * 500 + "\n" + "|x\n" * 4000,
    "table": "|a" * 20 + "\n" + "|-" * 20 + "\n" + "|x\n" * 4000,
    "list": "- a\n\n" * 3000,
    "nested": "".join(" " * 2 * n + "- a\n" for n in range(100)),
    "quotes": "> " * 6000,
    "pictures": "![\n" * 5000,
    "brackets": "[a\n" * 6000,
    "marks": "_a\n\n" * 4000,
    "stars": "*a_ " * 5000,
    "code": "```\n" + "a\n\n" * 15_000,
    "ticks": "".join("`" * n + " " for n in range(150)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_keeps_a_worker_busy(name: str) -> None:
    text, longest = HOSTILE[name], 0.0
    blocks = Blocks()
    for start in range(0, len(text), 40):
        begun = time.process_time()
        blocks.feed(text[start : start + 40])
        longest = max(longest, time.process_time() - begun)
    begun = time.process_time()
    blocks.finish()
    assert max(longest, time.process_time() - begun) < 2  # without bounds some take minutes
    assert blocks.end == len(text)


def test_a_block_that_is_too_long_is_shown_as_it_is() -> None:
    text = "a " * LONGEST
    assert nodes_of(text) == [["p", text]]
    code = f"```\n{'a' * (LONGEST_CODE - 100)}\n```\n"
    assert [node[0] for node in nodes_of(code)] == ["pre"]


def test_blocks_come_behind_their_text() -> None:
    usage = Part("usage", 1)
    pieces = list(with_blocks(iter(["a\n", "\nb", usage, " c"])))
    assert pieces == [
        "a\n",
        "\nb",
        Part("data", {"markdown": [["p", "a"]], "end": 3}),
        usage,
        " c",
        Part("data", {"markdown": [["p", "b c"]], "end": 6}),
    ]
    assert list(with_blocks(iter([]))) == []
