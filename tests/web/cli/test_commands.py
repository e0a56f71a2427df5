"""``flask streaming …``: what all commands promise, and those that look at a log."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from flask import Flask

from streaming import Streaming, current_run
from streaming.hub.orders import CHANNEL as ORDERS
from streaming.hub.subscription import Subscription
from streaming.message import Gap, Message
from streaming.web.cli.group import commands
from tests.homes import SHARED_URLS
from tests.polling import PATIENCE, wait_until
from tests.sites import make_app, serve
from tests.web.cli.terminal import Terminal, terminal

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(params=SHARED_URLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    """A small application on each home that processes share."""
    with SHARED_URLS[request.param](tmp_path) as url, terminal(log=url) as found:
        yield found


def examples(command: click.Command) -> list[list[str]]:
    """What the help of a command shows, without what a shell does with it."""
    lines = (command.help or "").partition("Examples:")[2].splitlines()
    words = [shlex.split(line.partition("|")[0].partition(" < ")[0]) for line in lines]
    return [line for line in words if line]


@pytest.mark.parametrize("name", sorted(commands.all()))
def test_every_help_has_examples_that_are_understood(name: str) -> None:
    shown = examples(commands.all()[name])
    assert shown
    for flask, group, called, *args in shown:
        assert (flask, group) == ("flask", "streaming")
        commands.all()[called].make_context(called, args)
    assert any(called == name for _, _, called, *_ in shown)


def test_a_server_does_not_import_what_only_commands_need() -> None:
    code = "import sys, streaming; print([m for m in sys.modules if '.web.cli.' in m])"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "['streaming.web.cli.group']\n"


ALL = ["publish a x", "tail a", "channels", "members a", "runs", "ticket a"]
ALL += ["revoke --client 0123456789abcdef", "clients", "bench --url http://x"]


@pytest.mark.parametrize("line", [*ALL, "disconnect --channel a"])
def test_a_log_in_memory_is_refused_with_why(line: str) -> None:
    with terminal(log="memory:") as shell:
        result = shell.call(*line.split())
    assert result.exit_code == 1
    assert "STREAMING_LOG is memory:, a log that each process" in result.output
    assert "Traceback" not in result.output


def test_an_application_keeps_a_command_of_its_own_that_is_called_so() -> None:
    app = Flask(__name__)
    app.cli.command("streaming")(lambda: click.echo("mine"))
    Streaming(app)
    assert app.test_cli_runner().invoke(args=["streaming"]).output == "mine\n"


def test_what_is_published_is_told_with_its_id_and_is_there(shell: Terminal) -> None:
    (said,) = shell.ask("publish", "news", "It works.", "--event", "price")
    (found,) = shell.ask("tail", "news", "--from-start", "--count", "1")
    told = {"channel": "news", "id": said["id"], "event": "price"}
    assert said == told
    assert found == {"type": "message", **told, "data": "It works."}
    assert shell.call("publish", "news", "again").output.strip() > said["id"]


def test_lines_are_messages_and_a_key_counts_for_each(shell: Terminal) -> None:
    lines = "one\n\nthree: ü"
    first = shell.ask("publish", "log", "-", "--key", "k", given=lines)
    assert shell.ask("publish", "log", "-", "--key", "k", given=lines) == first
    found = shell.ask("tail", "log", "--history", "9", "--count", "3")
    assert [item["data"] for item in found] == ["one", "", "three: ü"]


@pytest.mark.parametrize(
    ("given", "why"),
    [(b"good\n\xff\n", "Line 2 is not text in UTF-8"), (b"good\n1234567\n", "more than 6 bytes")],
)
def test_a_line_that_cannot_be_sent_is_named_and_ends_it(
    given: bytes, why: str, tmp_path: Path
) -> None:
    with terminal(log=f"sqlite:///{tmp_path}/log.db", message_size=6) as shell:
        result = shell.call("publish", "log", "-", given=given)
        assert result.exit_code == 1
        assert why in result.output
        assert [row["messages"] for row in shell.ask("channels")] == [1]


def test_a_tail_goes_on_behind_an_id_over_several_channels(shell: Terminal) -> None:
    for text in ("1", "2", "3"):
        shell.hub.publish("a", text)
        shell.hub.publish("b", text)
    first = shell.ask("tail", "a", "b", "--from-start", "--count", "4")
    rest = shell.ask("tail", "a", "b", "--after", first[-1]["id"], "--count", "2")
    told = [(item["channel"], item["data"]) for item in first + rest]
    assert sorted(told) == [(name, text) for name in "ab" for text in "123"]


def test_a_tail_says_what_is_lost_and_what_has_ended(tmp_path: Path) -> None:
    with terminal(log=f"sqlite:///{tmp_path}/log.db", retention_messages=2) as shell:
        for text in ("1", "2"):
            shell.hub.publish("a", text)
        end = shell.hub.end("a", '{"why":"done"}')
        gap, two, last, over = shell.ask("tail", "a", "--from-start")
        assert (gap["type"], gap["newest"]) == ("gap", str(end.id))
        assert (two["data"], last["event"], last["data"]) == ("2", "end", '{"why":"done"}')
        assert over == {"type": "ended", "channel": "a"}
        assert shell.ask("tail", "a") == [over]  # nothing comes: it does not wait for it
        said = shell.call("tail", "a", "--from-start")
        assert "a  gap: what follows" in said.stdout
        assert "a  has ended" in said.stdout
        assert f"Resume with: --after {end.id}" in said.stderr


def test_what_a_terminal_would_obey_is_shown_and_not_done(shell: Terminal) -> None:
    evil = "\x1b]0;title\x07\x9b2J\nnext\u2028\u202e 好\u3000"
    shell.hub.publish("a", evil)
    text = shell.call("tail", "a", "--history", "1", "--count", "1").stdout
    assert text.endswith(r"  \x1b]0;title\x07\x9b2J\nnext\u2028\u202e 好" + "\u3000\n")
    raw = shell.call("tail", "a", "--history", "1", "--count", "1", "--json").stdout
    assert raw.isascii()
    assert json.loads(raw)["data"] == evil


def test_a_tail_begins_in_one_place() -> None:
    with terminal() as shell:
        result = shell.call("tail", "a", "--after", "x-1", "--from-start")
    assert result.exit_code == 2
    assert "each say where to begin" in result.output


APP = """
from flask import Flask
from streaming import Streaming
app = Flask(__name__)
app.config["STREAMING_LOG"] = {url!r}
Streaming(app)
"""


def test_a_tail_follows_a_server_and_ctrl_c_ends_it_well(shell: Terminal, tmp_path: Path) -> None:
    url = shell.app.config["STREAMING_LOG"]
    (tmp_path / "tailed.py").write_text(APP.format(url=url), "utf-8")
    command = [sys.executable, "-m", "flask", "--app", "tailed", "streaming", "tail", "a"]
    with subprocess.Popen(
        [*command, "--history", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            shell.hub.publish("a", "first")
            assert process.stdout is not None
            assert process.stdout.readline().endswith("first\n")
            last = shell.hub.publish("a", "second")
            assert process.stdout.readline().endswith("second\n")
            process.send_signal(signal.SIGINT)
            rest, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, rest) == (0, "")
    assert said == f"Resume with: --after {last.id}\n"


def test_ctrl_c_breaks_off_nothing_that_a_tail_does(
    shell: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shell.hub.publish("a", "first")
    is_through = []
    read = Subscription.read

    def read_and_be_stopped(self: Subscription) -> list[Message | Gap]:
        signal.raise_signal(signal.SIGINT)
        items = read(self)
        is_through.append(items)
        return items

    monkeypatch.setattr(Subscription, "read", read_and_be_stopped)
    result = shell.call("tail", "a", "--from-start")
    assert (result.exit_code, [[m.data for m in items] for items in is_through]) == (0, [["first"]])
    assert result.stderr == f"Resume with: --after {first.id}\n"


def test_the_second_ctrl_c_does_not_wait(shell: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    is_stopped = []

    def never(self: Subscription, timeout: float | None = None) -> list[Message | Gap]:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            is_stopped.append(True)
        return []

    monkeypatch.setattr(Subscription, "take", never)
    assert shell.call("tail", "a").exit_code == 0
    assert is_stopped == [True]


def test_channels_are_listed_with_what_they_hold(shell: Terminal) -> None:
    shell.hub.publish("job:1", "x")
    newest = shell.hub.publish("job:1", "y")
    end = shell.hub.end("job:2")
    shell.hub.publish("other", "z")
    rows = {row.pop("channel"): row for row in shell.ask("channels", "job:")}
    assert rows == {
        "job:1": {"messages": 2, "newest": str(newest.id), "ended": False},
        "job:2": {"messages": 1, "newest": str(end.id), "ended": True},
    }
    assert len(shell.ask("channels", "--limit", "2")) == 2
    table = shell.call("channels", "job:2").stdout.splitlines()
    assert [line.split() for line in table] == [
        ["CHANNEL", "MESSAGES", "NEWEST", "ENDED"],
        ["job:2", "1", str(end.id), "yes"],
    ]
    assert shell.call("channels", "none").stderr == "The log holds no such channels.\n"


def test_what_was_pruned_is_a_gap_to_who_comes_for_it(shell: Terminal) -> None:
    first = shell.hub.publish("a", "first")
    last = shell.hub.publish("a", "last")
    with shell.hub.subscribe("a", after=str(first.id)) as reader:
        asked = shell.call("prune", "a", given="n\n")
        assert (asked.exit_code, asked.stdout) == (1, "")
        assert "Forget all messages of a?" in asked.stderr
        assert shell.ask("prune", "a", "b", "--yes") == [
            {"channel": "a", "messages": 2},
            {"channel": "b", "messages": 0},
        ]
        (gap,) = reader.read()
    assert isinstance(gap, Gap)
    assert (gap.requested, reader.id) == (first.id, str(last.id))
    refused = shell.call("prune", "a", "no channel", "--yes")
    assert (refused.exit_code, refused.stdout) == (1, ""), "nothing goes where a name is wrong"


def test_members_are_listed_and_a_room_that_is_none_refused(shell: Terminal) -> None:
    presence = shell.app.extensions["streaming"].presence
    presence.join("chat", "user:7", '{"x":1}', name="爱丽丝")
    assert shell.ask("members", "chat") == [
        {"id": "user:7", "name": "爱丽丝", "connections": 1, "info": '{"x":1}'}
    ]
    assert shell.call("members", "chat").stdout.splitlines()[0].split()[0] == "ID"
    assert shell.call("members", "empty").stderr == "Nobody is in empty.\n"
    assert shell.call("members", "chat:presence").exit_code == 1


def test_runs_are_listed_and_looking_at_one_keeps_none_going(tmp_path: Path) -> None:
    app = Flask(__name__)
    app.config["STREAMING_LOG"] = f"sqlite:///{tmp_path}/log.db"
    streaming = Streaming(app)

    def answer() -> Iterator[str]:
        yield "words"
        while not current_run().wait(0.01):
            pass

    with terminal(app) as shell, app.app_context():
        run = streaming.run(answer, on_disconnect="cancel")
        run_id = run.id
        (row,) = wait_until(lambda: shell.ask("runs"), "the run")
        assert (row["id"], row["state"], row["ended"]) == (run_id, "running", None)
        seen: list[str] = []
        shell.hub.watch("run:", seen.append)  # how readers are noted
        words = shell.ask("tail", run.channel, "--from-start", "--count", "2")[-1]
        assert (words["data"], seen) == ("words", [])
        run.stop()
        wait_until(lambda: shell.ask("runs")[0]["state"] == "stopped", "its end")
        assert shell.call("runs").stdout.splitlines()[1].split()[:2] == [run_id, "stopped"]


CLIENT = "0123456789abcdef"


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ("disconnect --identity 7", ("7", None, None, False)),
        ("revoke --identity 7", ("7", None, None, True)),
        (f"revoke --client {CLIENT}", (None, None, CLIENT, True)),
        ("revoke --channel a --identity 7", ("7", "a", None, False)),
    ],
)
def test_an_order_reaches_all_processes(
    shell: Terminal, line: str, order: tuple[str | None, str | None, str | None, bool]
) -> None:
    with shell.hub.subscribe(ORDERS) as heard:
        (said,) = shell.ask(*line.split())
        found = wait_until(lambda: heard.take(0), "the order")
    names = ("identity", "channel", "client", "is_final")
    assert json.loads(found[0].data) == dict(zip(names, order, strict=True))  # type: ignore[union-attr]
    given = {k: v for k, v in zip(names[:3], order[:3], strict=True) if v is not None}
    assert said == {"order": line.split()[0], **given}


def test_an_order_that_means_nobody_or_everybody_is_refused() -> None:
    with terminal() as shell:
        assert "Say whom" in shell.call("revoke").output
        assert shell.call("revoke").exit_code == 2
        assert "no client's id" in shell.call("revoke", "--client", "x").output


def test_a_ticket_is_good_for_what_it_says(tmp_path: Path) -> None:
    app = make_app(authorize=lambda action, channel: False, log=f"sqlite:///{tmp_path}/log.db")
    with terminal(app) as shell:
        assert "SECRET_KEY" in shell.call("ticket", "private:7").output
        app.secret_key = "s" * 32
        (said,) = shell.ask("ticket", "private:7", "--identity", "7", "--once")
        assert (said["identity"], said["actions"]) == ("7", ["subscribe"])
        plain = shell.call("ticket", "private:7").stdout.strip()
        with serve(app) as site:
            for text, status in ((said["ticket"], 200), (plain, 200), (said["ticket"], 401)):
                path = f"/streaming/events?channel=private:7&ticket={text}"
                with site.get(path) as client:
                    assert client.status == status


QUICK = ["--wait", "0.5"]


def test_clients_of_all_workers_are_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    with (
        terminal(log=url) as shell,
        terminal(log=url) as elsewhere,
        serve(shell.app) as one,
        serve(elsewhere.app) as other,
        one.get("/streaming/events?channel=news&channel=b") as first,
        other.get("/streaming/events?channel=news") as second,
        other.json() as third,
    ):
        assert first.next_event()
        assert second.next_event()

        def named(many: int, *whom: str) -> list[Any]:
            """So many clients, whenever both workers have answered in time."""
            return wait_until(
                lambda: rows if len(rows := shell.ask("clients", *whom, *QUICK)) == many else [],
                f"{many} clients",
            )

        def listed(*how: str) -> Result:
            """What is said when both have answered."""
            return wait_until(
                lambda: (
                    said if ": 2." in (said := shell.call("clients", *how, *QUICK)).stderr else None
                ),
                "two answers",
            )

        rows = named(3)
        assert {row["transport"] for row in rows} == {"sse", "websocket"}
        assert third.client in {row["id"] for row in rows}
        (both,) = [row for row in rows if row["channels"] == ["news", "b"]]
        assert (both["identity"], both["peer"].partition(":")[0]) == (None, "127.0.0.1")
        assert len(named(2, "--channel", "news")) == 2
        assert shell.ask("clients", "--identity", "7", *QUICK) == []
        some = listed("--limit", "1")
        assert "  news b  " in listed("--channel", "b").stdout
        assert len(some.stdout.splitlines()) == 3  # the head, and one of each
        assert "Not named: 1 more" in some.stderr
