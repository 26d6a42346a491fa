"""The queue of a process that is its own business side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred

from imconnect.backends.producer_embedded import EmbeddedProducer
from imconnect.backends.store_memory import MemoryStore
from imconnect.business.rows import Source
from imconnect.business.service import BusinessRules
from imconnect.core.ports import Answer
from imconnect.errors import Unavailable
from imconnect.events.values import Event
from imconnect.model import Applied, Withdrawal
from tests.business.made import ANN, BEN, NOW, AtOnce, ack, in_memory, offlined, sent, withdraw
from tests.support import TestCase

_T = TypeVar("_T")


class Told:
    """A pushback that remembers."""

    def __init__(self) -> None:
        self.applied: list[Applied] = []
        self.broken = False

    def tell(self, applied: Applied) -> None:
        self.applied.append(applied)
        if self.broken:
            raise RuntimeError("nobody listens")


class Later:
    """A pool whose thread gets to the calls when the test says so."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []

    def run(self, function: Callable[..., _T], /, *args: Any) -> Deferred[_T]:
        result: Deferred[_T] = Deferred()
        self._calls.append(lambda: maybeDeferred(function, *args).chainDeferred(result))
        return result

    def work(self) -> None:
        self._calls.pop(0)()


class Buggy:
    """A business side with a bug."""

    def apply(self, events: Sequence[Event], sources: Sequence[Source] | None = None) -> Applied:
        raise KeyError("our mistake")


class EmbeddedProducerTests(TestCase):
    """Sending is applying."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        self.business = BusinessRules(self.store, lambda: NOW)
        self.told = Told()
        self.producer = EmbeddedProducer(self.business, AtOnce(), self.told)

    def test_send(self) -> None:
        """Everything is applied and answered as stored, in order; what is to be told was told before."""
        sending = self.producer.send(0, [(41, sent(7)), (42, withdraw(7)), (43, offlined(8))])
        self.assertEqual(self.successResultOf(sending), [Answer(41, True), Answer(42, True), Answer(43, True)])
        self.assertEqual([row.msg_id for row in in_memory(self.store.tables).messages], [7, 8])
        self.assertEqual(self.told.applied, [Applied(withdrawals=(Withdrawal(7, ANN, BEN),), hints=(BEN,))])

    def test_nothing_to_tell(self) -> None:
        """An ordinary batch disturbs nobody."""
        self.successResultOf(self.producer.send(0, [(1, sent(7)), (2, ack(7, 3))]))
        self.assertEqual(self.told.applied, [])

    def test_one_lane(self) -> None:
        """All events belong to the same queue."""
        self.assertEqual({self.producer.lane(event) for event in (sent(7), ack(8, 3), withdraw(9), offlined(10))}, {0})

    def test_parked_with_its_number(self) -> None:
        """A contradiction is parked under its number in the outbox and answered as stored: the lane goes on."""
        self.successResultOf(self.producer.send(0, [(1, sent(7))]))
        answers = self.successResultOf(self.producer.send(0, [(2, sent(7, content="else")), (3, sent(8))]))
        self.assertEqual(answers, [Answer(2, True), Answer(3, True)])
        (parked,) = in_memory(self.store.tables).parked
        self.assertEqual((parked.topic, parked.queue, parked.offset), ("embedded", 0, 2))

    def test_away(self) -> None:
        """A database that is away is Unavailable; nothing is stored or told, and the same batch may come again."""
        self.store.away = "pulled"
        self.failureResultOf(self.producer.send(0, [(1, offlined(7))]), Unavailable)
        self.assertEqual(self.told.applied, [])
        self.store.away = ""
        self.assertEqual(self.successResultOf(self.producer.send(0, [(1, offlined(7))])), [Answer(1, True)])
        self.assertEqual(self.told.applied, [Applied(hints=(BEN,))])

    def test_bug(self) -> None:
        """A bug of ours is logged once, and the batch stays in the outbox."""
        producer = EmbeddedProducer(Buggy(), AtOnce(), self.told)
        failure = self.failureResultOf(producer.send(0, [(1, sent(7))]), Unavailable)
        self.assertNotIn("our mistake", str(failure.value))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_telling_fails(self) -> None:
        """What was applied is answered as stored whatever telling does."""
        self.told.broken = True
        self.assertEqual(self.successResultOf(self.producer.send(0, [(1, offlined(7))])), [Answer(1, True)])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_close(self) -> None:
        """Closing waits for the batch in flight; afterwards nothing is taken."""
        pool = Later()
        producer = EmbeddedProducer(self.business, pool, self.told)
        sending = producer.send(0, [(1, sent(7))])
        closing, again = producer.close(), producer.close()
        self.failureResultOf(producer.send(0, [(2, sent(8))]), Unavailable)
        self.assertNoResult(closing)
        pool.work()
        self.assertEqual(self.successResultOf(sending), [Answer(1, True)])
        self.assertIsNone(self.successResultOf(closing))
        self.assertIsNone(self.successResultOf(again))
        self.assertIsNone(self.successResultOf(producer.close()))
