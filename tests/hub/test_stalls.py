"""The whole engine under a storm: stalls, torn writes, cuts at any byte, and restarts.

Clients of one and of several channels read real streams, as Server-Sent Events and as lines of
JSON, and come back with the last id they saw.
"""

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import pytest

from streaming.clients import formats
from streaming.clients.formats import EventFormat
from streaming.errors import StreamingError
from streaming.hub.hub import Hub
from streaming.hub.subscription import Reading, Subscription
from streaming.logs import MemoryLog, Retention
from streaming.message import Cursor, Gap, Message, Position
from streaming.wire import sse
from tests.greenlets import in_greenlets
from tests.hub.engine import Crew, check_nothing_is_left, hurried
from tests.hub.seats import SocketSink, encode
from tests.hub.streams import FORMS, Chunks, reader
from tests.polling import PATIENCE, wait_until

ROUNDS = int(os.environ.get("STALL_ROUNDS", "1"))
"""How many storms, each with another seed."""

CHANNELS = ("a", "b", "c")
PUBLISHERS = 4
EACH = 80
END = "the end"
LAST_CHUNK = b"0\r\n\r\n"


class Counts:
    """What the storm did, so that a calm one is no proof."""

    def __init__(self) -> None:
        self.parked = self.torn = self.full = self.shut = self.cut = self.gaps = 0


class Connection:
    """One response: what a server does with a stream, in a thread of its own.

    Everything is sent in chunks. Where it may, it parks, and its owner writes only when the
    dispatcher has stalled, or to send a heartbeat.
    """

    def __init__(self, sock: socket.socket, form: EventFormat, counts: Counts) -> None:
        self._sock = sock
        self._form = form
        self._counts = counts
        self._is_direct = not os.get_blocking(sock.fileno())
        self._sink = SocketSink(sock) if self._is_direct else None

    def serve(self, hub: Hub, channels: tuple[str, ...], cursor: str) -> None:
        with suppress(OSError), self._sock:
            try:
                with hub.subscribe(channels, after=cursor) as sub:
                    self._send(formats.ready(self._form, sub.channels, sub.id))
                    while True:
                        self._step(sub)
            except StreamingError as reason:
                self._finish()
                self._send(formats.farewell(self._form, reason, 0))
                self._sock.sendall(LAST_CHUNK)

    def _step(self, sub: Subscription) -> None:
        if sub.reason is not None:
            raise sub.reason
        if sub.phase is Reading.LAGGING:
            self._finish()
            items = sub.read_on()
            if items:
                self._send(b"".join(self._encode(sub, item) for item in items))
                return
        self._park(sub)
        if not sub.bell.wait(0.02):
            self._beat()

    def _park(self, sub: Subscription) -> None:
        """Lend the socket, if the subscriber is at the head; there is no switch in here."""
        if self._sink is None or (self._sink.rest and sub.phase is Reading.LIVE):
            return
        if sub.phase is Reading.LIVE or sub.park(self._form, self._sink):
            self._counts.parked += 1
            self._sink.open()

    def _beat(self) -> None:
        """A heartbeat; while it is under way the dispatcher finds the socket shut."""
        self._finish()
        self._counts.shut += self._sink is not None
        self._send(self._form.heartbeat)

    def _finish(self) -> None:
        if self._sink is not None:
            self._counts.torn += self._sink.torn
            self._counts.full += self._sink.full
            self._sink.torn = self._sink.full = 0
            self._sink.finish()

    def _send(self, blocks: bytes) -> None:
        self._sock.sendall(self._form.frame(blocks))

    def _encode(self, sub: Subscription, item: Message | Gap) -> bytes:
        if isinstance(item, Gap):
            self._counts.gaps += 1
            return self._form.gap(item, sub.step(item))
        return encode(sub, self._form, item)


class Site:
    """One log, and the workers that serve it one after the other."""

    def __init__(self, retention: Retention, counts: Counts) -> None:
        self.log = MemoryLog(retention)
        self.counts = counts
        self.hubs = [Hub(self.log)]

    @property
    def hub(self) -> Hub:
        return self.hubs[-1]

    def restart(self) -> None:
        """Another worker on the same log; everybody has to come back."""
        old = self.hub
        self.hubs.append(Hub(self.log))
        old.close()


class Listener:
    """A client that stalls, is cut off at any byte and comes back, until it has all the ends."""

    def __init__(self, site: Site, channels: tuple[str, ...], cursor: str, seed: float) -> None:
        self.channels = channels
        self.events: list[sse.Event] = []
        self._site = site
        self._cursor = cursor
        self._dice = random.Random(seed)
        self._form = self._dice.choice(list(FORMS.values()))

    @property
    def is_over(self) -> bool:
        return sum(event.data.endswith(END) for event in self.events) == len(self.channels)

    def listen(self) -> None:
        while not self.is_over:
            ours, theirs = socket.socketpair()
            size = self._dice.choice([1, 10_000, 100_000])
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            theirs.settimeout(PATIENCE)
            connection = Connection(ours, self._form, self._site.counts)
            server = threading.Thread(
                target=connection.serve, args=(self._site.hub, self._shuffled(), self._cursor)
            )
            server.start()
            with theirs:
                self._read(theirs)
            server.join(PATIENCE)
            assert not server.is_alive(), "the server did not notice that the client left"

    def _shuffled(self) -> tuple[str, ...]:
        """The order in which a client names its channels is not part of its cursor."""
        return tuple(self._dice.sample(self.channels, len(self.channels)))

    def _read(self, theirs: socket.socket) -> None:
        """One connection, up to its end or ours."""
        chunks, events = Chunks(), reader(self._form)
        left = self._dice.choice([50, 1000, 20_000, 300_000, 1 << 30])  # bytes, then it is cut
        while left and not self.is_over:
            if self._dice.random() < 0.05:
                time.sleep(self._dice.random() * 0.05)  # the stall itself, nothing waits for it
            data = theirs.recv(min(left, self._dice.choice([10, 3000, 100_000])))
            if not data:
                return
            left -= len(data)
            self.events += events.feed(chunks.feed(data))
            self._cursor = events.last_id or self._cursor
        self._site.counts.cut += not left


Texts = dict[tuple[str, int], str]
"""What was published, by channel and offset."""


def publish(site: Site, seed: float, is_here: bool, texts: Texts) -> None:
    """Publish at random; ``is_here`` as a publisher of this process, which waits for slow ones."""
    dice = random.Random(seed)
    for _ in range(EACH):
        if dice.random() < 0.6:  # time to come back to the head
            time.sleep(dice.random() * 0.06)
        for _ in range(dice.choice([1, 1, 3])):
            channel = dice.choice(CHANNELS)
            text = f"{channel} " + f"{dice.random()} " * dice.choice(
                [0, 0, 1, 1, 10, 10, 300, 1500]
            )
            append = site.hub.publish if is_here else site.log.append
            message = append(channel, text)
            texts[channel, message.id.offset] = text


class Story:
    """What a client was told, checked: nothing lost, doubled, reordered or changed, but for what a
    gap said; and every id names the place of each channel up to there."""

    def __init__(self, listener: Listener, texts: Texts) -> None:
        self._texts = texts
        self._channels = listener.channels
        self.last = dict.fromkeys(listener.channels, 0)
        self.lost = 0
        for event in listener.events:
            self._check(event)

    def _check(self, event: sse.Event) -> None:
        if event.event == "restart":
            return
        places = dict(self._places(event.id))
        moved = [name for name, place in places.items() if place != self.last[name]]
        if event.event == "ready":
            assert not moved, "it does not go on where it stopped"
        elif event.event == "gap":
            (name,) = moved
            assert places[name] > self.last[name], "a gap in which nothing is missing"
            self.lost += places[name] - self.last[name]
        else:
            (name,) = moved
            assert places[name] == self.last[name] + 1, f"not the next in {name}"
            assert event.event == "message"
            assert event.data == self._texts[name, places[name]]
        self.last = places

    def _places(self, id: str) -> Iterator[tuple[str, int]]:
        cursor = Cursor.parse(id)
        assert (cursor.single is None) == (len(self._channels) > 1)
        for name in self._channels:
            place = cursor.get(name)
            assert place is not None
            yield name, 0 if place.is_mark else place.offset


def storm(seed: float, held: int, clients: int) -> tuple[Counts, list[Story]]:
    """One storm from its beginning to its end."""
    dice, counts, crew, texts = random.Random(seed), Counts(), Crew(), {}
    site = Site(Retention(messages=held, size=1 << 30), counts)
    listeners = [new_listener(site, dice) for _ in range(clients)]
    for listener in listeners:
        crew.start(listener.listen)
    writers = Crew()
    for n in range(PUBLISHERS):
        seed = dice.random()
        writers.start(lambda seed=seed, n=n: publish(site, seed, n % 2 == 0, texts))
    for part in (1, 2):
        wanted = PUBLISHERS * EACH * part // 3
        wait_until(lambda wanted=wanted: len(texts) > wanted, "a part is published", 60)
        site.restart()
    writers.join()
    heads: dict[str, Position] = {}
    for name in CHANNELS:
        text = f"{name} {END}"
        heads[name] = site.hub.publish(name, text).id
        texts[name, heads[name].offset] = text
    crew.join(100)
    for hub in site.hubs:
        check_nothing_is_left(hub)
    stories = [Story(listener, texts) for listener in listeners]
    check_all_is_told(stories, heads)
    return counts, stories


def new_listener(site: Site, dice: random.Random) -> Listener:
    channels = tuple(dice.sample(CHANNELS, dice.choice([1, 1, 2, 3])))
    with site.hub.subscribe(channels) as sub:
        return Listener(site, channels, sub.id, dice.random())


def check_all_is_told(stories: list[Story], heads: Mapping[str, Position]) -> None:
    for story in stories:
        assert story.last == {name: heads[name].offset for name in story.last}


@pytest.mark.parametrize("held", [100_000, 10])
@pytest.mark.parametrize("seed", range(ROUNDS))
@in_greenlets
def test_whatever_stalls_tears_or_dies_every_stream_tells_what_the_log_says(
    seed: int, held: int
) -> None:
    counts, stories = storm(seed, held, clients=120)
    assert any(story.lost for story in stories) == (held < 100_000)
    assert bool(counts.gaps) == (held < 100_000)
    assert counts.parked > len(stories), "hardly anybody came to rest"
    assert counts.torn, "no write was torn"
    assert counts.full, "no write found the socket full"
    assert counts.shut, "no write found the socket shut"
    assert counts.cut > len(stories), "hardly anybody was cut"


@pytest.mark.parametrize("held", [100_000, 10])
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_the_same_holds_for_threads_which_read_the_log_themselves(seed: int, held: int) -> None:
    with hurried(seed % 2 == 1):
        counts, stories = storm(seed, held, clients=20)
    assert any(story.lost for story in stories) == (held < 100_000)
    assert counts.parked == 0
    assert counts.cut > len(stories)


def test_a_story_with_a_fault_is_noticed() -> None:
    """What checks the storm is checked itself."""
    texts = {("a", n): f"a {n}" for n in range(1, 4)}
    good = [sse.Event("ready", "{}", "f-0")]
    good += [sse.Event("message", f"a {n}", f"f-{n}") for n in range(1, 4)]
    bad: list[Callable[[list[sse.Event]], object]] = [
        lambda events: events.pop(2),
        lambda events: events.insert(2, events[2]),
        lambda events: events.insert(1, events.pop(2)),
        lambda events: events.insert(2, sse.Event("ready", "{}", "f-0")),
        lambda events: events.insert(2, sse.Event("gap", "{}", "f-1")),
        lambda events: events.insert(2, sse.Event("message", "a 1", "f-2")),
    ]

    def tell(events: list[sse.Event]) -> Story:
        listener = Listener.__new__(Listener)
        listener.channels, listener.events = ("a",), events
        return Story(listener, texts)

    assert tell(good).last == {"a": 3}
    for spoil in bad:
        events = list(good)
        spoil(events)
        with pytest.raises((AssertionError, ValueError)):
            tell(events)
