"""What every log promises to the hub, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..message import Gap, Message, Position
from ..names import Patterns


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of its past a channel keeps. The oldest messages go first."""

    messages: int = 1000
    """Messages a channel keeps."""
    size: int = 8 * 1024 * 1024
    """Bytes of text a channel keeps (UTF-8); the newest message stays even if it is larger."""
    age: float | None = 3600.0
    """Seconds a message is kept while its channel has not ended; None for no limit."""
    channels: int = 10_000
    """Channels kept while nobody follows them; beyond that the longest unused are forgotten."""
    key_window: float = 120.0
    """Seconds for which a repeated idempotency key gives back the first message."""
    after_end: float | None = 3600.0
    """Seconds that a channel which has ended is kept, with all it holds; None for no limit."""
    total: int | None = 1024 * 1024 * 1024
    """Bytes that all channels hold together: text in memory, the file with SQLite. Beyond that the
    oldest goes first, and where nothing can go appending fails. None for no limit. Redis has its
    own (``maxmemory``)."""
    named: Mapping[str, Retention] = field(default_factory=dict, hash=False)
    """What channels keep that are named here, or whose names fit a pattern (``job:*``): a name goes
    before patterns, and the longest pattern before others. ``channels`` counts all together."""

    _patterns: Patterns[Retention] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_patterns", Patterns(self.named) if self.named else None)

    def of(self, channel: str) -> Retention:
        """How much of its past ``channel`` keeps."""
        return self if self._patterns is None else self._patterns.of(channel, self)

    def life(self, is_ended: bool) -> float | None:
        """Seconds after its last message for which a channel holds anything; None for no limit."""
        return self.after_end if is_ended else self.age

    def is_over(self, idle: float, is_ended: bool) -> bool:
        """Whether a channel holds nothing any more that was not used for ``idle`` seconds."""
        life = self.life(is_ended)
        return life is not None and idle > life


@dataclass(frozen=True, slots=True)
class Page:
    """What a read found: a gap or none, messages in log order, and the position after them."""

    messages: Sequence[Message]
    position: Position
    gap: Gap | None = None
    more: bool = True
    """Whether there may be more behind the messages; False if the log knows that there is not."""
    ended: bool = False
    """Whether the channel has ended, and nothing follows the position."""
    is_sure: bool = True
    """False where the gap is behind a mark, and what is gone may be of other channels."""

    @property
    def size(self) -> int:
        """Bytes of text in all messages."""
        return sum([message.size for message in self.messages])

    def for_follower(self) -> Page:
        """What it means to whoever has followed the channel since it stood there.

        Behind a mark a log cannot always tell that nothing was forgotten. A follower can: a channel
        that is followed is not.
        """
        gap = self.gap
        if gap is None or self.is_sure:
            return self
        has_all = self.position.is_mark if gap.oldest is None else gap.oldest.offset == 1
        return replace(self, gap=None) if has_all else self


@dataclass(frozen=True, slots=True)
class Member:
    """Someone in a room, over however many connections and processes."""

    id: str
    """What it is told apart by: of a WebSocket, the client's id."""
    info: str = ""
    """Whatever it wants the others to know: a text, or JSON. It may say anything."""
    name: str = ""
    """Who it is, as the application says; empty where it does not."""
    connections: int = 1
    """How many connections it has; what the application itself puts into a room counts as one."""


BEAT = 2.5
"""Seconds between two beats of a process that has members in rooms."""

LEASE = 10.0
"""Seconds without a beat after which a process counts as dead, and its members as gone."""


MAX_KEYS = 10_000
"""Idempotency keys a channel remembers at most, however long the window."""

Heard = Callable[[str, Message | None], None]
"""Called with the name of a followed channel that got something; from any thread, also in the midst
of an append, so it must neither block nor call the log. With the message where it is at hand: such
a call stands for that message alone, so if it is the one behind the reader's position, nothing has
to be read. A call without one stands for anything."""


class Log(Protocol):
    """All channels of one home. Every method may be called from any thread.

    Nothing is written for reading: a channel that nobody has published to has no trace in the log,
    and its position is a mark (``Position.is_mark``). A mark is good for as long as the log can
    tell that nothing of the channel was forgotten since it was given.
    """

    retention: Retention
    """How much of its past each channel keeps."""

    reads: int
    """Reads that gain from being under way at the same time: several where they wait for a network,
    one where they do not."""

    def append(
        self,
        channel: str,
        data: str,
        *,
        event: str = "message",
        key: str | None = None,
        sender: str | None = None,
        last: bool = False,
        traceparent: str | None = None,
    ) -> Message:
        """Append a message, tell whoever follows the channel, and return it with its id.

        With ``key``, a repetition within the key window returns the first message and appends
        nothing; behind the end, too.

        With ``last``, the channel has ended with this message, in the same step and for as long as
        it is kept: ``Retention.after_end``, and while it is followed. It is always held until then.
        A channel that was forgotten begins anew, as one that nobody has published to.

        ``traceparent`` is kept with the message as it is. What reads it looks whether it is one.

        Raises:
            ChannelEnded: If the channel has ended; nothing was appended. Of several that end it at
                the same time, one gets its message and the others this.
            LogUnavailable: If the log cannot be reached; nothing was appended. Across a network an
                answer may be lost, and of a file what was just written: then the error says that
                the message may be stored, and with a ``key`` it is safe to repeat the call.
        """

    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        """Messages after ``after``, in order, at most ``limit`` and about ``size`` bytes of text.

        The page says whether the channel has ended with it, an empty page too, and one behind a gap
        in which all that was held has grown old.

        If messages that ``after`` stood before are no longer held, or it belongs to another epoch,
        the page carries a gap and starts at the oldest held. Never blocks for new messages.

        A log that was interrupted but lost nothing may go on in a new epoch: a position of the old
        one is then good up to where the interruption was, and the page's is in the new one.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """

    def tail(self, channel: str, history: int = 0) -> Position:
        """The position before the last ``history`` messages held; the head for 0. A mark where
        there is no channel.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """

    def channels(self, prefix: str = "", limit: int = 1000) -> list[str]:
        """Names of channels that hold messages and begin with ``prefix``, at most ``limit``; the
        last used first where the log knows it.

        What has just grown old or was pruned may be among them.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """

    def prune(self, channel: str) -> int:
        """Let go of all messages that ``channel`` holds, and return how many these were.

        Its ids go on behind them, an end stays one, keys are remembered still; who stood before
        them meets a gap. What others append meanwhile may stay.

        Raises:
            LogUnavailable: If the log cannot be reached, or not be written to.
        """

    def follow(self, channel: str, heard: Heard) -> None:
        """Call ``heard`` whenever something was appended to ``channel``, by any process.

        Until ``unfollow`` was called as often. What is appended after this has returned is heard
        of: at once, or where the log is away, with one call for all when it is back. One call
        without a message may stand for several appends, or for none; what was appended before may
        still be told. While it is followed, a channel is not forgotten. Waits a second at most.

        Raises:
            TooManyClients: If the system has no thread left to listen with; nothing is followed.
        """

    def unfollow(self, channel: str, heard: Heard) -> None:
        """Take one ``follow`` back. Idempotent beyond that."""

    def enter(self, room: str, member: Member, *, says: bool = True) -> Member | None:
        """Say that this process has a member in a room, for as long as it beats.

        A room is a channel's name. Several processes may have the same member: each says how many
        ``connections`` it has there, and says so anew when that changes. ``info`` and ``name`` are
        the member's, not the process's: what was said last counts, until the member is gone. With
        ``says=False`` a member that is there keeps them.

        Returns the member as it was listed before; None if no living process had it.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """

    def leave(self, room: str, member: str) -> bool:
        """Say that this process has a member no longer; True if with that the member is gone.

        False if this process did not have it, or another one has it. One that died has it until a
        ``beat`` takes it out, which then says that the member is gone.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """

    def members(self, room: str) -> list[Member]:
        """Who is in a room, over all living processes, in the order they came.

        Each once: its connections are added up.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """

    def find(self, room: str, member: str, *, own: bool = False) -> Member | None:
        """One of ``members``; None if it is not there. With ``own``, as this process has put it
        there, and None if nothing is known of that any more.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """

    def beat(self) -> list[tuple[str, str]]:
        """Say that this process lives, and take out what those have in rooms that died.

        Returns the room and id of each member that is gone with that: those that another process
        has, too, stay. Of several processes that beat at the same time, one gets it. To be called
        every ``BEAT`` seconds. If this process was itself taken for dead, what it has in rooms is
        gone: ``enter`` it again.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """

    def note_standstill(self) -> None:
        """This process has stood still for longer than processes beat, and maybe all have: for a
        lease, who has not beaten counts as living. Does not ask the log."""

    def take_place(self, holder: str, most: int) -> bool:
        """Count another connection of ``holder``, any text; False if it has ``most`` already, over
        all living processes that the log counts together: those of one Redis. Other logs count
        nothing and say True. What a process has counts for as long as it lives.

        Where the log cannot be reached what this process has counts alone. Never fails; waits as
        long as for any command.
        """

    def give_place(self, holder: str) -> None:
        """Take one ``take_place`` back that was True, soon: here at once. Does not wait."""

    def check(self) -> None:
        """Return if the log can be reached and written to, within a few seconds.

        Raises:
            LogUnavailable: If it cannot.
        """

    def close(self) -> None:
        """Let go of everything, members of this process too. Idempotent."""
