"""One timer for all connections: each waits in a slot, and every tick visits one slot."""

from __future__ import annotations

import random
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()


class Visited(Protocol):
    """Something that wants to be looked at from time to time."""

    #: Where it waits; the wheel's own.
    slot: set[Visited] | None

    def visit(self, now: int) -> int:
        """Do what is due; -> ticks until the next visit."""


#: Ticks that are made up for when the reactor was late.
CATCH_UP = 8


class Wheel:
    """Turns while anybody is on it. `now` counts ticks.

    Of a longer time in which nothing ran (the process was stopped, the machine asleep) only a few ticks are made up
    for: nobody was listened to then, so it must not count as a peer's silence.
    """

    def __init__(self, clock: IReactorTime, tick: float, size: int) -> None:
        """`tick` in seconds; `size` slots, which is also the longest wait in ticks."""
        self.now = 0
        self.tick = tick
        self.size = size
        self._slots: list[set[Visited]] = [set() for _ in range(size)]
        self._count = 0
        self._loop = LoopingCall.withCount(self._turns)
        self._loop.clock = clock

    def __len__(self) -> int:
        return self._count

    def sizes(self) -> list[int]:
        """How many wait in each slot."""
        return [len(slot) for slot in self._slots]

    def add(self, visited: Visited, within: int = 0) -> None:
        """Put it into a random one of the next `within` slots (0: of all), so that those who came together are not
        visited together."""
        visited.slot = None
        self._count += 1
        self.wait(visited, random.randint(1, within or self.size))
        if not self._loop.running:
            self._loop.start(self.tick, now=False)

    def wait(self, visited: Visited, ticks: int) -> None:
        """Visit it after so many ticks (1 to `size`), and not before."""
        if visited.slot is not None:
            visited.slot.discard(visited)
        visited.slot = self._slots[(self.now + max(1, min(ticks, self.size))) % self.size]
        visited.slot.add(visited)

    def remove(self, visited: Visited) -> None:
        """Take it off; the wheel stands still when the last one has left."""
        if visited.slot is None:
            return
        visited.slot.discard(visited)
        visited.slot = None
        self._count -= 1
        if not self._count and self._loop.running:
            self._loop.stop()

    def _turns(self, due: int) -> None:
        for _ in range(min(due, CATCH_UP)):
            self._turn()

    def _turn(self) -> None:
        self.now += 1
        for visited in tuple(self._slots[self.now % self.size]):
            try:
                ticks = visited.visit(self.now)
            except Exception:
                # A bug in one visit must not stop the clock of all the others.
                _log.failure("a visit by the wheel failed")
                ticks = self.size
            if visited.slot is not None:
                self.wait(visited, ticks)
