"""Carries the outbox to the queue, in order per lane, for as long as it takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from imconnect.core.background import Background, sleep
from imconnect.core.lane import Lane, Lanes
from imconnect.core.ports import Answer, Entry, Outbox, Producer
from imconnect.core.progress import Progress
from imconnect.errors import Unavailable
from imconnect.observe.metrics import Metrics

_log = Logger()

#: Events per request to the queue.
BATCH = 500
#: Seconds before a refused or lost request is tried again: the first, and the longest.
BACKOFF, LONGEST = 0.1, 5.0


class Relay:
    """Reads what is durable, sends it, and marks it done only when the queue has it."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        outbox: Outbox,
        producer: Producer,
        background: Background,
        metrics: Metrics,
        moved: Callable[[], None] = lambda: None,
        gather: float = 0.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._gather = gather
        self._outbox = outbox
        self._producer = producer
        self._background = background
        self._metrics = metrics
        #: Called when `position` has moved.
        self._moved = moved
        self._jitter = jitter
        self._lanes = Lanes(producer.lane)
        self._progress = Progress()
        self._reading = False
        #: The last piece of the log was one that had been read before.
        self._again = False
        self._open = False
        self._failures = 0
        self._stopped = False
        self._caught_up: list[Deferred[None]] = []
        self.sent = 0
        self.retries = 0
        #: Events that the queue refused for good, those of earlier processes included.
        self.parked = 0
        self.last_error = ""

    def start(self, last: int, parked: int) -> None:
        """Go on where the outbox says that the relay was."""
        self.parked = parked
        self._lanes.read = min(self._outbox.positions().values(), default=0)
        self._progress.start(self._lanes.read, self._clock.seconds())
        self.durable(last)

    def durable(self, last: int) -> None:
        """Everything up to this number is in the log now."""
        self._progress.durable(last, self._clock.seconds())
        self._read_on()

    @property
    def backlog(self) -> int:
        """Events that are durable and not in the queue yet."""
        return self._progress.last - self._lanes.read + self._lanes.events

    @property
    def position(self) -> int:
        """Everything up to this number is relayed."""
        return self._lanes.position

    def oldest_seconds(self) -> float:
        """How long the oldest event has been waiting; counted from the start for what an earlier process left."""
        return self._progress.oldest_seconds(self._clock.seconds())

    def stuck_seconds(self) -> float:
        """How long the queue has not settled the oldest event; 0 while none waits."""
        return self._progress.stuck_seconds(self._clock.seconds())

    def caught_up(self) -> Deferred[None]:
        """Fires when everything durable by now is in the queue."""
        waiter: Deferred[None] = Deferred()
        self._caught_up.append(waiter)
        self._tell()
        return waiter

    def stop(self) -> None:
        """No further requests; what is left stays in the log."""
        self._stopped = True

    def _read_on(self) -> None:
        if not self._reading and self._has_to_read():
            self._reading = True
            self._background.run(self._read_all(), "relay")

    def _has_to_read(self) -> bool:
        return not self._stopped and (self._lanes.read < self._progress.last or bool(self._lanes.behind()))

    async def _read_all(self) -> None:
        try:
            while self._has_to_read():
                if self._gather and self._progress.last - self._lanes.read < BATCH:
                    # A request costs the same for one event and for many.
                    await sleep(self._clock, self._gather)
                if not self._stopped:
                    await self._read_some()
        finally:
            self._reading = False

    async def _read_some(self) -> None:
        lanes, last, behind = self._lanes, self._progress.last, self._lanes.behind()
        # In turns where there are both: neither what is new nor what waited for long holds up the other.
        self._again = bool(behind) and not (self._again and lanes.read < last)
        try:
            if not self._open:
                await self._producer.open()
                self._open = True
            if self._again:
                after = min(lane.skipped_from for lane in behind) - 1
                lanes.sort_again(behind, await self._outbox.read(after, BATCH))
            else:
                self._sort(await self._outbox.read(lanes.read, BATCH), last)
        except CancelledError:
            raise
        except Exception as error:
            self._failed(error, "reading the outbox")
            self._failures += 1
            if self._failures == 3 and not self._open:
                _log.warn("the queue does not open, the outbox keeps everything: {why}", why=self.last_error)
            await self._wait(self._failures)
        else:
            if self._failures >= 3:
                _log.info("events go to the queue again")
            self._failures = 0
            self._send_all()
            self._tell()

    def _sort(self, entries: Sequence[Entry], last: int) -> None:
        # A start goes on at the lowest position: without one of its own, a lane that is stuck from its first event on
        # would be passed over.
        begun = self._lanes.sort(entries, self._outbox.positions())
        if begun:
            self._outbox.done(begun)
        if not entries:
            # Nothing above is left in the log: an idle lane's position may be older than what was forgotten.
            self._lanes.read = last

    def _send_all(self) -> None:
        for number, lane in tuple(self._lanes.by_number.items()):
            if lane.entries and not lane.flying:
                lane.flying = True
                self._background.run(self._carry(number, lane), "relay")

    async def _carry(self, number: int, lane: Lane) -> None:
        try:
            while lane.entries and not self._stopped:
                batch = [lane.entries[index] for index in range(min(BATCH, len(lane.entries)))]
                await self._send(number, lane, batch)
        finally:
            lane.flying = False

    async def _send(self, number: int, lane: Lane, batch: Sequence[Entry]) -> None:
        started = self._clock.seconds()
        try:
            # A stop cancels who waits for the answer, not the sending: that may be half done on a thread.
            answered: Deferred[Sequence[Answer]] = Deferred()
            self._producer.send(number, batch).chainDeferred(answered)
            answers = await answered
            self._metrics.observe_mq_send(self._clock.seconds() - started)
            taken = await self._take(batch, answers)
        except CancelledError:
            raise
        except Exception as error:
            taken = 0
            self._failed(error, f"sending to queue {number}")
        for _ in range(taken):
            lane.entries.popleft()
        self._lanes.events -= taken
        if taken:
            self.sent += taken
            self._done(number, lane, batch[taken - 1][0])
        if taken == len(batch):
            self._recovered(number, lane)
        else:
            await self._back_off(number, lane, len(batch) - taken)

    async def _take(self, batch: Sequence[Entry], answers: Sequence[Answer]) -> int:
        """How many from the front are settled: stored, or parked because they never can be."""
        settled = 0
        refused = []
        for (number, event), answer in zip(batch, answers, strict=True):
            if not answer.stored and not answer.refused:
                break
            settled += 1
            if answer.refused:
                refused.append((number, event, answer.refused))
        if refused:
            await self._outbox.park(refused)
            self.parked += len(refused)
            _log.error("{count} events were refused for good and are parked", count=len(refused))
        self._metrics.mq_sends["stored"] += settled - len(refused)
        self._metrics.mq_sends["refused"] += len(refused)
        return settled

    def _done(self, number: int, lane: Lane, last: int) -> None:
        positions = {number: last}
        if not self._lanes.waiting():
            # Nobody waits: the idle lanes come along, so that a restart does not read from where they once were.
            positions = dict.fromkeys(self._lanes.by_number, self._lanes.read)
        self._outbox.done(positions)
        self._tell()
        self._read_on()

    def _failed(self, error: Exception, what: str) -> None:
        """In an `except`. Also a bug must not hold anybody's events for ever: logged, and tried again."""
        if isinstance(error, Unavailable):
            self.last_error = str(error)
        else:
            self.last_error = type(error).__name__
            _log.failure("{what} failed", what=what)

    async def _back_off(self, number: int, lane: Lane, events: int) -> None:
        lane.failures += 1
        self.retries += 1
        self._metrics.mq_sends["retry"] += events
        if lane.failures == 3:
            _log.warn("queue {lane} takes nothing, the outbox keeps it: {why}", lane=number, why=self.last_error)
        await self._wait(lane.failures)

    async def _wait(self, failures: int) -> None:
        wait = min(LONGEST, BACKOFF * 2.0 ** min(failures, 10))
        await sleep(self._clock, wait * (0.5 + self._jitter() / 2))

    def _recovered(self, number: int, lane: Lane) -> None:
        if lane.failures >= 3:
            _log.info("queue {lane} takes events again", lane=number)
        lane.failures = 0
        if not any(other.failures for other in self._lanes.by_number.values()):
            self.last_error = ""

    def _tell(self) -> None:
        """The position may have moved."""
        position = self.position
        if self._progress.settled(position, self._clock.seconds()):
            self._moved()
        if self._caught_up and position >= self._progress.last:
            waiters, self._caught_up = self._caught_up, []
            for waiter in waiters:
                waiter.callback(None)
