"""An SVG of what pages said, each word at its time, again and again: no script, no page in it.

Who wants no motion, and whatever knows no animation, sees the end.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

WIDTH, PANEL, GAP, LINE = 900, 292, 12, 16
TOP, ROWS = 52, 21
BOTTOM = TOP + 58 + ROWS * LINE
COLUMNS = 38  # characters of a line; a narrow guess, since each reader has other letters
REST = 2.5  # seconds that the end is shown

Word = tuple[float, str]
"""What is there from a moment on, in seconds."""

STYLE = """
svg{--paper:#f4f5f1;--surface:#fff;--ink:#16211d;--muted:#54615b;--line:#d3d9d0;
--bad:#b3261e;--busy:#8a5a00;--good:#0b6749;--c0:#0b6749;--c1:#6538ad;--c2:#9c420a;
font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
@media (prefers-color-scheme:dark){svg{--paper:#101513;--surface:#171e1b;--ink:#e6ebe7;
--muted:#9fada6;--line:#2d3833;--bad:#ff9d92;--busy:#ecc15a;--good:#5fd3a5;
--c0:#5fd3a5;--c1:#bda2f5;--c2:#f2a65a}}
text{fill:var(--ink);white-space:pre}.paper{fill:var(--paper)}
.page{fill:var(--surface);stroke:var(--line)}.bar{fill:var(--line)}.m,.who{fill:var(--muted)}
.who,.h{font-weight:600}.code{font:12px ui-monospace,Menlo,Consolas,monospace}
.open,.done,.idle,.good{fill:var(--good)}.waiting{fill:var(--bad)}
.connecting,.asking,.thinking,.writing{fill:var(--busy)}
.c0{fill:var(--c0)}.c1{fill:var(--c1)}.c2{fill:var(--c2)}.gone{fill:var(--bad);opacity:.14}
"""
"""The demo's colours; a state's class is its phase."""


@dataclass
class Panel:
    """A page: its states, and its lines, each made of words."""

    title: str
    path: str
    states: list[tuple[float, str, str]]
    """When, which phase, in which words."""
    lines: list[tuple[str, list[Word]]] = field(default_factory=list)
    """Who says it, on the first line of what somebody says; the words."""


@dataclass
class Act:
    panels: list[Panel]
    published: list[Word]
    told: float
    """When the workers were replaced."""
    length: float


def panel(title: str, path: str, noted: list[tuple[float, dict[str, Any]]]) -> Panel:
    """What a page has said, from all that was noted of it.

    Raises:
        ValueError: If its rows have changed places: then no line can show them.
    """
    shown = Panel(title, path, [])
    for at, now in noted:
        if not shown.states or shown.states[-1][1:] != (now["phase"], now["state"]):
            shown.states.append((at, now["phase"], now["state"]))
    last = noted[-1][1]["rows"]
    for number, (who, text) in enumerate(last):
        seen = [(at, now["rows"][number][1].split()) for at, now in noted if now["rows"][number:]]
        if seen[0][1][:1] != text.split()[:1]:
            raise ValueError(f"row {number} of {path} was another one: {seen[0][1]}")
        words = [
            (next(at for at, had in seen if len(had) > n), word)
            for n, word in enumerate(text.split())
        ]
        shown.lines += wrapped(who, text, words)
    return shown


def wrapped(who: str, text: str, words: list[Word]) -> list[tuple[str, list[Word]]]:
    lines: list[tuple[str, list[Word]]] = []
    left = iter(words)
    for paragraph in text.split("\n\n"):
        if lines:
            lines.append(("", []))
        first = "x" * len(who) + "  " if who and not lines else ""
        for line in textwrap.wrap(paragraph, COLUMNS, initial_indent=first, break_on_hyphens=False):
            count = len(line.removeprefix(first).split())
            lines.append(("" if lines else who, [next(left) for _ in range(count)]))
            first = ""
    return lines


def said_once(shown: Panel, texts: list[str]) -> bool:
    """Whether these are what a page says beside its own notices, each once and in order."""
    lines = [" ".join(word for _, word in words) for _, words in shown.lines]
    return [line for line in lines if line in set(texts)] == texts


class Clock:
    """The animations: each is what is there from one moment to another."""

    def __init__(self, length: float) -> None:
        self.total = length + REST
        self._names: dict[tuple[str, str], str] = {}

    def during(self, begin: float, end: float | None = None) -> str:
        """Attributes of what is there from ``begin``, until ``end`` if that comes."""
        if begin <= 0 and end is None:
            return ""
        times = tuple(f"{100 * (at or 0) / self.total:.2f}" for at in (begin, end))
        name = self._names.setdefault((times[0], times[1]), f"k{len(self._names)}")
        last = "" if end is None else ";visibility:hidden"
        return f' class="a" style="animation-name:{name}{last}"'

    def style(self) -> str:
        rules = [
            f".a{{animation:{self.total:.2f}s step-end infinite}}",
            f".run{{animation:run {self.total:.2f}s linear infinite}}",
            "@keyframes run{from{transform:scaleX(0)}to{transform:scaleX(1)}}",
            "@media (prefers-reduced-motion){.a,.run{animation:none}}",
        ]
        for (first, last), name in self._names.items():
            before = "" if first == "0.00" else "0%{visibility:hidden}"
            after = "" if last == "0.00" else f"{last}%{{visibility:hidden}}"
            rules.append(f"@keyframes {name}{{{before}{first}%{{visibility:visible}}{after}}}")
        return "\n".join(rules)


def draw(act: Act) -> str:
    """The picture.

    Raises:
        ValueError: If a page has said more than there is room for.
    """
    clock = Clock(act.length)
    height = BOTTOM + 56
    parts = [rect("paper", 0, 0, WIDTH, height, 10), *published(act, clock)]
    for number, shown in enumerate(act.panels):
        parts += drawn(shown, number, clock)
    parts += time_line(act, clock)
    title = "Three pages of the demo during a deploy: each message arrives, once and in order"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        f"<title>{title}</title>\n<style>{STYLE}{clock.style()}\n</style>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def rect(kind: str, x: float, y: float, width: float, height: float, radius: float) -> str:
    place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}"'
    return f'<rect class="{kind}" {place} rx="{radius}"/>'


def text(kind: str, x: float, y: float, content: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y}"' + (f' text-anchor="{anchor}"' if anchor != "start" else "")
    return f'<text class="{kind}" {place}>{content}</text>'


def published(act: Act, clock: Clock) -> list[str]:
    """What the program says; what happens to the server; that all of it has arrived."""
    found = [text("m", GAP, 31, "A program publishes:")]
    ends = [*(at for at, _ in act.published[1:]), None]
    for (at, said), end in zip(act.published, ends, strict=True):
        code = text("code", 158, 31, escape(f'publisher.publish("news", "{said}")'))
        found.append(f"<g{clock.during(at, end)}>{code}</g>")
    whole = max(at for _, words in act.panels[0].lines for at, _ in words)
    deploy = text("code waiting", WIDTH - GAP, 31, "$ kill -HUP gunicorn  # a deploy", "end")
    arrived = f"{len(act.published)} published, each arrived once and in order"
    return [
        *found,
        f"<g{clock.during(act.told, whole)}>{deploy}</g>",
        f"<g{clock.during(whole)}>{text('good', WIDTH - GAP, 31, arrived, 'end')}</g>",
    ]


def drawn(shown: Panel, number: int, clock: Clock) -> list[str]:
    """A page: whose it is, its states, its lines."""
    if len(shown.lines) > ROWS:
        raise ValueError(f"{shown.path} has {len(shown.lines)} lines")
    x = GAP / 2 + number * (PANEL + GAP / 2)
    found = [
        rect("page", x, TOP, PANEL, BOTTOM - TOP, 8),
        text(f"h c{number}", x + 12, TOP + 22, escape(shown.title)),
        text("m code", x + PANEL - 12, TOP + 22, shown.path, "end"),
    ]
    ends = [*(at for at, _, _ in shown.states[1:]), None]
    for (at, phase, words), end in zip(shown.states, ends, strict=True):
        dot = f'<circle class="{phase}" cx="{x + 16:.1f}" cy="{TOP + 38}" r="4"/>'
        state = text(phase, x + 26, TOP + 42, escape(words))
        found.append(f"<g{clock.during(at, end)}>{dot}{state}</g>")
    for row, (who, words) in enumerate(shown.lines):
        if words:
            spans = f'<tspan class="who">{escape(who)}  </tspan>' if who else ""
            for moment, some in by_moment(words):
                spans += f"<tspan{clock.during(moment)}>{escape(' '.join(some))} </tspan>"
            line = text("l", x + 12, TOP + 66 + row * LINE, spans)
            found.append(f"<g{clock.during(words[0][0])}>{line}</g>")
    return found


def by_moment(words: list[Word]) -> list[tuple[float, list[str]]]:
    """Words that came together, together."""
    found: list[tuple[float, list[str]]] = []
    for at, word in words:
        if not found or found[-1][0] != at:
            found.append((at, []))
        found[-1][1].append(word)
    return found


def time_line(act: Act, clock: Clock) -> list[str]:
    """How far it is, and when no page had a connection."""
    left, width, y = 2 * GAP, WIDTH - 4 * GAP, BOTTOM + 20
    scale = width / clock.total
    lost = max(first_at(shown, 0, {"waiting"}) for shown in act.panels)
    back = min(first_at(shown, lost, {"open", "writing", "done"}) for shown in act.panels)
    run = f'<rect class="m run" width="{width}" height="4" rx="2"/>'
    middle = left + (lost + back) / 2 * scale
    return [
        rect("bar", left, y, width, 4, 2),
        rect("gone", left + lost * scale, y - 8, (back - lost) * scale, 20, 4),
        f'<g transform="translate({left} {y})">{run}</g>',
        text("m", middle, y + 28, f"no connection, {back - lost:.1f} s", "middle"),
        text("m", left, y + 28, "0 s"),
        text("m", left + act.length * scale, y + 28, f"{act.length:.0f} s", "end"),
    ]


def first_at(shown: Panel, after: float, phases: set[str]) -> float:
    return next(at for at, phase, _ in shown.states if at > after and phase in phases)
