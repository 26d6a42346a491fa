"""The queue of a process that is its own business side: what is sent is applied at once, on business's thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.backends.calls import Calls
from imconnect.business.rows import Source
from imconnect.core.ports import Answer, Entry, Pushback
from imconnect.errors import Unavailable
from imconnect.events.values import Event
from imconnect.model import Applied

_log = Logger()

_T = TypeVar("_T")

#: The topic under which an event of this queue is parked; its offset is its number in the outbox.
TOPIC = "embedded"

_NOTHING = Applied()


class SourcedBusiness(Protocol):
    """`business.service.BusinessRules`, as far as a queue needs it."""

    def apply(self, events: Sequence[Event], sources: Sequence[Source] | None = None) -> Applied: ...


class EmbeddedProducer:
    """`core.ports.Producer` with one lane. An answer comes after the commit of the database.

    `pool` has one thread of its own, so that batches are applied in order. What business wants to tell goes to
    `pushback` on the reactor thread, before the answers fire.
    """

    def __init__(self, business: SourcedBusiness, pool: Calls, pushback: Pushback) -> None:
        self._business = business
        self._pool = pool
        self._pushback = pushback
        self._in_flight = 0
        self._closing: list[Deferred[None]] | None = None

    def open(self) -> Deferred[None]:
        return succeed(None)

    def lane(self, event: Event) -> int:
        return 0

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        if self._closing is not None:
            return fail(Unavailable("the embedded queue is closed"))
        numbers = [number for number, _ in entries]
        events = [event for _, event in entries]
        sources = [Source(TOPIC, 0, number) for number in numbers]
        self._in_flight += 1
        applied: Deferred[Applied] = self._pool.run(self._business.apply, events, sources)
        answered = applied.addCallbacks(self._applied, self._failed, callbackArgs=(numbers,))
        return answered.addBoth(self._ended)

    def close(self) -> Deferred[None]:
        """Fires when nothing is in flight. The pool and the database are their makers' to stop."""
        if self._closing is None:
            self._closing = []
        if not self._in_flight:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        return closed

    def _applied(self, applied: Applied, numbers: Sequence[int]) -> Sequence[Answer]:
        if applied != _NOTHING:
            try:
                self._pushback.tell(applied)
            except Exception:
                # The events are stored whatever telling does; the watch shows what was not told.
                _log.failure("telling what business applied failed")
        return [Answer(number, True) for number in numbers]

    def _failed(self, failure: Failure) -> Failure:
        if isinstance(failure.value, Unavailable):
            return failure
        # Our bug: the batch was rolled back and stays in the outbox, so the relay may try again.
        _log.failure("applying a batch failed", failure=failure)
        raise Unavailable(f"business failed: {type(failure.value).__name__}")

    def _ended(self, result: _T) -> _T:
        self._in_flight -= 1
        if not self._in_flight and self._closing:
            waiting, self._closing = self._closing, []
            for closed in waiting:
                closed.callback(None)
        return result
