"""Between commit and act where a message counts only once the broker has it (`outbox.ack_after: broker`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from imconnect.core.act import Act
from imconnect.core.outcome import Outcome
from imconnect.core.pipeline import FAILED, After
from imconnect.core.recent import Row, State

_log = Logger()


class _Waiting(NamedTuple):
    outcomes: Sequence[Outcome]
    first: int  # number of the first event
    needs: int  # acts when everything up to this number is relayed


class Gate:
    """What is durable acts, batch by batch and in order, when the relay has brought the whole batch to the broker.

    An answer that depends on no event does not wait: a refusal during an outage is told at once. `relayed` says up to
    which number the broker has everything; call `moved` when that has changed. `hint`: a user is owed something.
    """

    def __init__(self, act: Act, relayed: Callable[[], int], hint: Callable[[int], None]) -> None:
        self._act = act
        self._relayed = relayed
        self._hint = hint
        self._queue: deque[_Waiting] = deque()
        #: What the broker has, in order, and what keeps it from acting: see `after`.
        self._passed: deque[tuple[_Waiting, Deferred[list[None]]]] = deque()
        #: What a batch waits for between the broker and acting, as it otherwise does between commit and acting.
        self.after: list[After] = []
        #: What an earlier process left and the broker does not have yet.
        self._left: deque[Row] = deque()
        #: The highest number that is durable here.
        self._durable = 0

    @property
    def waiting(self) -> int:
        """Outcomes that wait for the broker."""
        passed = [waiting for waiting, _ in self._passed]
        return sum(len(waiting.outcomes) for waiting in (*passed, *self._queue))

    def start(self, last: int, left: Iterable[Row]) -> None:
        """An earlier process left a log up to this number, and these messages of it, in order, are not shown yet."""
        self._durable = last
        self._left.extend(left)
        self.moved()

    def may_be_shown(self, row: Row) -> bool:
        """Whether the broker has this message."""
        return row.number <= self._relayed()

    def durable(self, batch: Sequence[Outcome], first: int) -> None:
        """The events of this batch are in the log, numbered from `first`."""
        events = sum(len(outcome.events) for outcome in batch)
        if events:
            self._durable = first + events - 1
        later = [outcome for outcome in batch if outcome.events or self._waits(outcome)]
        at_once = [outcome for outcome in batch if not outcome.events and not self._waits(outcome)]
        if at_once:
            self._act.durable(at_once, 0)
        self._wait(later, first)

    def failed(self, batch: Sequence[Outcome]) -> None:
        """The events of this batch are not in the log. A repeat of what is shares the fate of that."""
        for after in self.after:
            after(batch, FAILED)
        self._act.failed([outcome for outcome in batch if not self._waits(outcome)])
        self._wait([outcome for outcome in batch if self._waits(outcome)], 0)

    def moved(self) -> None:
        """The broker has more."""
        relayed = self._relayed()
        while self._left and self._left[0].number <= relayed:
            # Before what was sent after it acts, so that it is shown before that.
            self._hint(self._left.popleft().receiver)
        while self._queue and self._queue[0].needs <= relayed:
            waiting = self._queue.popleft()
            told = gatherResults([after(waiting.outcomes, waiting.first) for after in self.after])
            self._passed.append((waiting, told))
            told.addCallback(self._act_in_order)

    def _act_in_order(self, _: object) -> None:
        while self._passed and self._passed[0][1].called:
            waiting, _ = self._passed.popleft()
            try:
                self._act.durable(waiting.outcomes, waiting.first)
            except Exception:
                _log.failure("a batch could not act")

    def _wait(self, outcomes: Sequence[Outcome], first: int) -> None:
        if outcomes:
            self._queue.append(_Waiting(outcomes, first, self._durable))
            self.moved()

    def _waits(self, outcome: Outcome) -> bool:
        original = outcome.repeats
        if original is not None:
            return original.state is State.PENDING or original.number > self._relayed()
        # What became of somebody's messages is told when all that is known here is true there.
        return outcome.late is not None and self._durable > self._relayed()
