"""The pure parts of ``make bench``: what is counted, and how. Nothing is timed here."""

import re
from pathlib import Path

import pytest

from bench import chinese, plan, report, wire
from bench.servers import PROJECT, Server, homes
from streaming.wire import frames


def sse(*numbers: int) -> bytes:
    return b"".join(b"id: e-1\ndata: %s\n\n" % wire.message(n, 7, 128) for n in numbers)


def said(number: int, size: int = 128) -> bytes:
    return bytes(frames.encode_text("Other client said: " + wire.message(number, 7, size).decode()))


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 50), (0.99, 99), (1, 100)])
def test_a_percentile_is_the_nearest_rank(share: float, value: int) -> None:
    assert wire.percentile(range(100, 0, -1), share) == value


def test_a_percentile_of_one_value_is_that_value_and_of_none_an_error() -> None:
    assert wire.percentile([3.0], 0.99) == 3.0
    with pytest.raises(ValueError):
        wire.percentile([], 0.5)


@pytest.mark.parametrize("size", [128, 16384])
def test_a_message_has_its_size_and_is_found_with_its_number_and_time(size: int) -> None:
    text = wire.message(42, 123456789, size)
    assert len(text) == size
    found = wire.scan("sse", b"data: " + text + b"\n\n")
    assert (found.first, found.mask, found.stamps, found.rest) == (42, 1, (123456789,), b"")


@pytest.mark.parametrize("kind", ["sse", "ws"])
def test_every_way_to_cut_two_messages_counts_two(kind: str) -> None:
    data = sse(0, 1) if kind == "sse" else said(0) + said(1)
    for cut in range(len(data) + 1):
        low, ahead, rest = 0, 0, b""
        for piece in (data[:cut], data[cut:]):
            found = wire.scan(kind, rest + piece)
            rest = found.rest
            if found.stamps:
                low, ahead = wire.advance(low, ahead, found)
        assert (low, ahead) == (2, 0), cut


def test_what_is_no_message_is_not_counted_and_not_kept() -> None:
    assert wire.scan("sse", b": heartbeat\n\n") == wire.Scan(0, 0, (), b"")
    assert wire.scan("ws", b"\x89\x00") == wire.Scan(0, 0, (), b"")
    greeting = frames.encode_text("Welcome to the WebSocket server!")
    assert wire.scan("ws", bytes(greeting) + said(3)).first == 3


@pytest.mark.parametrize("size", [60, 128, 16384])
def test_frames_of_both_length_forms_are_counted(size: int) -> None:
    assert wire.scan("ws", said(5, size)).stamps == (7,)


def test_a_frame_of_a_wrong_length_is_loud() -> None:
    data = bytearray(said(1))
    data[3] += 1
    with pytest.raises(wire.Miscounted):
        wire.scan("ws", bytes(data))


def test_numbers_may_overtake_each_other_but_none_may_come_twice() -> None:
    low, ahead = wire.advance(0, 0, wire.scan("sse", sse(2, 1)))
    assert (low, ahead) == (0, 0b110)
    for doubled in (2, 1):
        with pytest.raises(wire.Miscounted):
            wire.advance(low, ahead, wire.scan("sse", sse(doubled)))
    low, ahead = wire.advance(low, ahead, wire.scan("sse", sse(0)))
    assert (low, ahead) == (3, 0)
    with pytest.raises(wire.Miscounted):
        wire.advance(low, ahead, wire.scan("sse", sse(0)))
    with pytest.raises(wire.Miscounted):
        wire.scan("sse", sse(3, 3))


@pytest.mark.parametrize("size", [5, 125, 126, 65535])
def test_a_frame_is_one_that_a_server_reads(size: int) -> None:
    data = wire.frame(b"x" * size)
    start = 6 if size < 126 else 8
    key = data[start - 4 : start]
    assert key == wire.MASK_KEY
    assert bytes(b ^ key[i % 4] for i, b in enumerate(data[start:])) == b"x" * size
    assert (data[1] & 0x7F) == (size if size < 126 else 126)


def test_an_answer_ends_where_its_length_says() -> None:
    assert wire.answer_end(b"HTTP/1.1 204 No Content\r\n") == 0
    assert wire.answer_end(b"HTTP/1.1 204 No Content\r\n\r\n") == 27
    answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabc"
    assert wire.answer_end(answer[:-1]) == 0
    assert wire.answer_end(answer) == len(answer)


def results(cpu: float, busy: float = 0.5) -> plan.Results:
    fanout = {"cpu_s": cpu, "delivered": 1_000_000, "seconds": 2.0, "busy": busy}
    return {"small": {"phases": {"fanout": fanout}}}


PEER = Server("peer", "Peer", {"sse": []})


def test_the_table_has_medians_and_ratios_and_the_reading_says_who_is_ahead() -> None:
    found = {
        ("sse", "project"): [results(4), results(100), results(3)],
        ("sse", "peer"): [results(2)],
        ("ws", "project"): [{}],
        ("ws", "peer"): [{}],
    }
    lines = report.table("sse", found, [PROJECT, PEER], plan.rows("sse", quick=False))
    assert "| µs | 4 | 2 (0.50) | 50 · 50 |" in lines[2]
    assert len(lines) == 3
    read = report.reading(found, [PROJECT, PEER], quick=False)
    assert read[0] == "- **Peer** is behind in 0 rows, within 5% in 0, ahead in 1:"
    assert read[1].endswith("2 against 4 µs")


def test_what_people_wrote_around_the_measured_part_stays(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    path.write_text(report.page(path, "one"))
    path.write_text(path.read_text() + "\nBy hand.\n")
    text = report.page(path, "two")
    assert "\ntwo\n" in text
    assert "\none\n" not in text
    assert text.endswith("\nBy hand.\n")
    path.write_text("no marks")
    with pytest.raises(ValueError):
        report.page(path, "three")


def test_the_chinese_page_has_the_figures_of_the_english_one() -> None:
    docs = Path(__file__).parents[1] / "docs"
    pages = [(docs / f"benchmarks{end}").read_text("utf-8") for end in (".md", ".zh-CN.md")]
    parts = [page.partition(report.BEGIN)[2].partition(report.END)[0] for page in pages]
    assert chinese.text(parts[0]) == parts[1]


def test_every_row_that_can_be_measured_has_its_chinese() -> None:
    terms = r"[\d,]+|p50|p99|CPU|worker|SQLite|Redis"
    for kind in plan.TITLES:
        for row in (*plan.rows(kind, quick=False), *plan.home_rows(quick=True)):
            left = re.sub(terms, "", chinese.text(row.title))
            assert not re.search(r"[A-Za-z]", left), row.title


def test_only_takes_kinds_scenarios_and_both() -> None:
    stalled = next(s for s in plan.scenarios(quick=True) if s.name == "stalled-5")
    for only in (set(), {"ws"}, {"stalled"}, {"stalled-5"}, {"ws-stalled"}, {"echo", "stalled"}):
        assert plan.chosen(stalled, "ws", only)
    assert not plan.chosen(stalled, "ws", {"sse", "echo", "sse-stalled"})


@pytest.mark.parametrize("value", [(3.456, "3.46"), (45.67, "45.7"), (456.7, "457"), (0, "0")])
def test_numbers_have_three_digits(value: tuple[float, str]) -> None:
    assert report.number(value[0]) == value[1]
    assert report.number(268_412) == "268,000"
    assert report.number(2_718_281) == "2,720,000"


def test_homes_of_the_log_are_compared_among_themselves_only() -> None:
    every = plan.scenarios(quick=True)
    for kind in plan.TITLES:
        for server in (PROJECT, *homes()):
            there = {s.name for s in every if plan.applies(s, server, kind)}
            assert (there == {plan.HOMES}) is bool(server.log)
            assert (plan.HOMES in there) is bool(server.log)


def test_the_rows_of_the_homes_are_read_from_their_scenario() -> None:
    found = {"delivered": 1000, "seconds": 2.0, "cpu_s": 0.01, "ms": {"p50": 1.5, "p99": 3.0}}
    results = {
        plan.HOMES: {"connect": {}, "phases": dict.fromkeys(("fanout", "burst", "latency"), found)}
    }
    values = [row.value(results) for row in plan.home_rows(quick=True)]
    assert values == [500.0, 10.0, 500.0, 10.0, 1.5, 3.0]
