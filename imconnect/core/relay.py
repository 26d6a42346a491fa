"""Carries the outbox to the queue, in order per lane, for as long as it takes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from imconnect.core.background import Background, sleep
from imconnect.core.ports import Answer, Entry, Outbox, Producer
from imconnect.errors import Unavailable
from imconnect.observe.metrics import Metrics

_log = Logger()

#: Events per request to the queue.
BATCH = 500
#: Events read ahead of the slowest lane.
AHEAD = 5000
#: Seconds before a refused or lost request is tried again: the first, and the longest.
BACKOFF, LONGEST = 0.1, 5.0


class Lane:
    """One queue of the topic: at most one request in flight."""

    __slots__ = ("entries", "failures", "flying")

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.flying = False
        self.failures = 0


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
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._outbox = outbox
        self._producer = producer
        self._background = background
        self._metrics = metrics
        self._jitter = jitter
        self._lanes: dict[int, Lane] = {}
        #: Everything up to this number was read; everything up to `_last` is durable.
        self._read = 0
        self._last = 0
        #: Events read and not settled yet, in all lanes.
        self._buffered = 0
        self._reading = False
        self._open = False
        self._failures = 0
        self._stopped = False
        #: (number, seconds) of what became durable, one per second at most: how old is the oldest.
        self._marks: deque[tuple[int, float]] = deque()
        self._caught_up: list[Deferred[None]] = []
        self.sent = 0
        self.retries = 0
        #: Events that the queue refused for good, those of earlier processes included.
        self.parked = 0
        self.last_error = ""

    def start(self, last: int, parked: int) -> None:
        """Go on where the outbox says that the relay was."""
        self.parked = parked
        self._read = min(self._outbox.positions().values(), default=0)
        self.durable(last)

    def durable(self, last: int) -> None:
        """Everything up to this number is in the log now."""
        if last > self._last:
            now = self._clock.seconds()
            if not self._marks or now - self._marks[-1][1] >= 1.0:
                self._drop_marks()
                self._marks.append((self._last + 1, now))
            self._last = last
        self._read_on()

    @property
    def backlog(self) -> int:
        """Events that are durable and not in the queue yet."""
        return self._last - self._read + self._buffered

    @property
    def position(self) -> int:
        """Everything up to this number is relayed."""
        return min((lane.entries[0][0] - 1 for lane in self._lanes.values() if lane.entries), default=self._read)

    def oldest_seconds(self) -> float:
        """How long the oldest event has been waiting; counted from the start for what an earlier process left."""
        self._drop_marks()
        return self._clock.seconds() - self._marks[0][1] if self._marks and self.position < self._last else 0.0

    def caught_up(self) -> Deferred[None]:
        """Fires when everything durable by now is in the queue."""
        waiter: Deferred[None] = Deferred()
        self._caught_up.append(waiter)
        self._tell_caught_up()
        return waiter

    def stop(self) -> None:
        """No further requests; what is left stays in the log."""
        self._stopped = True

    def _read_on(self) -> None:
        if self._reading or self._stopped or self._read >= self._last:
            return
        if self._buffered < AHEAD:
            self._reading = True
            self._background.run(self._read_some(), "relay")

    async def _read_some(self) -> None:
        last = self._last
        try:
            if not self._open:
                await self._producer.open()
                self._open = True
            entries = await self._outbox.read(self._read, BATCH)
            self._failures = 0
            if not entries:
                # Nothing above is left in the log: an idle lane's position may be older than what was forgotten.
                self._read = last
        except CancelledError:
            raise
        except Exception as error:
            entries = []
            self._failed(error, "reading the outbox")
            self._failures += 1
            await self._wait(self._failures)
        finally:
            self._reading = False
        self._sort(entries)
        self._read_on()

    def _sort(self, entries: Sequence[Entry]) -> None:
        done = self._outbox.positions()
        for entry in entries:
            number = self._producer.lane(entry[1])
            if entry[0] > done.get(number, 0):
                if number not in self._lanes:
                    self._lanes[number] = Lane()
                    if number not in done:
                        # A start goes on at the lowest position: without one of its own, a lane that is stuck from
                        # its first event on would be passed over.
                        self._outbox.done({number: entry[0] - 1})
                self._lanes[number].entries.append(entry)
                self._buffered += 1
        if entries:
            self._read = entries[-1][0]
        for number, lane in tuple(self._lanes.items()):
            if lane.entries and not lane.flying:
                lane.flying = True
                self._background.run(self._carry(number, lane), "relay")
        self._tell_caught_up()

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
        self._buffered -= taken
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
        if not any(other.entries for other in self._lanes.values()):
            # Nobody waits: the idle lanes come along, so that a restart does not read from where they once were.
            positions = dict.fromkeys(self._lanes, self._read)
        self._outbox.done(positions)
        self._tell_caught_up()
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
        if not any(other.failures for other in self._lanes.values()):
            self.last_error = ""

    def _drop_marks(self) -> None:
        position = self.position
        while len(self._marks) > 1 and self._marks[1][0] <= position + 1:
            self._marks.popleft()

    def _tell_caught_up(self) -> None:
        if self._caught_up and self.position >= self._last:
            waiters, self._caught_up = self._caught_up, []
            for waiter in waiters:
                waiter.callback(None)
