"""The disk of one node's machine: it outlives the node, is slow, gets full, and the node may die over a write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from imconnect.backends.outbox_memory import MemoryOutbox
from imconnect.core.ports import Entry, Recovered
from imconnect.errors import Unavailable
from imconnect.events.values import Event
from tests.simulation.clock import Life
from tests.simulation.faults import Fate, Faults
from tests.simulation.record import NodeRecord

_T = TypeVar("_T")


class Disk:
    """`core.ports.Outbox` for one life of a node, over what its earlier lives have left. Writes keep their order."""

    def __init__(self, log: MemoryOutbox, life: Life, faults: Faults, record: NodeRecord) -> None:
        self.full = False
        self._log = log
        self._life = life
        self._faults = faults
        self._record = record
        #: When the write that was asked for last has been answered.
        self._busy_until = 0.0

    def open(self) -> Deferred[Recovered]:
        return self._log.open()

    def append(self, events: Sequence[Event]) -> Deferred[int]:
        batch = tuple(events)

        def durable(first: int) -> int:
            self._record.durable(first, batch)
            return first

        return self._write(lambda: self._log.append(batch).addCallback(durable), lambda: self._record.told(batch))

    def read(self, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        return self._faults.call(self._life, "log", lambda: self._log.read(after, limit))

    def done(self, positions: Mapping[int, int]) -> None:
        if self._life.alive:
            self._record.done(positions)
            self._log.done(positions)

    def positions(self) -> Mapping[int, int]:
        return self._log.positions()

    def park(self, parked: Iterable[tuple[int, Event, str]]) -> Deferred[None]:
        rows = list(parked)
        return self._write(lambda: self._log.park(rows))

    def parked(self) -> Deferred[Sequence[tuple[int, Event, str]]]:
        return self._log.parked()

    def forget(self, below: int) -> None:
        if self._life.alive:
            self._record.forgets(below)
            self._log.forget(below)

    def reserve(self, until_ms: int) -> Deferred[None]:
        return self._write(lambda: self._log.reserve(until_ms))

    def size(self) -> int:
        return self._log.size()

    def close(self) -> Deferred[None]:
        return self._write(self._log.close, sure=True)

    def _write(
        self,
        write: Callable[[], Deferred[_T]],
        told: Callable[[], Callable[[], None]] | None = None,
        sure: bool = False,
    ) -> Deferred[_T]:
        """It becomes durable after a while, and is answered after another; a crash may come in between."""
        answer: Deferred[_T] = Deferred()
        fate = Fate.WELL if sure else self._faults.fate("disk")
        durable_at = max(self._life.seconds(), self._busy_until) + self._faults.pause("disk")
        told_at = self._busy_until = durable_at + self._faults.pause("disk")

        def do() -> None:
            refused = not sure and (self.full or fate is Fate.BEFORE)
            result: Deferred[Any] = fail(Unavailable("the disk is full (simulated)")) if refused else write()
            result.addBoth(done)

        def done(result: Any) -> None:
            if fate is Fate.DEATH:
                self._life.die()
            else:
                self._life.callLater(max(0.0, told_at - self._life.seconds()), tell, result)

        def tell(result: Any) -> None:
            after = told() if told is not None and not isinstance(result, Failure) else None
            answer.callback(result)
            if after is not None:
                after()

        self._life.callLater(durable_at - self._life.seconds(), do)
        return answer
