"""What the relay has read of the log and not settled yet: one lane per queue of the topic, each with a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from imconnect.core.ports import Entry
from imconnect.events.values import Event

#: Events that a lane holds in memory; what comes beyond is read from the log again.
AHEAD = 1000


class Lane:
    """At most one request in flight. A lane that is full skips what comes, and the others go on."""

    __slots__ = ("entries", "failures", "flying", "skipped", "skipped_from")

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.flying = False
        self.failures = 0
        #: Events that were read and did not fit, and where in the log to look for the first of them.
        self.skipped = 0
        self.skipped_from = 0

    @property
    def waiting(self) -> bool:
        """Whether any of its events is not settled."""
        return bool(self.entries) or self.skipped > 0

    @property
    def settled(self) -> int:
        """Every event of this lane up to this number is; asked where one is waiting."""
        return (self.entries[0][0] if self.entries else self.skipped_from) - 1

    @property
    def wants(self) -> bool:
        """Whether what it skipped should be read again: there is room for a good piece of it."""
        return self.skipped > 0 and len(self.entries) <= AHEAD // 2

    def take(self, entry: Entry) -> None:
        """An event that is read for the first time. Behind one that was skipped all are, or it would pass that one."""
        if not self.skipped and len(self.entries) < AHEAD:
            self.entries.append(entry)
            return
        if not self.skipped:
            self.skipped_from = entry[0]
        self.skipped += 1

    def take_again(self, entry: Entry) -> None:
        """An event of a piece of the log that is read again and begins at `skipped_from` or before it."""
        if self.skipped and entry[0] >= self.skipped_from and len(self.entries) < AHEAD:
            self.entries.append(entry)
            self.skipped -= 1
            self.skipped_from = entry[0] + 1


class Lanes:
    """All of them, and how far the log has been read. `lane_of` says to which one an event belongs."""

    def __init__(self, lane_of: Callable[[Event], int]) -> None:
        self._lane_of = lane_of
        self.by_number: dict[int, Lane] = {}
        #: Everything up to this number was read.
        self.read = 0
        #: Events read and not settled yet, those that a lane skipped included.
        self.events = 0

    @property
    def position(self) -> int:
        """Every event up to this number is settled."""
        return min((lane.settled for lane in self.by_number.values() if lane.waiting), default=self.read)

    def waiting(self) -> bool:
        """Whether any event is not settled."""
        return any(lane.waiting for lane in self.by_number.values())

    def behind(self) -> list[Lane]:
        """The lanes that skipped events and have room for them now."""
        return [lane for lane in self.by_number.values() if lane.wants]

    def sort(self, entries: Sequence[Entry], done: Mapping[int, int]) -> dict[int, int]:
        """The next piece of the log; `done`: where each lane is. -> where the lanes begin that had no such mark."""
        begun = {}
        for entry in entries:
            number = self._lane_of(entry[1])
            if entry[0] > done.get(number, 0):
                if number not in self.by_number:
                    self.by_number[number] = Lane()
                    if number not in done:
                        begun[number] = entry[0] - 1
                self.by_number[number].take(entry)
                self.events += 1
            self.read = entry[0]
        return begun

    def sort_again(self, behind: Sequence[Lane], entries: Sequence[Entry]) -> None:
        """A piece of the log that begins where the first of these lanes began to skip."""
        if not entries:
            raise LookupError("events that wait for the queue have left the outbox")
        for entry in entries:
            lane = self.by_number.get(self._lane_of(entry[1]))
            if lane is not None and lane in behind:
                lane.take_again(entry)
        for lane in behind:
            if len(lane.entries) < AHEAD:
                # Nothing of its own is left in this piece: the next one begins behind it.
                lane.skipped_from = max(lane.skipped_from, entries[-1][0] + 1)
