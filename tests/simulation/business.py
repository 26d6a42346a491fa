"""The business side: one process that reads every queue, applies what it reads, and tells the nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute

from imconnect.backends.intake import Intake
from imconnect.backends.store_memory import MemoryStore
from imconnect.business.rows import Source
from imconnect.business.rules import Terms
from imconnect.business.service import BusinessRules
from imconnect.core.background import sleep
from imconnect.core.ports import Pushback
from imconnect.errors import Unavailable
from imconnect.events.values import Event
from imconnect.model import Applied
from imconnect.observe.metrics import Metrics
from tests.simulation.broker import Broker
from tests.simulation.clock import Life
from tests.simulation.faults import Fate, Faults
from tests.simulation.model import Model
from tests.simulation.record import Record

_T = TypeVar("_T")

#: Nobody in these worlds is too late with a withdrawal.
TERMS = Terms(withdraw_window=10**12)
#: Messages that a reader takes at once, and seconds before it tries a batch again.
BATCH, AGAIN = 8, 0.3


class Watched:
    """The consumer's rules, and the model beside them: after each commit the two must say the same."""

    def __init__(
        self,
        store: MemoryStore,
        now_ms: Callable[[], int],
        model: Model,
        record: Record,
        applied: Callable[[Source], None],
    ) -> None:
        self._rules = BusinessRules(store, now_ms, TERMS)
        self._store = store
        self._model = model
        self._record = record
        self._applied = applied

    def apply(self, events: Sequence[Event], sources: Sequence[Source] | None = None) -> Applied:
        applied = self._rules.apply(events, sources)
        self._model.apply(events)
        self._record.broken += self._model.differences(self._store.tables, events)
        for source in sources or ():
            self._applied(source)
        return applied

    def park(self, source: Source, reason: str) -> None:
        self._record.broken.append(f"an event of queue {source.queue} was parked: {reason}")
        self._rules.park(source, reason)


class Pool:
    """Business's thread (`backends.calls.Calls`). `held`: it is busy with something else for now."""

    def __init__(self, life: Life, faults: Faults) -> None:
        self._life = life
        self._faults = faults
        self.held = False
        self._waiting: list[Callable[[], None]] = []

    def run(self, function: Callable[..., _T], /, *args: Any) -> Deferred[_T]:
        answer: Deferred[_T] = Deferred()

        def begin() -> None:
            self._faults.call(self._life, "business", lambda: execute(function, *args)).chainDeferred(answer)

        self._waiting.append(begin)
        self._go_on()
        return answer

    def release(self) -> None:
        self.held = False
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and not self.held:
            self._waiting.pop(0)()


class Consumer:
    """The process: one reader per queue. A reader that a rebalance replaced may still be busy with its last batch."""

    def __init__(
        self, broker: Broker, life: Life, faults: Faults, rules: Watched, pushback: Pushback, record: Record
    ) -> None:
        self._broker = broker
        self._life = life
        self._faults = faults
        self._record = record
        self._pool = Pool(life, faults)
        self._intake = Intake(life, rules, self._pool, pushback, Metrics(), max_attempts=3)
        #: How often a queue has changed hands, and where its present reader stands.
        self._hands = [0] * len(broker.queues)
        self._position = list(broker.offsets)
        self._busy = [False] * len(broker.queues)
        for queue in range(len(broker.queues)):
            self.wake(queue)

    def wake(self, queue: int) -> None:
        """There is something in this queue."""
        if self._life.alive and not self._busy[queue] and self._position[queue] < len(self._broker.held[queue]):
            self._busy[queue] = True
            Deferred.fromCoroutine(self._read(queue, self._hands[queue])).addErrback(self._bug)

    def rebalance(self, queue: int) -> None:
        """Another consumer takes this queue over, from the offset that is kept in the broker."""
        self._hands[queue] += 1
        self._position[queue] = self._broker.offsets[queue]
        self._busy[queue] = False
        self.wake(queue)

    async def _read(self, queue: int, hand: int) -> None:
        attempt = 1
        while self._hands[queue] == hand and self._position[queue] < len(self._broker.held[queue]):
            at = self._position[queue]
            batch = self._broker.held[queue][at : at + self._faults.random.randint(1, BATCH)]
            try:
                await self._intake.take(self._broker.queues[queue], batch, attempt)
            except Unavailable:
                attempt += 1
                await sleep(self._life, AGAIN)
                continue
            attempt = 1
            self._keep_offset(queue, at + len(batch))
            if self._hands[queue] == hand:
                self._position[queue] = at + len(batch)
        if self._hands[queue] == hand:
            self._busy[queue] = False

    def _keep_offset(self, queue: int, offset: int) -> None:
        """Some time later, as a client does that keeps its offsets every few seconds; or not at all."""
        fate = self._faults.fate("offset")
        if fate is Fate.WELL:
            self._life.callLater(self._faults.pause("offset"), self._offset_kept, queue, offset)
        elif fate is Fate.DEATH:
            self._life.die()

    def _offset_kept(self, queue: int, offset: int) -> None:
        self._record.consumed(queue, offset)
        self._broker.offsets[queue] = max(self._broker.offsets[queue], offset)

    def _bug(self, failure: Any) -> None:
        self._record.broken.append(f"a reader failed: {failure.getTraceback()}")

    @property
    def pool(self) -> Pool:
        return self._pool
