"""Decide, commit, act: the queue of outcomes between the handlers and everything that may be seen outside.

Batches form by themselves: what is decided while a commit is under way is the next batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.core.outcome import Outcome
from imconnect.core.ports import Outbox
from imconnect.errors import Unavailable
from imconnect.events.values import Event
from imconnect.observe.metrics import Metrics

_log = Logger()

#: Outcomes per commit: a flood must not make one reactor turn endless.
BATCH = 4096
#: In place of the number of a batch's first event: it is not in the log.
FAILED = -1

Act = Callable[[Sequence[Outcome], int], None]
Fail = Callable[[Sequence[Outcome]], None]
#: What a batch waits for before it is committed; it may change what was decided. Never fails.
Before = Callable[[Sequence[Outcome]], Deferred[None]]
#: What a batch waits for after its commit and before it acts, with the number of its first event. Never fails.
After = Callable[[Sequence[Outcome], int], Deferred[None]]


class Decided:
    """A batch whose fate is known."""

    __slots__ = ("batch", "first", "ready")

    def __init__(self, batch: list[Outcome], first: int) -> None:
        self.batch = batch
        self.first = first
        #: Nothing but its predecessors keeps it from acting.
        self.ready = True


class Pipeline:
    """One commit under way at most; batches act in the order in which they were decided."""

    def __init__(
        self, clock: IReactorTime, outbox: Outbox, metrics: Metrics, act: Act, fail: Fail, slow: float
    ) -> None:
        """`slow`: a commit that takes longer, in seconds, is a disk in trouble."""
        self._clock = clock
        self._outbox = outbox
        self._metrics = metrics
        self._act = act
        self._fail = fail
        self._slow = slow
        self._open: list[Outcome] = []
        #: Refusals while the disk hangs: they do not wait for it.
        self._aside: list[Outcome] = []
        self._scheduled = False
        self._committing = False
        #: When the commit under way began; and whether it was said that it takes long.
        self._began = 0.0
        self._said = False
        #: Batches whose fate is known, in order: only `_act_in_order` takes them, however deep the callbacks nest.
        self._decided: deque[Decided] = deque()
        self.before: Before | None = None
        self.after: list[After] = []
        self._acting = False
        self._idle: list[Deferred[None]] = []
        #: Events decided and not durable yet.
        self.events = 0
        #: The highest number that is durable.
        self.last = 0
        #: False after a commit failed, until one succeeds: sends are being refused.
        self.healthy = True

    def put(self, outcome: Outcome) -> None:
        """Decided. Committed at the end of this reactor turn, or when the commit under way returns."""
        if outcome.alone and self.stalled:
            self._aside.append(outcome)
        else:
            self._open.append(outcome)
            self.events += len(outcome.events)
        if not self._scheduled and (self._aside or not self._committing):
            self._scheduled = True
            self._clock.callLater(0, self._turn_ended)

    @property
    def stalled(self) -> bool:
        """The commit under way takes too long: sends are being refused."""
        return self._committing and self._clock.seconds() - self._began >= self._slow

    def idle(self) -> Deferred[None]:
        """Fires when nothing is waiting to be committed or to act."""
        waiter: Deferred[None] = Deferred()
        if self._open or self._committing or self._acting or self._decided:
            self._idle.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    def probe(self) -> None:
        """After a failed commit: see whether the log takes writes again, without risking anybody's message."""
        if self.stalled and not self._said:
            self._said = True
            _log.error("the outbox is slow to write, sends are refused until it has")
        if not self.healthy and not self._committing and not self._open:
            written = self._outbox.reserve(0)
            written.addCallbacks(self._is_healthy, lambda failure: None if failure.check(Unavailable) else failure)

    def _turn_ended(self) -> None:
        self._scheduled = False
        self._commit()
        if self._aside:
            aside, self._aside = self._aside, []
            self._decided.append(Decided(aside, 0))
        self._act_in_order()

    def _commit(self) -> None:
        while self._open and not self._committing:
            batch, self._open = self._open[:BATCH], self._open[BATCH:]
            self._committing = True
            self._began = self._clock.seconds()
            if self.before is None:
                self._hand_over(batch)
            else:
                self.before(batch).addCallback(self._looked_up, batch, _count(batch))

    def _looked_up(self, _: None, batch: list[Outcome], events: int) -> None:
        self.events += _count(batch) - events
        self._hand_over(batch)

    def _hand_over(self, batch: list[Outcome]) -> None:
        events = [event for outcome in batch for event in outcome.events]
        reserve = max(outcome.reserve for outcome in batch)
        if not events and not reserve:
            self._returned(batch, 0, 0)
            return
        self._began = self._clock.seconds()
        try:
            written = self._write(events, reserve)
        except Exception:
            written = fail()
        written.addCallbacks(
            self._durable,
            self._failed,
            callbackArgs=(batch, len(events)),
            errbackArgs=(batch, len(events)),
        )

    def _write(self, events: list[Event], reserve: int) -> Deferred[int]:
        if not reserve:
            return self._outbox.append(events)
        # One after the other: were both under way, the events could become durable and be refused all the same.
        return self._outbox.reserve(reserve).addCallback(
            lambda _: self._outbox.append(events) if events else succeed(1)
        )

    def _durable(self, first: int, batch: list[Outcome], events: int) -> None:
        if events:
            self.last = first + events - 1
            self._metrics.observe_commit(events, self._clock.seconds() - self._began)
        self._is_healthy()
        self._returned(batch, first, events)

    def _failed(self, failure: Failure, batch: list[Outcome], events: int) -> None:
        self._metrics.commits_failed += 1
        if not failure.check(Unavailable):
            _log.failure("a commit failed in a way it should not", failure)
        if self.healthy:
            self.healthy = False
            _log.error("the outbox takes no writes, sends are refused: {why}", why=failure.getErrorMessage())
        self._returned(batch, FAILED, events)

    def _returned(self, batch: list[Outcome], first: int, events: int) -> None:
        self._committing = False
        if self._said:
            self._said = False
            _log.info("the outbox has written: that took {seconds:.1f} s", seconds=self._clock.seconds() - self._began)
        self.events -= events
        decided = Decided(batch, first)
        self._decided.append(decided)
        if events and self.after:
            decided.ready = False
            gatherResults([after(batch, first) for after in self.after]).addCallback(self._may_act, decided)
        # The next batch is handed over before this one acts: the disk must not wait for the sockets.
        self._commit()
        self._act_in_order()

    def _may_act(self, _: object, decided: Decided) -> None:
        decided.ready = True
        self._act_in_order()

    def _act_in_order(self) -> None:
        if self._acting:
            return
        self._acting = True
        try:
            while self._decided and self._decided[0].ready:
                self._act_on(self._decided.popleft())
        finally:
            self._acting = False
        if not self._open and not self._committing and not self._decided:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    def _act_on(self, decided: Decided) -> None:
        try:
            if decided.first == FAILED:
                self._fail(decided.batch)
            else:
                self._act(decided.batch, decided.first)
        except Exception:
            _log.failure("a batch could not act")

    def _is_healthy(self, _: object = None) -> None:
        if not self.healthy:
            self.healthy = True
            _log.info("the outbox takes writes again")


def _count(batch: Sequence[Outcome]) -> int:
    return sum(len(outcome.events) for outcome in batch)
