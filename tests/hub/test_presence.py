"""streaming/hub/presence.py: who is in a room, over all processes."""

import json
import threading
from collections.abc import Iterator

import pytest

from streaming import (
    Hub,
    HubClosed,
    InvalidMessage,
    LogUnavailable,
    Member,
    MemoryLog,
    Message,
    Presence,
    Subscription,
    presence_channel,
)
from streaming.hub import attendance
from streaming.hub.presence import INFO_SIZE, is_presence_channel, room_of
from tests.greenlets import in_greenlets
from tests.polling import wait_until


class Homes(MemoryLog):
    """A log whose other processes die, and which is away, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.beats = 0

    def _try(self, verb: str) -> None:
        if verb in self.broken:
            raise LogUnavailable("The log is away.")

    def append(self, channel: str, data: str, **how: str | None) -> Message:  # type: ignore[override]
        self._try("append")
        return super().append(channel, data, **how)  # type: ignore[arg-type]

    def enter(self, room: str, member: Member) -> bool:
        self._try("enter")
        return super().enter(room, member)

    def leave(self, room: str, member: str) -> bool:
        self._try("leave")
        return super().leave(room, member)

    def beat(self) -> list[tuple[str, str]]:
        self.beats += 1
        self._try("beat")
        dead, self.dead = self.dead, []
        return [seat for seat in dead if super(Homes, self).leave(*seat)]

    def forget_everybody(self) -> None:
        """Be the log of which another process has taken all of us for dead."""
        with self._lock():
            self._rooms.clear()


@pytest.fixture
def log() -> Homes:
    return Homes()


@pytest.fixture
def hub(log: Homes) -> Hub:
    return Hub(log)


@pytest.fixture
def here(hub: Hub) -> Iterator[Presence]:
    """The presence of this process; everybody has left at the end."""
    here = Presence(hub)
    yield here
    here.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats that follow each other at once."""
    monkeypatch.setattr(attendance, "BEAT", 0.01)


class Told:
    """What a subscriber of a presence channel is told, from now on."""

    def __init__(self, hub: Hub, room: str = "r") -> None:
        self._subscription: Subscription = hub.subscribe(presence_channel(room))
        self._seen: list[tuple[str, dict[str, str]]] = []

    def __enter__(self) -> "Told":
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()

    @property
    def all(self) -> list[tuple[str, dict[str, str]]]:
        while items := self._subscription.read():
            for item in items:
                assert isinstance(item, Message)
                self._seen.append((item.event, json.loads(item.data)))
        return self._seen

    def wait_for(self, *events: tuple[str, dict[str, str]]) -> None:
        wait_until(lambda: self.all == list(events), f"{events}, and no more")


def wait_for_beats(log: Homes, count: int) -> None:
    until = log.beats + count
    wait_until(lambda: log.beats >= until, f"{count} beats")


def beating() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "presence beat"]


def test_who_joins_is_listed_and_told_and_who_leaves_too(hub: Hub, here: Presence) -> None:
    with Told(hub) as told:
        assert here.join("r", "ann", "Ann")
        assert here.join("r", "bob")
        assert here.members("r") == [Member("ann", "Ann"), Member("bob")]
        here.leave("r", "ann")
        assert here.members("r") == [Member("bob")]
        assert told.all == [
            ("join", {"id": "ann", "info": "Ann"}),
            ("join", {"id": "bob", "info": ""}),
            ("leave", {"id": "ann"}),
        ]


def test_only_what_changes_is_told(hub: Hub, here: Presence) -> None:
    with Told(hub) as told:
        assert here.join("r", "ann", "Ann")
        assert not here.join("r", "ann", "Ann")
        assert not here.join("r", "ann", "Anna")
        here.leave("r", "ann")
        here.leave("r", "ann")
        here.leave("r", "nobody")
        assert told.all == [
            ("join", {"id": "ann", "info": "Ann"}),
            ("join", {"id": "ann", "info": "Anna"}),
            ("leave", {"id": "ann"}),
        ]


def test_two_processes_see_the_members_of_both(log: Homes) -> None:
    hubs = Hub(log), Hub(log)
    one, two = map(Presence, hubs)
    with Told(hubs[0]) as told:
        one.join("r", "ann")
        two.join("r", "bob", "安 😀")
        assert one.members("r") == two.members("r") == [Member("ann"), Member("bob", "安 😀")]
        assert (len(one), len(two)) == (1, 1)
        two.leave("r", "bob")
        one.leave("r", "ann")
        assert [event for event, _ in told.all] == ["join", "join", "leave", "leave"]


def test_whoever_subscribes_first_and_asks_then_misses_nobody(hub: Hub, here: Presence) -> None:
    """State first, then event: at each event the list has it already."""
    for n in range(50):
        with Told(hub) as told:
            joining = threading.Thread(target=here.join, args=("r", f"m{n}"))
            joining.start()
            listed = {member.id for member in here.members("r")}
            joining.join()
            heard = {value["id"] for _, value in told.all}
            assert f"m{n}" in listed | heard
        here.leave("r", f"m{n}")


def test_the_thread_lives_only_while_there_are_members(here: Presence) -> None:
    assert not beating()
    here.join("r", "ann")
    here.join("s", "ann")
    assert len(beating()) == 1
    here.leave("r", "ann")
    assert len(beating()) == 1
    here.leave("s", "ann")
    wait_until(lambda: not beating(), "no thread, without waiting for the next beat", 2)
    here.join("r", "ann")
    assert len(beating()) == 1


def test_leaving_nothing_starts_no_thread(here: Presence) -> None:
    here.leave("r", "ann")
    assert not beating()


def test_who_only_asks_beats_too_or_the_dead_would_stay_where_nobody_else_is(
    log: Homes, hub: Hub, here: Presence
) -> None:
    log.enter("r", Member("lost"))
    log.dead = [("r", "lost")]
    with Told(hub) as told:
        assert here.members("r") == [Member("lost")]
        told.wait_for(("leave", {"id": "lost"}))
    assert here.members("r") == []
    wait_until(lambda: not beating(), "no thread, after one round", 2)
    for _ in range(100):
        here.members("r")
    assert log.beats == 1  # and not once for each question


def test_a_process_with_members_beats(quick: None, log: Homes, here: Presence) -> None:
    here.join("r", "ann")
    wait_until(lambda: log.beats >= 3, "three beats")


def test_the_members_of_a_process_that_died_are_told_to_have_left(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    for n in range(3):
        log.enter("r", Member(f"lost{n}"))  # by a process that is gone
    here.join("r", "ann")
    with Told(hub) as told:
        log.dead = [("r", f"lost{n}") for n in range(3)]
        wait_until(lambda: len(told.all) == 3, "three leaves")
        assert all(event == "leave" for event, _ in told.all)
        assert {value["id"] for _, value in told.all} == {"lost0", "lost1", "lost2"}
        assert here.members("r") == [Member("ann")]


def test_the_dead_are_told_later_if_the_log_goes_away_in_between(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    log.enter("r", Member("lost"))
    here.join("r", "ann")
    with Told(hub) as told:
        log.broken = {"append"}
        log.dead = [("r", "lost")]
        wait_until(lambda: here.members("r") == [Member("ann")], "the dead to be taken out")
        assert told.all == []
        log.broken.clear()
        told.wait_for(("leave", {"id": "lost"}))


def test_one_that_was_taken_for_dead_and_came_back_before_it_was_told_is_there_again(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    log.enter("r", Member("slow", "Slow"))
    here.join("r", "ann")
    with Told(hub) as told:
        log.broken = {"append"}
        log.dead = [("r", "slow")]
        wait_until(lambda: here.members("r") == [Member("ann")], "the slow one to be taken out")
        log.enter("r", Member("slow", "Slow"))  # its process puts it back
        log.broken.clear()
        told.wait_for(("leave", {"id": "slow"}), ("join", {"id": "slow", "info": "Slow"}))


def test_a_process_that_was_taken_for_dead_enters_its_members_again(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    here.join("r", "ann", "Ann")
    here.join("r", "bob")
    here.join("s", "cat")
    with Told(hub) as told:
        log.forget_everybody()
        both = [("join", {"id": "ann", "info": "Ann"}), ("join", {"id": "bob", "info": ""})]
        wait_until(lambda: sorted(told.all, key=str) == sorted(both, key=str), "both, once")
        wait_until(lambda: here.members("s") == [Member("cat")], "the other room too")


def test_nobody_comes_back_who_left_meanwhile(quick: None, log: Homes, here: Presence) -> None:
    """While the beat enters all again, some leave; none of them may stay behind as a ghost."""
    for n in range(30):
        ids = [f"m{n}.{i}" for i in range(10)]
        for each in ids:
            here.join("r", each)
        log.forget_everybody()
        for each in ids:
            here.leave("r", each)
        wait_until(lambda: here.members("r") == [], "an empty room")
    wait_until(lambda: not beating(), "no thread")
    assert here.members("r") == []


def test_nobody_joins_while_the_log_is_away(quick: None, log: Homes, here: Presence) -> None:
    log.broken = {"enter"}
    with pytest.raises(LogUnavailable):
        here.join("r", "ann")
    assert len(here) == 0
    wait_until(lambda: not beating(), "no thread for nobody")


def test_a_join_that_could_not_be_told_is_taken_back(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    log.broken = {"append"}
    with pytest.raises(LogUnavailable):
        here.join("r", "ann")
    assert len(here) == 0
    log.broken.clear()
    wait_until(lambda: here.members("r") == [], "her to be taken out again")
    assert here.join("r", "ann")


def test_new_info_that_could_not_be_told_leaves_the_member_as_it_was(
    log: Homes, hub: Hub, here: Presence
) -> None:
    here.join("r", "ann", "Ann")
    log.broken = {"enter"}
    with pytest.raises(LogUnavailable):
        here.join("r", "ann", "Anna")
    log.broken.clear()
    assert here.members("r") == [Member("ann", "Ann")]
    with Told(hub) as told:
        here.join("r", "ann", "Anna")
        assert told.all == [("join", {"id": "ann", "info": "Anna"})]


@pytest.mark.parametrize("broken", ["leave", "append"])
def test_leaving_while_the_log_is_away_is_made_up_for(
    quick: None, log: Homes, hub: Hub, here: Presence, broken: str
) -> None:
    here.join("r", "ann")
    with Told(hub) as told:
        log.broken = {broken}
        here.leave("r", "ann")
        assert told.all == []
        assert len(beating()) == 1
        log.broken.clear()
        told.wait_for(("leave", {"id": "ann"}))
    assert here.members("r") == []
    wait_until(lambda: not beating(), "no thread")


def test_who_joins_again_while_being_taken_out_is_there(
    quick: None, log: Homes, hub: Hub, here: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out = log.leave

    def leave(room: str, member: str) -> bool:
        monkeypatch.setattr(log, "leave", take_out)
        here.join(room, member)  # as far as the log knows, before
        return take_out(room, member)

    # which finds one of thousands only after hours
    monkeypatch.setattr(attendance.Attendance, "_is_listed", lambda self: True)
    with Told(hub) as told:
        log.broken = {"append"}
        with pytest.raises(LogUnavailable):
            here.join("r", "ann")
        monkeypatch.setattr(log, "leave", leave)
        log.broken.clear()
        wait_until(lambda: told.all and told.all[-1][0] == "join" and log.leave == take_out, "back")
        wait_until(lambda: here.members("r") == [Member("ann")], "in the room")
        wait_until(lambda: not here._own()._parting, "nothing is left to do")
        assert here.members("r") == [Member("ann")]
        assert told.all[-1][0] == "join"


def test_a_log_that_is_away_is_complained_about_once(
    quick: None, log: Homes, here: Presence, caplog: pytest.LogCaptureFixture
) -> None:
    here.join("r", "ann")
    for _ in range(2):
        log.broken = {"beat"}
        wait_for_beats(log, 5)
        log.broken = set()
        wait_for_beats(log, 3)
        assert [record.getMessage() for record in caplog.records] == [
            "Presence waits for the log: The log is away."
        ]
        caplog.clear()


def test_a_beat_that_fails_for_any_reason_is_not_the_last(
    quick: None, log: Homes, here: Presence, caplog: pytest.LogCaptureFixture
) -> None:
    log.dead = [None]  # type: ignore[list-item]
    here.join("r", "ann")
    wait_until(lambda: "A presence beat failed" in caplog.text, "the failure in the log")
    wait_until(lambda: log.beats > 3, "further beats")


def test_closing_has_all_members_of_this_process_leave_and_nobody_join(
    log: Homes, hub: Hub, here: Presence
) -> None:
    other = Presence(Hub(log))
    other.join("r", "elsewhere")
    for n in range(10):
        here.join("r", f"m{n}")
    hub.close()
    here.close()
    here.close()
    wait_until(lambda: other.members("r") == [Member("elsewhere")], "only the other's member")
    with pytest.raises(HubClosed):
        here.join("r", "late")
    here.leave("r", "m0")
    other.leave("r", "elsewhere")
    assert other.members("r") == []


def test_closing_one_without_members_starts_nothing(here: Presence) -> None:
    here.close()
    assert not beating()


def test_many_join_and_leave_at_once_and_the_list_is_right_in_the_end(
    quick: None, hub: Hub, here: Presence
) -> None:
    def come_and_go(who: int) -> None:
        for n in range(20):
            here.join("r", f"{who}.{n}")
            if n % 2:
                here.leave("r", f"{who}.{n}")

    with Told(hub) as told:
        threads = [threading.Thread(target=come_and_go, args=(who,)) for who in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {f"{who}.{n}" for who in range(5) for n in range(0, 20, 2)}
        assert {member.id for member in here.members("r")} == expected
        seen: set[str] = set()
        for event, value in told.all:
            # a leave may be told twice: by whoever left, and by the beat in that moment
            seen.add(value["id"]) if event == "join" else seen.discard(value["id"])
        assert seen == expected


@pytest.mark.parametrize("room", ["", "a b", "a" * 120, "chat:presence", "\ud800", 7])
def test_a_room_that_can_have_no_presence_channel_is_refused(here: Presence, room: str) -> None:
    with pytest.raises(InvalidMessage):
        here.join(room, "ann")
    with pytest.raises(InvalidMessage):
        here.leave(room, "ann")
    with pytest.raises(InvalidMessage):
        here.members(room)
    assert not beating()


@pytest.mark.parametrize(
    ("member", "info"),
    [
        *[("", ""), ("x" * 129, ""), ("\ud800", ""), (7, "")],
        *[("a", "x" * 1025), ("a", "安" * 342), ("a", "\ud800"), ("a", 7), ("a", None)],
    ],
)
def test_a_member_that_cannot_be_told_is_refused(here: Presence, member: str, info: str) -> None:
    with pytest.raises(InvalidMessage):
        here.join("r", member, info)
    assert here.members("r") == []


def test_the_limits_themselves_are_let_in(here: Presence) -> None:
    room = "r" * 119
    assert here.join(room, "x" * 128, "安" * 341 + "x")
    assert len(here.members(room)[0].info.encode()) == INFO_SIZE == 1024


def test_a_presence_channel_belongs_to_its_room() -> None:
    assert presence_channel("chat") == "chat:presence"
    assert is_presence_channel("chat:presence")
    assert not is_presence_channel("presence")
    assert (room_of("chat:presence"), room_of("chat")) == ("chat", "chat")


@in_greenlets
def test_greenlets_come_and_go_and_the_last_takes_the_thread_along() -> None:
    hub = Hub(Homes())
    here = Presence(hub)
    with Told(hub) as told:

        def come_and_go(who: int) -> None:
            for n in range(20):
                here.join("r", f"{who}.{n}")
                threading.Event().wait(0)
                here.leave("r", f"{who}.{n}")

        threads = [threading.Thread(target=come_and_go, args=(who,)) for who in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert here.members("r") == []
        assert len(told.all) == 800
    wait_until(lambda: not beating(), "no thread", 2)
