"""streaming/hub/fanout.py: one batch on its way to every socket at the head. In greenlets."""

import os
import random
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streaming.bell import give_turn
from streaming.errors import LogUnavailable
from streaming.hub import dispatcher, fanout, workers
from streaming.hub.encodings import LARGE
from streaming.hub.fanout import LOOK, Fanout
from streaming.hub.hub import Hub
from streaming.hub.remainder import Remainder
from streaming.hub.sink import Rest
from streaming.hub.subscription import Reading
from streaming.logs import MemoryLog, Retention
from streaming.logs.followers import Followers
from streaming.message import Gap, Message, Position
from tests.broken_log import BrokenLog
from tests.greenlets import in_greenlets
from tests.hub.engine import channel_of, check_nothing_is_left, head_of, is_at_rest, settle
from tests.hub.renamed_log import RenamedLog
from tests.hub.seats import Client, Lines, NullSink, SocketSink, all_of
from tests.hub.streams import FORMS, Chunks, reader
from tests.polling import PATIENCE, wait_until


def leave(hub: Hub, *clients: Client) -> None:
    for client in clients:
        client.close()
    check_nothing_is_left(hub)


def texts(items: list[Message | Gap]) -> list[str]:
    return [item.data for item in items if isinstance(item, Message)]


@in_greenlets
def test_whoever_is_at_the_head_is_written_to_at_once_and_encoded_for_once() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    clients = [Client(hub, form) for _ in range(LOOK * 2 + 10)]
    for text in ("one", "two", "three"):
        hub.publish("a", text)
        settle(hub)
    for client in clients:
        assert client.arrived() == b"one\ntwo\nthree\n"
        assert client.is_live
        assert client.sub.id == str(hub.log.tail("a"))
    assert form.encoded == 3
    held = hub.log.read("a", Position(hub.log.tail("a").epoch, 0), limit=10, size=100).messages
    assert [message._encoded for message in held] == [{}] * 3, "bytes nobody needs any more"
    assert hub.subscribers("a") == len(clients)
    leave(hub, *clients)


@in_greenlets
def test_what_waits_is_written_as_one_piece() -> None:
    hub, written = Hub(MemoryLog()), []
    client = Client(hub, Lines())

    def write(fd: int, data: bytes) -> int:
        written.append(data)
        return os.write(fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fanout, "os", SimpleNamespace(write=write))
        for n in range(100):
            hub.publish("a", str(n))
        settle(hub)
    assert written == [b"".join(b"%d\n" % n for n in range(100))]
    assert client.arrived() == written[0]
    leave(hub, client)


@in_greenlets
def test_the_publisher_sees_its_own_messages_in_its_own_way_and_in_the_same_order() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    ann, bob, eve = (Client(hub, form, name) for name in ("ann", "bob", "eve"))
    for sender in ("ann", "bob", None, "gone", "ann"):
        hub.publish("a", str(sender), sender=sender)
    settle(hub)
    assert ann.arrived() == b"own ann\nbob\nNone\ngone\nown ann\n"
    assert bob.arrived() == b"ann\nown bob\nNone\ngone\nann\n"
    assert eve.arrived() == b"ann\nbob\nNone\ngone\nann\n"
    leave(hub, ann, bob, eve)


@in_greenlets
def test_formats_do_not_mix() -> None:
    class Loud(Lines):
        def encode(self, message: Message, /) -> bytes:
            return super().encode(message).upper()

    hub = Hub(MemoryLog())
    quiet, loud = Client(hub, Lines()), Client(hub, Loud())
    hub.publish("a", "text")
    settle(hub)
    assert (quiet.arrived(), loud.arrived()) == (b"text\n", b"TEXT\n")
    leave(hub, quiet, loud)


@in_greenlets
def test_a_client_that_never_reads_stops_neither_the_dispatcher_nor_anybody_else() -> None:
    hub, form = Hub(MemoryLog(Retention(messages=100))), Lines()
    clients = [Client(hub, form) for _ in range(20)]
    slow = clients[7]
    stuffed = slow.fill()
    wait_until(lambda: not slow.sub.bell.wait(0), "no older ring is left")
    hub.publish("a", "0")
    settle(hub)
    assert slow.sub.bell.wait(0), "its own greenlet has to know, though no more may come"
    for n in range(1, 1000):
        hub.publish("a", str(n))
        if n % 50 == 49:
            settle(hub)
    for client in clients:
        if client is not slow:
            assert client.arrived() == b"".join(b"%d\n" % n for n in range(1000))
            assert client.is_live
    assert slow.sub.phase is Reading.LAGGING
    assert slow.receive(stuffed) == b"." * stuffed
    assert slow.arrived() == b"", "the kernel took nothing of it"
    lost, *held = slow.sub.read_on()
    assert isinstance(lost, Gap)
    assert lost.requested.offset == 0
    assert texts(held) == [str(n) for n in range(900, 1000)]
    leave(hub, *clients)


@in_greenlets
def test_a_frame_that_went_half_way_is_finished_and_not_repeated() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    client = Client(hub, form)
    large = "0123456789" * 100_000
    hub.publish("a", large)
    settle(hub)
    hub.publish("a", "next")
    settle(hub)
    assert client.sub.phase is Reading.LAGGING
    assert 0 < len(client.sink.rest) < len(large), "the test needs a part of it in the kernel"
    threading.Thread(target=client.park).start()
    assert client.receive(len(large) + 6) == f"{large}\nnext\n".encode()
    wait_until(lambda: client.is_live and client.sink.fd >= 0, "it has caught up")
    hub.publish("a", "live again")
    assert client.receive(11) == b"live again\n"
    assert client.arrived() == b""
    leave(hub, client)


@in_greenlets
def test_nothing_is_written_to_a_client_that_closed_its_subscription() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    stays, leaves = Client(hub, form), Client(hub, form)
    leaves.sub.close()
    assert leaves.sub.phase is Reading.CLOSED
    hub.publish("a", "text")
    settle(hub)
    assert (stays.arrived(), leaves.arrived()) == (b"text\n", b"")
    leave(hub, stays, leaves)


@in_greenlets
def test_a_closed_socket_lets_its_subscriber_lag_and_nobody_else() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    stays, shut, gone = (Client(hub, form) for _ in range(3))
    shut.sink.fd = -1  # as long as its owner writes itself
    gone.theirs.close()
    hub.publish("a", "text")
    settle(hub)
    assert [c.is_live for c in (stays, shut, gone)] == [True, False, False]
    assert texts(shut.sub.read_on()) == texts(gone.sub.read_on()) == ["text"]
    assert stays.arrived() == b"text\n"
    leave(hub, stays, shut, gone)


@in_greenlets
def test_whoever_stalls_knows_each_time_where_to_read_on() -> None:
    hub = Hub(MemoryLog())
    client = Client(hub, Lines(), channels=["a", "b"])
    for n in range(3):
        client.sink.fd = -1  # shut
        hub.publish("a", str(n))
        settle(hub, "a", "b")
        assert texts(client.sub.read_on()) == [str(n)]
        client.park()
    leave(hub, client)


@in_greenlets
def test_a_dispatcher_that_comes_too_late_itself_lets_everybody_be_told() -> None:
    hub, form = Hub(MemoryLog(Retention(messages=10))), Lines()
    client = Client(hub, form)
    head = hub.log.tail("a")
    for n in range(50):
        hub.log.append("a", str(n))  # as another process does, which cannot be waited for
    settle(hub)
    assert client.sub.phase is Reading.LAGGING
    assert client.arrived() == b""
    lost, *held = client.sub.read()
    assert isinstance(lost, Gap)
    assert lost.requested == head
    assert texts(held) == [str(n) for n in range(40, 50)]
    leave(hub, client)


@in_greenlets
def test_whoever_is_live_stays_so_when_the_log_goes_on_in_a_new_epoch() -> None:
    log, form = RenamedLog(), Lines()
    hub = Hub(log)
    client = Client(hub, form)
    hub.publish("a", "one")
    settle(hub)
    log.rename()
    wait_until(lambda: client.sub.id == "1abc-1", "it is told the new place")
    log.rename()
    hub.publish("a", "two")
    settle(hub)
    assert client.arrived() == b"one\ntwo\n"
    assert (client.is_live, client.sub.id) == (True, "2abc-2")
    leave(hub, client)


@in_greenlets
def test_whoever_is_not_where_the_dispatcher_stands_does_not_park() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    client = Client(hub, form)
    with hub.subscribe("a") as behind, hub.subscribe("a") as ahead:
        hub.log.append("a", "one")
        assert texts(ahead.read()) == ["one"]
        assert not ahead.park(form, client.sink), "the dispatcher has not seen it yet"
        settle(hub)
        assert not behind.park(form, client.sink), "it has not seen it yet itself"
        assert ahead.park(form, client.sink)
    leave(hub, client)


@pytest.mark.parametrize("reads", [1, 4])
@in_greenlets
def test_whoever_is_the_first_is_written_to_from_the_start(reads: int) -> None:
    """Nobody would ring it once the dispatcher's thread is there."""
    log = BrokenLog()
    log.reads = reads  # type: ignore[misc]
    hub, form, parked = Hub(log), Lines(), []

    def come(name: str) -> None:
        sub = hub.subscribe(name)
        assert sub.read_on() == []
        parked.append((sub.park(form, NullSink(-1)), sub))

    for _ in range(3):
        come("a")
        crew = [threading.Thread(target=come, args=(f"c{n % 5}",)) for n in range(20)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        assert [is_parked for is_parked, _ in parked] == [True] * 21
        while parked:
            parked.pop()[1].close()
        check_nothing_is_left(hub)


@in_greenlets
def test_what_is_told_of_in_another_order_arrives_in_the_logs() -> None:
    """Two threads append; the second is the first to say so."""
    log = MemoryLog()
    hub, form, told = Hub(log), Lines(), []
    client = Client(hub, form)
    tell = Followers.tell
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Followers, "tell", lambda *event: told.append(event))
        for text in ("one", "two", "three"):
            log.append("a", text)
    for event in reversed(told):
        tell(*event)
        wait_until(lambda: not channel_of(hub).news, "the dispatcher has looked")
    settle(hub)
    assert client.arrived() == b"one\ntwo\nthree\n"
    leave(hub, client)


# Several channels


@in_greenlets
def test_whoever_follows_several_channels_is_written_to_with_its_own_ids() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    client, other = Client(hub, form, channels=["a", "b"]), Client(hub, form, channels=["b"])
    hub.publish("a", "one")
    settle(hub, "a", "b")
    first = client.arrived().decode()
    one = hub.log.tail("a")
    assert first == f"one {client.sub.others('a').decode()}\n"
    for text in ("two", "three"):
        hub.publish("b", text)
    settle(hub, "a", "b")
    ids = client.sub.others("b").decode()
    assert str(one) in ids
    assert client.arrived().decode() == f"two {ids}\nthree {ids}\n"
    assert other.arrived() == b"two\nthree\n"
    assert client.is_live
    assert client.sub.id.count(".") == 1
    leave(hub, client, other)


@in_greenlets
def test_whoever_stalls_in_one_of_several_channels_lags_in_all_and_misses_nothing() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    client = Client(hub, form, channels=["a", "b", "c"])
    hub.publish("a", "before")
    settle(hub, "a", "b", "c")
    client.arrived()
    stuffed = client.fill()
    for name in "abc":
        hub.publish(name, name)
    settle(hub, "a", "b", "c")
    assert client.sub.phase is Reading.LAGGING
    assert (client.sink.full, client.sink.torn) == (1, 0), "it stalls once"
    assert client.receive(stuffed) == b"." * stuffed
    told = [texts(client.sub.read_on()) for _ in range(4)]
    assert sorted(told) == [[], ["a"], ["b"], ["c"]], "a page of one channel at a time"
    leave(hub, client)


@in_greenlets
def test_a_torn_frame_in_one_of_several_channels_counts_as_told() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    client = Client(hub, form, channels=["a", "b"])
    hub.publish("a", "x" * 1_000_000)
    settle(hub, "a")
    hub.publish("b", "later")
    settle(hub, "b")
    assert client.sub.phase is Reading.LAGGING
    assert client.sink.torn == 1
    assert str(hub.log.tail("a")) in client.sub.id
    assert str(hub.log.tail("b")) not in client.sub.id
    assert texts(client.sub.read_on()) == ["later"]
    leave(hub, client)


def take_all(client: Client) -> bytes:
    """What it was sent, and what is still to be sent of that."""
    data = b""
    while piece := client.arrived():
        data += piece
    data += all_of(client.sink.rest)
    client.sink.rest = b""
    return data


@in_greenlets
def test_a_large_message_is_sent_as_far_as_each_socket_takes_it_and_goes_on_there() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    alone, other, own = (Client(hub, form, name) for name in ("x", "y", "me"))
    among, full = Client(hub, form, channels=["a", "b"]), Client(hub, form)
    stuffed = full.fill()
    text = "".join(f"{n:07d} " for n in range(100_000))
    hub.publish("a", text, sender="me")
    settle(hub, "a")
    assert {client.sink.torn for client in (alone, other, own, among)} == {1}
    assert (full.sink.torn, full.sink.full) == (0, 1)
    assert take_all(alone) == take_all(other) == f"{text}\n".encode()
    assert take_all(own) == f"own {text}\n".encode()
    line, places = take_all(among).removesuffix(b"\n").rsplit(b" ", 1)
    assert line == text.encode()
    assert places == among.sub.others("a")
    assert all(client.sub.read_on() == [] for client in (alone, other, own, among))
    assert full.receive(stuffed) == b"." * stuffed
    assert texts(full.sub.read_on()) == [text]
    leave(hub, alone, other, own, among, full)


@in_greenlets
def test_a_large_message_that_every_socket_takes_leaves_everybody_at_the_head() -> None:
    hub, fd = Hub(MemoryLog()), os.open(os.devnull, os.O_WRONLY)
    subs = [hub.subscribe(channels) for channels in ("a", "a", ["a", "b"])]
    for sub in subs:
        while not sub.park(Lines(), NullSink(fd)):
            sub.read_on()
    for n in range(3):
        hub.publish("a", f"{n}" * 200_000)
    settle(hub)
    assert [sub.phase for sub in subs] == [Reading.LIVE] * 3
    assert [str(hub.log.tail("a")) in sub.id for sub in subs] == [True] * 3
    for sub in subs:
        sub.close()
    os.close(fd)
    leave(hub)


@pytest.mark.parametrize("log_is", ["away", "without it"])
@in_greenlets
def test_a_large_message_on_its_way_to_all_is_not_read_again_whatever_becomes_of_it(
    log_is: str,
) -> None:
    log = BrokenLog(Retention(messages=1))
    hub, text = Hub(log), "x" * (LARGE + 20_000)

    class Crowded(Lines):
        """Others need all the room whenever a part of it is made."""

        def escape(self, text: str, /) -> bytes:
            for encoded in tuple(hub._dispatcher.encodings._messages.values()):
                encoded.spans.clear()
            if log_is == "away":
                log.broken = {"read"}
            elif log.tail("a").offset == 1:
                log.append("a", "next")
            return super().escape(text)

    clients = [Client(hub, Crowded()) for _ in range(3)]
    log.calls.clear()
    hub.publish("a", text)
    wait_until(lambda: is_at_rest(hub) or "read:a" in log.calls, "it is written, or read again")
    log.broken = set()
    settle(hub)
    expected = f"{text}\n" if log_is == "away" else f"{text}\nnext\n"
    assert [client.arrived() for client in clients] == [expected.encode()] * 3
    assert [client.is_live for client in clients] == [True] * 3
    leave(hub, *clients)


@in_greenlets
def test_what_each_was_written_is_counted_without_a_step_for_each_write() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    alone, full = Client(hub, form), Client(hub, form)
    among = Client(hub, form, channels=["a", "b"])
    for _ in range(3):
        hub.publish("a", "12345")
        settle(hub)
    hub.publish("b", "1")
    settle(hub, "b")
    full.fill()
    hub.publish("a", "1234567890")
    settle(hub)
    late = Client(hub, form)  # stands behind all of it

    def counted(client: Client) -> tuple[int, ...]:
        sink = client.sink
        return tuple(map(sum, zip((sink.messages, sink.size), client.sub.passed, strict=True)))

    clients = (alone, among, full, late)
    assert [counted(client) for client in clients] == [(4, 25), (5, 26), (3, 15), (0, 0)]
    assert hub.tallies.delivery.count == 4 + 5 + 3
    assert sum(hub.tallies.delivery.counts[-1:]) == 0  # none took longer than 10 s
    leave(hub, *clients)
    assert [counted(client) for client in clients] == [(4, 25), (5, 26), (3, 15), (0, 0)]


@in_greenlets
def test_what_others_are_written_meanwhile_does_not_count_for_who_stalls_in_another_channel() -> (
    None
):
    hub, form = Hub(MemoryLog()), Lines()
    before = [Client(hub, form, channels="b") for _ in range(LOOK)]
    among = Client(hub, form, channels=["a", "b"])
    among.fill()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, "SLICE", -1.0)  # others have a turn after each look at the clock
        hub.publish("b", "12345")
        hub.publish("a", "1")
        settle(hub, "a", "b")
    assert not among.is_live
    assert [client.sink.messages + client.sub.passed[0] for client in before] == [1] * LOOK
    assert (among.sink.messages, among.sink.size) == (0, 0), "it has yet to read both"
    leave(hub, among, *before)


@in_greenlets
def test_those_who_stall_in_the_same_batch_share_what_is_left_of_it() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    clients = [Client(hub, form) for _ in range(5)]
    sent = [f"{n % 10}" * 600 for n in range(100)]
    for client in clients:
        client.receive(client.fill() // 8)  # there is room for a part
    for each in sent:
        hub.log.append("a", each)
    settle(hub)
    rests = [client.sink.rest for client in clients]
    torn = [rest for rest in rests if isinstance(rest, Remainder)]
    assert len(torn) == 5, "none was torn: no test"
    assert len({id(rest.encoded) for rest in torn}) == 1
    for client in clients:
        assert take_all(client).lstrip(b".") == "".join(f"{each}\n" for each in sent).encode()
    leave(hub, *clients)


@pytest.mark.parametrize("name", FORMS)
@in_greenlets
def test_every_id_that_several_channels_are_written_with_resumes_exactly_behind_it(
    name: str,
) -> None:
    hub, channels = Hub(MemoryLog()), ["a", "b", "c"]
    client, dice = Client(hub, FORMS[name], channels=channels), random.Random(1)
    told: list[str] = []
    for n in range(60):
        channel = dice.choice(channels[: n // 20 + 1])  # c has no message for a while
        told.append(f"{channel}{n}")
        hub.publish(channel, told[-1])
        if dice.random() < 0.3:
            settle(hub, *channels)
    settle(hub, *channels)
    events = reader(FORMS[name]).feed(Chunks().feed(client.arrived()))
    assert sorted(event.data for event in events) == sorted(told)
    for place, event in enumerate(events):
        left = [event.data for event in events[place + 1 :]]
        with hub.subscribe(reversed(channels), after=event.id) as sub:
            assert sorted(texts(sub.read())) == sorted(left)
        with hub.subscribe(["b", "new"], after=event.id) as sub:
            assert texts(sub.read()) == [text for text in left if text[0] == "b"]
    leave(hub, client)


# In the midst of a batch


def give_turns_until(condition: Callable[[], object]) -> int:
    """Let the others run until it is so; how many turns they had."""
    until, turns = time.monotonic() + PATIENCE, 0
    while not condition():
        assert time.monotonic() < until
        give_turn()
        turns += 1
    return turns


def crowd(hub: Hub, fd: int, count: int) -> list[Any]:
    """So many live subscriptions of channel ``a``."""
    form, subs = Lines(), [hub.subscribe("a") for _ in range(count)]
    wait_until(lambda: all(sub.park(form, NullSink(fd)) for sub in subs[:1]), "the first is live")
    assert all(sub.park(form, NullSink(fd)) for sub in subs[1:])
    return subs


def in_the_midst_of_a_batch(hub: Hub, act: Callable[[], object]) -> None:
    """Publish to the clients of ``hub`` and ``act`` while the dispatcher writes."""
    dispatcher.SLICE = workers.SLICE = 0.0  # a turn for the others at every look
    channel, before = channel_of(hub), head_of(hub)
    wrote: list[Position | None] = []

    def watch() -> None:
        give_turns_until(lambda: channel.position != before)
        act()
        wrote.append(channel.written)

    watcher = threading.Thread(target=watch)
    watcher.start()
    hub.publish("a", "text")
    watcher.join(PATIENCE)
    assert wrote == [before], "it was not in the midst of the batch"
    settle(hub)


@in_greenlets
def test_whoever_leaves_in_the_midst_of_a_batch_gets_nothing_of_it() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    clients = [Client(hub, form) for _ in range(LOOK * 2)]
    last = clients[-1]
    in_the_midst_of_a_batch(hub, last.sub.close)
    assert [client.arrived() for client in clients] == [b"text\n"] * (LOOK * 2 - 1) + [b""]
    leave(hub, *clients)


@in_greenlets
def test_whoever_returns_in_the_midst_of_a_batch_gets_it_once() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    clients = [Client(hub, form) for _ in range(LOOK * 2)]
    last, cursor = clients[-1], clients[-1].sub.id
    in_the_midst_of_a_batch(hub, lambda: last.return_from(cursor))
    assert last.arrived() == b"text\n"
    hub.publish("a", "more")
    settle(hub)
    assert last.arrived() == b"more\n"
    leave(hub, *clients)


@in_greenlets
def test_every_id_in_the_midst_of_a_batch_resumes_without_missing_anything() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    first, *others, last = [Client(hub, form) for _ in range(LOOK * 4)]
    ids: dict[str, str] = {}

    def look() -> None:
        others.append(Client(hub, form))
        ids["written to"], ids["not yet"] = first.sub.id, last.sub.id
        ids["come behind it"] = others[-1].sub.id
        last.sub.close()
        ids["left"] = last.sub.id

    in_the_midst_of_a_batch(hub, look)
    ids["later"], ids["later, too"] = first.sub.id, others[-1].sub.id
    missed = {}
    for who, cursor in ids.items():
        with hub.subscribe("a", after=cursor) as sub:
            missed[who] = texts(sub.read())
    assert missed.pop("written to") in (["text"], [])
    assert missed.pop("not yet") == missed.pop("left") == ["text"]
    assert missed == {"come behind it": [], "later": [], "later, too": []}
    leave(hub, first, *others, last)


@in_greenlets
def test_whoever_returns_in_the_midst_of_a_batch_with_a_full_socket_misses_nothing() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    clients = [Client(hub, form) for _ in range(LOOK * 2)]
    last, cursor = clients[-1], clients[-1].sub.id

    def return_and_fill() -> None:
        last.return_from(cursor)
        stuffed.append(last.fill())

    stuffed: list[int] = []
    in_the_midst_of_a_batch(hub, return_and_fill)
    assert last.receive(5 + stuffed[0]) == b"text\n" + b"." * stuffed[0]
    if last.sub.phase is Reading.LAGGING:
        last.park()
    hub.publish("a", "more")
    settle(hub)
    assert last.arrived() == b"more\n"
    leave(hub, *clients)


@in_greenlets
def test_whoever_stalls_elsewhere_in_the_midst_of_a_batch_and_parks_again_gets_it_once() -> None:
    """Its new seat is not the one that the batch was meant for."""
    hub, fd = Hub(MemoryLog()), os.open(os.devnull, os.O_WRONLY)
    subs = crowd(hub, fd, LOOK * 300)
    last = Client(hub, Lines(), channels=["a", "b"])

    def stall_and_park() -> None:
        stuffed = last.fill()
        hub.publish("b", "elsewhere")
        give_turns_until(lambda: last.sub.phase is Reading.LAGGING)
        last.receive(stuffed)
        last.park()

    in_the_midst_of_a_batch(hub, stall_and_park)
    lines = last.arrived().splitlines()
    assert sorted(line.split()[0] for line in lines) == [b"elsewhere", b"text"]
    assert last.is_live
    for sub in subs:
        sub.close()
    os.close(fd)
    leave(hub, last)


@in_greenlets
def test_the_last_who_leave_in_the_midst_of_a_batch_leave_nothing_behind() -> None:
    hub, fd = Hub(MemoryLog()), os.open(os.devnull, os.O_WRONLY)
    dispatcher.SLICE = workers.SLICE = 0.0
    subs = crowd(hub, fd, LOOK * 10)
    channel, before = channel_of(hub), head_of(hub)
    hub.publish("a", "text")
    give_turns_until(lambda: channel.position != before)
    assert channel.written == before, "the batch is over: no test"
    for sub in subs:
        sub.close()
    os.close(fd)
    leave(hub)


@in_greenlets
def test_a_batch_that_all_leave_while_it_is_on_its_way_is_a_span_that_ends() -> None:
    hub, fd, exporter = Hub(MemoryLog()), os.open(os.devnull, os.O_WRONLY), InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    dispatcher.SLICE = workers.SLICE = 0.0
    subs = crowd(hub, fd, LOOK * 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "get_tracer_provider", lambda: provider)
        hub.publish("a", "1", traceparent=f"00-{1:032x}-{1:016x}-01")
        give_turns_until(lambda: hub._dispatcher._fanouts)
        assert not exporter.get_finished_spans(), "the batch is over: no test"
        for sub in subs:
            sub.close()
        os.close(fd)
        leave(hub)
        wait_until(exporter.get_finished_spans, "its span has ended")


# Turns


class Turns:
    """Notes which channel's batch has had a slice."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.taken: list[str] = []
        run = Fanout.run

        def counted(batch: Fanout, until: float) -> bool:
            self.taken.append(batch._channel.name)
            return run(batch, until)

        patch.setattr(Fanout, "run", counted)


@in_greenlets
def test_a_fan_out_to_5000_sinks_does_not_hold_up_another_channel() -> None:
    hub, fd = Hub(MemoryLog()), os.open(os.devnull, os.O_WRONLY)
    dispatcher.SLICE = workers.SLICE = 0.0  # the smallest slices: LOOK writes
    subs = crowd(hub, fd, 5000)
    other = Client(hub, Lines(), channels="b")
    with pytest.MonkeyPatch.context() as patch:
        turns = Turns(patch)
        hub.publish("a", "text")
        give_turns_until(lambda: len(turns.taken) > 20)
        before = len(turns.taken)
        hub.publish("b", "text")
        give_turns_until(lambda: other.arrived())
        between = turns.taken[before:]
        assert channel_of(hub).written != head_of(hub), "a was done already: no test"
        assert between.index("b") <= 1
        settle(hub)
        assert turns.taken.count("a") >= 5000 // LOOK
    for sub in subs:
        sub.close()
    os.close(fd)
    leave(hub, other)


@in_greenlets
def test_other_greenlets_have_their_turns_while_a_crowd_is_written_to() -> None:
    hub, fd = Hub(MemoryLog()), os.open(os.devnull, os.O_WRONLY)
    dispatcher.SLICE = workers.SLICE = 0.0
    subs = crowd(hub, fd, 2000)
    channel = channel_of(hub)
    hub.publish("a", "text")
    turns = give_turns_until(lambda: channel.written == hub.log.tail("a"))
    assert turns >= 2000 // LOOK // 2
    for sub in subs:
        sub.close()
    os.close(fd)
    leave(hub)


@in_greenlets
def test_live_subscriptions_of_many_channels_cost_no_read_of_the_log() -> None:
    log = BrokenLog()
    hub, names = Hub(log), [f"c{n}" for n in range(32)]
    fd, form = os.open(os.devnull, os.O_WRONLY), Lines()
    subs = [hub.subscribe(names) for _ in range(100)]
    for sub in subs:
        wait_until(lambda sub=sub: not sub.read_on() and sub.park(form, NullSink(fd)), "it is live")
    settle(hub, *names)
    log.calls.clear()
    hub.publish("c7", "text")
    settle(hub, "c7")
    assert log.calls.count("read:c7") == 0
    assert all(str(log.tail("c7")) in sub.id for sub in subs)
    for sub in subs:
        sub.close()
    os.close(fd)
    leave(hub)


# Marks


@in_greenlets
def test_the_first_message_of_a_channel_arrives_exactly_once_at_whoever_is_live() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    one, both = Client(hub, form), Client(hub, form, channels=["a", "b"])
    assert head_of(hub).is_mark
    hub.publish("other", "moves the log on")
    late = Client(hub, form)  # its mark is another one
    assert head_of(hub).is_mark
    hub.publish("a", "first")
    settle(hub)
    assert [client.arrived().split()[0] for client in (one, both, late)] == [b"first"] * 3
    assert [client.is_live for client in (one, both, late)] == [True] * 3
    hub.publish("a", "second")
    settle(hub)
    assert [client.arrived().split()[0] for client in (one, both, late)] == [b"second"] * 3
    leave(hub, one, both, late)


@in_greenlets
def test_whoever_is_live_at_a_mark_is_told_when_the_log_loses_its_past_with_the_first_message() -> (
    None
):
    """What comes next has the number of a first message, and is not the first."""
    log = BrokenLog()
    hub = Hub(log)
    dispatcher._log.disabled = True
    client, log.broken = Client(hub, Lines()), {"read"}
    for text in ("lost", "lost, too"):  # of two, neither is at hand
        hub.publish("a", text)
    log.close()
    wait_until(lambda: channel_of(hub).is_retried, "it could not be read")
    assert channel_of(hub).news == []
    message = hub.publish("a", "next")
    log.broken = set()
    wait_until(lambda: not client.is_live, "it reads itself")
    gap, *rest = client.sub.read_on()
    assert isinstance(gap, Gap)
    assert (gap.oldest, rest) == (message.id, [message])
    leave(hub, client)


# Faults of our own


class Unspeakable(Lines):
    """Cannot say one text."""

    def encode(self, message: Message, /) -> bytes:
        if message.data == "unspeakable":
            raise ZeroDivisionError("a fault of ours")
        return super().encode(message)


@in_greenlets
def test_a_batch_that_cannot_be_written_ends_those_it_was_for_and_nobody_else() -> None:
    hub = Hub(MemoryLog())
    dispatcher._log.disabled = True
    one, other = Client(hub, Unspeakable()), Client(hub, Lines(), channels="b")
    both, lags = Client(hub, Unspeakable(), channels=["a", "b"]), hub.subscribe("a")
    message = hub.publish("a", "unspeakable")
    settle(hub)
    for sub in (one.sub, both.sub, lags):
        assert sub.phase is Reading.LAGGING
        with pytest.raises(LogUnavailable, match="'a' failed"):
            sub.read_on()
    assert one.sink.fd == both.sink.fd == -1
    hub.publish("b", "text")
    settle(hub, "b")
    assert other.arrived() == b"text\n"
    back = Client(hub, Lines())
    assert back.sub.is_past(message.id), "it will never be sent to it"
    hub.publish("a", "more")
    settle(hub)
    assert back.arrived() == b"more\n"
    lags.close()
    leave(hub, one, other, both, back)


@in_greenlets
def test_a_sink_that_fails_ends_its_own_subscriber_alone() -> None:
    class Broken(SocketSink):
        def hold(self, rest: Rest) -> None:
            raise RuntimeError("can't start new thread")

    hub, form = Hub(MemoryLog()), Lines()
    dispatcher._log.disabled = True
    good, bad = Client(hub, form), Client(hub, form)
    bad.sub.close()
    bad.sink.finish()
    bad.sink = Broken(bad.ours)
    bad.sub = hub.subscribe("a")
    bad.park()
    bad.fill()
    for text in ("one", "two"):
        hub.publish("a", text)
        settle(hub)
    assert good.arrived() == b"one\ntwo\n"
    assert good.is_live
    with pytest.raises(LogUnavailable):
        bad.sub.read_on()
    leave(hub, good, bad)


@in_greenlets
def test_what_is_published_in_the_midst_of_a_batch_follows_it_though_nothing_else_does() -> None:
    def publish(hub: Hub) -> None:
        hub.publish("a", "last")

    hub = Hub(MemoryLog())
    clients = [Client(hub, Lines()) for _ in range(LOOK * 4)]
    in_the_midst_of_a_batch(hub, lambda: publish(hub))
    wait_until(lambda: head_of(hub).offset == 2, "the dispatcher goes on by itself")
    settle(hub)
    assert {client.arrived() for client in clients} == {b"text\nlast\n"}
    leave(hub, *clients)
