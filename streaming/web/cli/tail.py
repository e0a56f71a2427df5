"""``flask streaming tail``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ...errors import StreamEnded
from ...hub.subscription import Subscription
from ...message import START, Gap, Message
from ...names import END
from .command import command
from .log import shared_hub
from .saying import note, printable, say


@command("tail")
@click.argument("channels", nargs=-1, required=True)
@click.option("--after", metavar="ID", help="Go on behind this id; the last one says it.")
@click.option("--history", type=click.IntRange(0), default=0, help="Begin with the last N held.")
@click.option("--from-start", is_flag=True, help="Begin with the first there ever was.")
@click.option("--count", type=click.IntRange(1), help="End after so many messages.")
def tail(
    channels: tuple[str, ...],
    after: str | None,
    history: int,
    from_start: bool,
    count: int | None,
    as_json: bool,
) -> None:
    """Follow CHANNELS, and say each message as it comes.

    What the log no longer holds is said as a gap. Ends with 0: at Ctrl+C, behind --count messages,
    or when all the channels have ended. Reading a run this way does not keep it going.

    \b
    Examples:
      flask streaming tail news
      flask streaming tail news prices --history 10
      flask streaming tail job:42 --from-start --json | jq .data
      flask streaming tail news --after 5f1c0a2b-17
    """
    if sum((after is not None, history > 0, from_start)) > 1:
        raise click.UsageError("--after, --history and --from-start each say where to begin.")
    place = START if from_start else after
    with shared_hub() as hub, hub.subscribe(channels, after=place, history=history) as found:
        told = _Told(found, as_json)
        try:
            with told.stopping_between_items():
                told.follow(count)
        except StreamEnded:
            told.say_ends()
        except KeyboardInterrupt:
            pass
        if not as_json:
            note(f"Resume with: --after {told.id}")


class _Told:
    """What was said of a subscription, and up to where."""

    def __init__(self, subscription: Subscription, as_json: bool) -> None:
        self.id = subscription.id
        self._subscription = subscription
        self._as_json = as_json
        self._over: set[str] = set()
        self._is_stopped = False

    @contextmanager
    def stopping_between_items(self) -> Iterator[None]:
        """Have Ctrl+C end ``follow`` between two items; the second one does not wait for that.

        An exception that comes up anywhere would leave behind what it met: a line that is half
        said, a lock of the log that nobody gives back.
        """

        def stop(*_: object) -> None:
            if self._is_stopped:
                raise KeyboardInterrupt
            self._is_stopped = True
            self._subscription.bell.ring()

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def follow(self, count: int | None) -> None:
        """Say what comes, up to ``count`` messages or until it is stopped."""
        left = float("inf") if count is None else count
        while not self._is_stopped:
            for item in self._subscription.take():
                self._say(item)
                left -= isinstance(item, Message)
                if self._is_stopped or not left:
                    return

    def say_ends(self) -> None:
        """Say of all channels that nothing follows, unless it was said."""
        for channel in self._subscription.channels:
            self._say_end(channel)

    def _say(self, item: Message | Gap) -> None:
        id = self._subscription.step(item)
        if isinstance(item, Gap):
            value: dict[str, object] = {"type": "gap", **item.payload(), "id": id}
            say(value, _gap(item), as_json=self._as_json)
        else:
            value = {"type": "message", "channel": item.channel, "id": id}
            value |= {"event": item.event, "data": item.data}
            say(value, _message(item), as_json=self._as_json)
            if item.event == END:
                self._say_end(item.channel)
        self.id = id

    def _say_end(self, channel: str) -> None:
        if channel not in self._over:
            self._over.add(channel)
            value = {"type": "ended", "channel": channel}
            say(value, f"{channel}  has ended", as_json=self._as_json)


def _message(message: Message) -> str:
    event = "" if message.event == "message" else f"{printable(message.event)}: "
    return f"{message.channel}  {message.id}  {event}{printable(message.data)}"


def _gap(lost: Gap) -> str:
    held = f"{lost.oldest} to {lost.newest}" if lost.oldest else "nothing"
    return f"{lost.channel}  gap: what follows {lost.requested} is lost; held is {held}"
