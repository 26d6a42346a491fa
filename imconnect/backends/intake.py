"""What a queue holds, into the database: the handler of a group consumer.

The consumer moves its offset only after `take` has fired, and `take` fires only after the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from imconnect.backends.calls import Calls
from imconnect.business.rows import Source
from imconnect.core.ports import Pushback
from imconnect.errors import Unavailable
from imconnect.events.decode import MalformedEvent, decode_body
from imconnect.events.dialect import RECEIPT, RECEIPT_BUSINESS
from imconnect.events.values import Event
from imconnect.model import Applied
from imconnect.observe.metrics import Metrics
from imconnect.rocketmq.messages import StoredMessage
from imconnect.rocketmq.routes import Queue

_log = Logger()

_NOTHING = Applied()


class Applying(Protocol):
    """`business.service.BusinessRules`, as far as a consumer needs it. Called on the pool's thread."""

    def apply(self, events: Sequence[Event], sources: Sequence[Source] | None = None) -> Applied: ...

    def park(self, source: Source, reason: str) -> None: ...


class Intake:
    """Reads bodies, applies them batch by batch, and hands what is to be told to `pushback` without waiting for it.

    A body that is no event is parked and the queue goes on. A database that is away is waited for, however long it
    takes. A batch that fails for another reason (a bug) comes again; after `max_attempts` it is applied event by
    event, and those that still fail are parked. `always_told`: business tells every receipt (profile xzll).
    """

    def __init__(
        self,
        clock: IReactorTime,
        business: Applying,
        pool: Calls,
        pushback: Pushback,
        metrics: Metrics,
        *,
        max_attempts: int,
        always_told: bool = False,
    ) -> None:
        self._clock, self._business, self._pool = clock, business, pool
        self._pushback, self._metrics = pushback, metrics
        self._max_attempts, self._always_told = max_attempts, always_told
        self._failures: dict[Queue, int] = {}
        #: Why the database took nothing when it was tried last; empty while it does.
        self.trouble = ""

    async def take(self, queue: Queue, messages: Sequence[StoredMessage], attempt: int) -> None:
        """Fires when everything in these messages is in the database, or parked there. Any error: the same again.

        `attempt` counts what the consumer tried, also while the database was away, and is not looked at.
        """
        started = self._clock.seconds()
        told: list[Applied] = []
        alone = self._failures.get(queue, 0) >= self._max_attempts
        try:
            await self._pool.run(self._apply_alone if alone else self._apply, messages, told)
        except Unavailable as error:
            self._wait_for_database(str(error))
            raise
        except Exception:
            self._failures[queue] = self._failures.get(queue, 0) + 1
            if self._failures[queue] == 1:
                _log.failure("a batch of {queue} cannot be applied, tried again", queue=queue)
            raise
        finally:
            # Also when a later event of the batch failed: these are committed, and come back as repeats.
            for applied in told:
                self._tell(applied)
        self._failures.pop(queue, None)
        self._metrics.observe_business_commit(len(messages), self._clock.seconds() - started)
        if self.trouble:
            self.trouble = ""
            _log.info("the database takes events again")

    def _wait_for_database(self, why: str) -> None:
        if not self.trouble:
            _log.warn("events wait for the database: {why}", why=why)
        self.trouble = why

    def _tell(self, applied: Applied) -> None:
        if applied != _NOTHING:
            try:
                self._pushback.tell(applied)
            except Exception:
                # The events are stored whatever telling does; the watch shows what was not told.
                _log.failure("telling what business applied failed")

    # -- on the pool's thread

    def _apply(self, messages: Sequence[StoredMessage], told: list[Applied]) -> None:
        events: list[Event] = []
        sources: list[Source] = []
        for message in messages:
            try:
                event = self._read(message)
            except MalformedEvent as error:
                self._business.park(_source(message), error.reason)
            else:
                events.append(event)
                sources.append(_source(message))
        if events:
            told.append(self._business.apply(events, sources))

    def _apply_alone(self, messages: Sequence[StoredMessage], told: list[Applied]) -> None:
        for message in messages:
            try:
                self._apply([message], told)
            except Unavailable:
                raise
            except Exception as error:
                # Its text may quote the event.
                self._business.park(_source(message), f"fails again and again: {type(error).__name__}")

    def _read(self, message: StoredMessage) -> Event:
        if message.undecoded:
            raise MalformedEvent(message.undecoded)
        asked = message.properties.get(RECEIPT) == RECEIPT_BUSINESS
        return decode_body(message.body, asked or self._always_told)


def _source(message: StoredMessage) -> Source:
    return Source(message.topic, message.queue, message.offset, message.body)
