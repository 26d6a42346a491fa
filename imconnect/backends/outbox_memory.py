"""The outbox in memory: the verified twin of the SQLite one, for tests and simulations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall

from imconnect.core.ports import Entry, Recovered
from imconnect.errors import Unavailable
from imconnect.events.records import pack, unpack
from imconnect.events.values import Event

#: How long relay positions wait for a commit to ride with (seconds).
RIDE_SECONDS = 0.2


class Timer(Protocol):
    """A reactor or a `Clock`."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall: ...


class _Disk:
    """What a restart finds. Batches are kept packed, so that the same bytes are tested as on a real disk."""

    def __init__(self) -> None:
        self.batches: dict[int, tuple[int, bytes]] = {}  # number of the first event -> how many, blob
        self.last = 0
        self.reserved_ms = 0
        self.positions: dict[int, int] = {}
        self.parked: dict[int, tuple[bytes, str]] = {}

    def entries(self, after: int, limit: int | None = None) -> list[Entry]:
        found: list[Entry] = []
        for position, (count, blob) in self.batches.items():
            if position + count - 1 > after:
                numbered = zip(range(position, position + count), unpack(blob), strict=True)
                found += [entry for entry in numbered if entry[0] > after]
                if limit is not None and len(found) >= limit:
                    break
        return found


class _Write(NamedTuple):
    deferred: Deferred[Any]
    #: Puts it on the disk and says what the Deferred fires with.
    apply: Callable[[_Disk], Any]
    batch: bool


class MemoryOutbox:
    """`imconnect.core.ports.Outbox` without a disk: a write becomes durable `delay` seconds after it was asked for.

    `fail_appends = True` makes the appends that would become durable from then on fail, as a full disk does.
    `restart()` is kill -9 and a new start.
    """

    def __init__(self, clock: Timer, delay: float = 0.0) -> None:
        self.fail_appends = False
        self._clock = clock
        self._delay = delay
        self._disk = _Disk()
        self._positions: dict[int, int] = {}
        self._writes: deque[_Write] = deque()
        self._timers: set[IDelayedCall] = set()
        self._riding = False
        self._state = "new"  # then open, closing, closed; or killed
        self._closing: list[Deferred[None]] = []

    def restart(self) -> MemoryOutbox:
        """A new outbox that holds what was durable. This one is dead: nothing that waits here ever fires."""
        self._state = "killed"
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        reborn = MemoryOutbox(self._clock, self._delay)
        reborn._disk = self._disk
        self._disk = _Disk()
        return reborn

    def open(self) -> Deferred[Recovered]:
        """See `Outbox.open`. Once; Unavailable after `close()`."""
        if self._state != "new":
            return fail(Unavailable("the outbox was opened before"))
        self._state = "open"
        self._positions = dict(self._disk.positions)
        return succeed(Recovered(self._disk.entries(0), self._disk.last, self._disk.reserved_ms))

    def append(self, events: Sequence[Event]) -> Deferred[int]:
        """See `Outbox.append`."""
        if not events:
            raise ValueError("an empty batch has no number")
        blob, count = pack(events), len(events)

        def apply(disk: _Disk) -> int:
            first = disk.last + 1
            disk.batches[first] = (count, blob)
            disk.last += count
            return first

        return self._write(apply, batch=True)

    def read(self, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        """See `Outbox.read`."""
        if self._state != "open":
            return fail(Unavailable("the outbox is not open"))
        return succeed(self._disk.entries(after, limit))

    def done(self, positions: Mapping[int, int]) -> None:
        """See `Outbox.done`."""
        if self._state == "open":
            self._positions.update(positions)
            if not self._riding:
                self._riding = True
                self._later(RIDE_SECONDS, self._save_positions)

    def positions(self) -> Mapping[int, int]:
        """See `Outbox.positions`."""
        return dict(self._positions)

    def park(self, parked: Iterable[tuple[int, Event, str]]) -> Deferred[None]:
        """See `Outbox.park`."""
        rows = {number: (pack([event]), reason) for number, event, reason in parked}
        return self._write(lambda disk: disk.parked.update(rows))

    def parked(self) -> Deferred[Sequence[tuple[int, Event, str]]]:
        """See `Outbox.parked`."""
        if self._state != "open":
            return fail(Unavailable("the outbox is not open"))
        rows = sorted(self._disk.parked.items())
        return succeed([(number, unpack(blob)[0], reason) for number, (blob, reason) in rows])

    def forget(self, below: int) -> None:
        """See `Outbox.forget`. Here at once."""
        if self._state == "open":
            batches = self._disk.batches
            self._disk.batches = {first: batch for first, batch in batches.items() if first + batch[0] > below}

    def reserve(self, until_ms: int) -> Deferred[None]:
        """See `Outbox.reserve`."""

        def apply(disk: _Disk) -> None:
            disk.reserved_ms = max(disk.reserved_ms, until_ms)

        return self._write(apply)

    def size(self) -> int:
        """See `Outbox.size`: bytes of the batches."""
        return sum(len(blob) for _, blob in self._disk.batches.values())

    def close(self) -> Deferred[None]:
        """See `Outbox.close`. May be called twice."""
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        if self._state == "open":
            self._state = "closing"
        elif self._state == "new":
            self._state = "closed"
        self._end_if_idle()
        return closed

    def _write(self, apply: Callable[[_Disk], Any], batch: bool = False) -> Deferred[Any]:
        if self._state != "open":
            return fail(Unavailable("the outbox is not open"))
        deferred: Deferred[Any] = Deferred()
        self._writes.append(_Write(deferred, apply, batch))
        self._later(self._delay, self._commit)
        return deferred

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = self._clock.callLater(delay, run)
        self._timers.add(timer)

    def _commit(self) -> None:
        # The oldest one, whichever timer this was: order is the order of the calls.
        write = self._writes.popleft()
        if write.batch and self.fail_appends:
            write.deferred.errback(Unavailable("the disk is full (simulated)"))
        else:
            result = write.apply(self._disk)
            self._disk.positions = dict(self._positions)
            write.deferred.callback(result)
        self._end_if_idle()

    def _save_positions(self) -> None:
        self._riding = False
        self._disk.positions = dict(self._positions)

    def _end_if_idle(self) -> None:
        if self._state == "closing" and not self._writes:
            self._state = "closed"
            self._save_positions()
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
        if self._state in ("closed", "killed"):
            waiting, self._closing = self._closing, []
            for closed in waiting:
                closed.callback(None)
