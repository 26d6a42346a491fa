"""One time for everybody. What has died has no future: nothing that it had planned happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
class Timer:
    """A call that is due at a time. `reset` and `delay` of a reactor's are not needed by anybody here."""

    __slots__ = ("_call", "_life", "time")

    def __init__(self, time: float, life: Life, call: Callable[[], object]) -> None:
        self.time = time
        self._life = life
        self._call: Callable[[], object] | None = call

    def getTime(self) -> float:
        return self.time

    def active(self) -> bool:
        return self._call is not None

    def cancel(self) -> None:
        self._call = None

    def reset(self, secondsFromNow: float) -> None:
        raise NotImplementedError

    def delay(self, secondsLater: float) -> None:
        raise NotImplementedError

    def ring(self) -> None:
        """It is due."""
        call, self._call = self._call, None
        if call is not None and self._life.alive:
            call()


class Timeline:
    """What is planned, in the order in which it is due; what is due at the same time, in the order of planning."""

    def __init__(self, begin: float) -> None:
        self.now = begin
        self._plans: list[tuple[float, int, Timer]] = []
        self._count = 0

    def plan(self, timer: Timer) -> None:
        self._count += 1
        heappush(self._plans, (timer.time, self._count, timer))

    def turn(self) -> None:
        """Everything that is due now."""
        self.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass; each thing happens when it is due."""
        end = self.now + seconds
        plans = self._plans
        while plans and plans[0][0] <= end:
            time, _, timer = heappop(plans)
            self.now = max(self.now, time)
            timer.ring()
        self.now = end


@implementer(IReactorTime)
class Life:
    """The clock of one process, from its start to its end. `die` is how the process is killed from within."""

    def __init__(self, timeline: Timeline, die: Callable[[], None] = lambda: None) -> None:
        self.alive = True
        self.die = die
        self._timeline = timeline

    def seconds(self) -> float:
        return self._timeline.now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall:
        call = (lambda: callable(*args, **kwargs)) if args or kwargs else callable
        timer = Timer(self._timeline.now + delay, self, call)
        self._timeline.plan(timer)
        return timer

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        return ()

    def end(self) -> None:
        """It has died."""
        self.alive = False
