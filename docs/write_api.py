"""Print ``docs/api.md``: what ``streaming.__all__`` names, in the words of its docstrings.

``make docs-api`` writes the page; ``tests/test_public.py`` holds that it says what they say.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import streaming

WIDTH = 125

HEAD = """\
Made from the docstrings by `make docs-api`. This is all that the package promises by name: what is
not here may change from one version to the next. How things are used together is in the
[quick start](quickstart.md), settings are in [configuration](configuration.md), bytes in
[protocols](protocols.md).
"""

GROUPS = {
    "Channels": ["Streaming", "Publisher", "Message", "Gap", "Member", "Identity", "Subscription"],
    "Answers": ["stream", "SSE", "NDJSON"],
    "Answers that survive": [
        *("Run", "Part", "Answer", "current_run", "Generation"),
        *("openai_api", "ui_messages_api"),
    ],
    "WebSockets": ["Sock", "Connection", "Take", "chat"],
    "In `gunicorn.conf.py`": ["watch_worker", "drain_worker"],
}

MEMBERS = {
    "Message": ["channel", "data", "id", "event", "sender", "traceparent"],
    "Gap": ["channel", "requested", "oldest", "newest"],
    "Subscription": ["channels", "id", "__iter__", "take", "close"],
    "Run": ["id", "channel", "url", "state", "is_stopped", "answer", "stop", "response"],
    "Part": ["kind", "data"],
    "Answer": [
        *("id", "state", "parts", "text", "started", "ended", "detail", "cursor", "is_whole"),
        *("is_over", "about"),
    ],
    "Generation": ["id", "channel", "is_stopped", "say", "wait", "closes"],
    "Sock": ["route"],
    "Connection": [
        *("id", "peer", "subprotocol", "environ", "connected", "close_reason", "close_message"),
        *("open", "receive", "__iter__", "send", "close", "on_end"),
    ],
}
"""What is promised of classes that have more than that; all public names of the others."""

CONSTANTS = {
    "SSE": "The format of Server-Sent Events, for `stream(..., form=SSE)`.",
    "NDJSON": "The format of JSON lines, for `stream(..., form=NDJSON)`.",
    "Take": "`Callable[[str | bytes], None]`: what a WebSocket's handler may return, to be called "
    "with each message.",
}

SIGNATURES = {"Sock": "(app: Flask | None = None)"}
"""Where flask-sock's own code says less."""

ATTRIBUTE = re.compile(
    r'^ +(?:self\.)?(\w+)(?:: ([^=\n]+?))?(?: = [^\n]+)?\n +"""(\S.*?)"""', re.DOTALL | re.MULTILINE
)
"""An attribute and the docstring below it."""

MADE_BY_OTHERS = {"Message", "Gap", "Member", "Subscription", "Connection"}
MADE_BY_OTHERS |= {"Run", "Answer", "Generation"}
"""Classes whose constructors are nobody's business."""


def page() -> str:
    """The whole page."""
    parts = ["# API\n", "[中文](api.zh-CN.md)\n", "\n".join(paragraph(HEAD)) + "\n"]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        for name in names:
            parts.append("\n".join(entry(name, getattr(streaming, name))))
    parts.append("\n".join(errors()))
    return "\n".join(parts)


def entry(name: str, value: Any) -> Iterator[str]:
    """The lines about one name."""
    if name in CONSTANTS:
        yield from (f"### {name}", "", *paragraph(CONSTANTS[name]), "")
        return
    yield from (f"### {name}", "")
    if name not in MADE_BY_OTHERS:
        yield from ("```python", f"{name}{SIGNATURES.get(name) or signature(value)}", "```", "")
    yield from prose(value.__doc__, without_args=name in MADE_BY_OTHERS)
    if inspect.isclass(value):
        docs = attribute_docs(value)
        for member in MEMBERS.get(name) or members(value, docs):
            yield from member_entry(name, member, inspect.getattr_static(value, member, None), docs)


def members(kind: type, docs: dict[str, tuple[str, str]]) -> list[str]:
    """The public names of a class, in the order of its source."""
    return list(dict.fromkeys(n for n in [*docs, *vars(kind)] if not n.startswith("_")))


def member_entry(
    name: str, member: str, value: Any, docs: dict[str, tuple[str, str]]
) -> Iterator[str]:
    """The lines about one member of a class."""
    owner = name.lower() if name != "Connection" else "ws"
    if inspect.isfunction(value):
        title = f"{owner}.{member}{signature(value)}"
        if member == "__iter__":
            title = f"for item in {owner}"
        yield from ("```python", title, "```", "", *prose(value.__doc__))
        return
    if isinstance(value, property):
        assert value.fget is not None
        kind, text = inspect.signature(value.fget).return_annotation, value.__doc__ or ""
    else:
        kind, text = docs[member]
    yield from prose(f"``{owner}.{member}: {kind}`` – {text}")


def attribute_docs(kind: type) -> dict[str, tuple[str, str]]:
    """Type and docstring of the attributes of a class and of those it is made from."""
    found: dict[str, tuple[str, str]] = {}
    for part in reversed(kind.__mro__):
        if part.__module__.startswith("streaming"):
            for name, of_type, text in ATTRIBUTE.findall(inspect.getsource(part)):
                found[name] = (of_type or "str", text)
    return found


def signature(function: Any) -> str:
    """``(channel: str, *, key: str | None = None) -> Message``, on several lines if it is long."""
    given = inspect.signature(function)
    words, kinds = [], list(given.parameters.values())
    for before, parameter in zip([None, *kinds], kinds, strict=False):
        if parameter.name == "self":
            continue
        is_first = before is None or before.kind not in (before.KEYWORD_ONLY, before.VAR_POSITIONAL)
        if parameter.kind is parameter.KEYWORD_ONLY and is_first:
            words.append("*")
        words.append(shown(parameter))
    back = given.return_annotation
    end = "" if back in (given.empty, None, "None") else f" -> {back}"
    line = f"({', '.join(words)}){end}"
    if len(line) < WIDTH - 30:
        return line
    return "(\n" + "".join(f"    {word},\n" for word in words) + f"){end}"


def shown(parameter: inspect.Parameter) -> str:
    default = parameter.default
    if default is parameter.empty:
        return str(parameter).replace("'", "")
    text = default.__name__ if inspect.isfunction(default) else repr(default).replace("'", '"')
    return f"{parameter.name}: {parameter.annotation} = {text}"


def errors() -> Iterator[str]:
    """The table of what is raised."""
    yield from ("## Errors", "", *prose(streaming.errors.__doc__))
    yield from ("| error | HTTP | WebSocket | |", "|---|---|---|---|")
    for name in streaming.__all__:
        kind = getattr(streaming, name)
        if inspect.isclass(kind) and issubclass(kind, streaming.StreamingError):
            text = " ".join(plain(inspect.cleandoc(kind.__doc__ or "")).split())
            code = "its own" if name == "ConnectionClosed" else kind.close_code
            yield f"| `{name}` | {kind.status} | {code} | {text} |"
    yield ""


def prose(doc: str | None, *, without_args: bool = False) -> Iterator[str]:
    """A docstring as Markdown."""
    section = ""
    for block in re.split(r"\n\n(?=\S)", inspect.cleandoc(doc or "")):
        heading = re.match(r"(Args|Raises):\n", block)
        if heading:
            section = heading[1]
            if not (without_args and section == "Args"):
                yield from (f"{section}:", "", *listed(block[heading.end() :]), "")
        elif "::\n\n" in block:
            text, _, code = block.partition("::\n\n")
            yield from (*paragraph(plain(text) + ":"), "", "```python")
            yield from (*textwrap.dedent(code).splitlines(), "```", "")
        elif block.startswith("- "):
            yield from (*plain(block).splitlines(), "")
        else:
            yield from (*paragraph(plain(block)), "")


def listed(block: str) -> Iterator[str]:
    """``name: what`` and its indented lines as a list."""
    for item in re.split(r"\n(?=\S)", textwrap.dedent(block)):
        name, _, text = " ".join(item.split()).partition(": ")
        yield from paragraph(f"- `{name}`: {plain(text)}", "  ")


def plain(text: str) -> str:
    return text.replace("``", "`")


def paragraph(text: str, indent: str = "") -> list[str]:
    whole = re.sub(r"`[^`]+`", lambda code: code[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in lines]


if __name__ == "__main__":
    sys.stdout.write(page())
