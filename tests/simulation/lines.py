"""How a node reaches the server that all share: what it asks, one thing after the other, and what it hears."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from imconnect.errors import Unavailable
from tests.simulation.clock import Life
from tests.simulation.faults import Fate

if TYPE_CHECKING:
    from tests.simulation.shared import Shared

_T = TypeVar("_T")

#: Seconds until a feed that was cut is there again.
POLL = 0.5


class Line:
    """One connection and one thread (`backends.redis_calls.RedisCalls`): what is asked first is done first."""

    def __init__(self, shared: Shared, life: Life, port: str, deadline: float) -> None:
        self._shared = shared
        self._life = life
        self._port = port
        self._deadline = deadline
        self._free_at = 0.0

    def run(self, work: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        """What was asked for is done although who asked has died meanwhile, or has given up."""
        answer: Deferred[Any] = Deferred()
        faults, now = self._shared.faults, self._life.seconds()
        fate = faults.fate(self._port)
        begins = max(now, self._free_at)
        there = begins + faults.pause(self._port)
        ends = there + faults.pause(self._port)
        too_late = fate is Fate.NEVER or ends > begins + self._deadline
        ends = self._free_at = begins + self._deadline if too_late else ends

        def do() -> None:
            reached = fate is not Fate.BEFORE and self._shared.registry.reachable
            result: Deferred[Any] = work() if reached else _away()
            if fate is Fate.DEATH:
                self._life.die()
            if reached and (too_late or fate is Fate.AFTER):
                result = _away()
            result.addBoth(outcomes.append)

        def tell() -> None:
            result = outcomes[0] if outcomes else Failure(Unavailable("no answer (simulated)"))
            if not answer.called:
                answer.callback(result)

        outcomes: list[Any] = []
        self._shared.network.callLater(there - now, do)
        self._life.callLater(ends - now, tell)
        return answer


def _away() -> Deferred[Any]:
    return fail(Unavailable("the server is away (simulated)"))


class Feed:
    """How one node hears what changes: in order, late, and not at all between a cut and the next connection."""

    def __init__(self, shared: Shared, life: Life, changed: Callable[[int], None], lost: Callable[[], None]) -> None:
        self._shared = shared
        self._life = life
        self._changed, self._lost = changed, lost
        self._arrives = 0.0
        self._cut = False
        #: What was sent and not heard yet.
        self.pending = 0

    @property
    def perfect(self) -> bool:
        """It has heard everything."""
        return not self._cut and not self.pending

    def changed(self, user: int) -> None:
        if self._shared.faults.fate("feed") is not Fate.WELL:
            self.cut()
        self._hear(lambda: self._changed(user))

    def lost(self) -> None:
        self._hear(self._lost)

    def cut(self) -> None:
        if not self._cut:
            self._cut = True
            self._life.callLater(POLL, self._connect)

    def _connect(self) -> None:
        if not self._shared.registry.reachable:
            self._life.callLater(POLL, self._connect)
            return
        self._cut = False
        self._lost()

    def _hear(self, call: Callable[[], None]) -> None:
        if not self._cut:
            self.pending += 1
            now = self._life.seconds()
            self._arrives = max(self._arrives, now + self._shared.faults.pause("feed"))
            self._life.callLater(self._arrives - now, self._heard, call)

    def _heard(self, call: Callable[[], None]) -> None:
        self.pending -= 1
        call()
