"""From the bodies of a queue to rows and to what people are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from imconnect.backends.intake import Intake
from imconnect.backends.store_memory import MemoryStore
from imconnect.business.rows import Source
from imconnect.business.service import BusinessRules
from imconnect.core.ports import Pushback
from imconnect.errors import Unavailable
from imconnect.events.seed import SEED
from imconnect.events.values import Event
from imconnect.events.xzll import XZLL
from imconnect.model import Applied, Receipt, Withdrawal
from imconnect.observe.metrics import Metrics
from imconnect.rocketmq.messages import StoredMessage
from imconnect.rocketmq.routes import Queue
from tests.business.made import ANN, BEN, NOW, AtOnce, ack, client_id, in_memory, offlined, sent, withdraw
from tests.business.poison import POISON, good
from tests.support import TestCase

QUEUE = Queue("T", "broker-a", 3)
OTHER = QUEUE._replace(number=4)


def stored(offset: int, body: bytes, properties: dict[str, str] | None = None, **more: Any) -> StoredMessage:
    return StoredMessage(
        topic="T", queue=3, offset=offset, body=body, properties=properties or {}, flag=0, attempts=0, born=1, stored=2,
        **more,
    )  # fmt: skip


def written(offset: int, event: Event) -> StoredMessage:
    body = SEED.encode(event)
    return stored(offset, body.body, body.properties)


class Told:
    """A pushback that remembers, and looks at what is committed when it is told."""

    def __init__(self, look: Callable[[], Any] = lambda: None) -> None:
        self.applied: list[Applied] = []
        self.saw: list[Any] = []
        self.broken = False
        self._look = look

    def tell(self, applied: Applied) -> None:
        self.applied.append(applied)
        self.saw.append(self._look())
        if self.broken:
            raise RuntimeError("nobody listens")


class Stumbling(BusinessRules):
    """Has a bug with some messages."""

    bugs: frozenset[int] = frozenset()
    away_after = -1  # events until the database goes away

    def apply(self, events: Sequence[Event], sources: Sequence[Source] | None = None) -> Applied:
        if self.away_after == 0:
            raise Unavailable("gone")
        self.away_after -= 1
        if any(event.message.msg_id in self.bugs for event in events if hasattr(event, "message")):
            raise KeyError("our mistake, with secret words")
        return super().apply(events, sources)


class IntakeTestCase(TestCase):
    def setUp(self) -> None:
        self.store = MemoryStore()
        self.business = Stumbling(self.store, lambda: NOW)
        self.metrics = Metrics()
        self.told = Told(lambda: sorted(self.store.tables.messages))
        self.intake = self.make(self.told)

    def make(self, told: Pushback, **options: Any) -> Intake:
        options = {"max_attempts": 3, **options}
        return Intake(Clock(), self.business, AtOnce(), told, self.metrics, **options)

    def take(self, *messages: StoredMessage, queue: Queue = QUEUE, attempt: int = 1) -> Deferred[None]:
        return Deferred.fromCoroutine(self.intake.take(queue, messages, attempt))

    def parked(self) -> list[tuple[str, int, int, bytes, str]]:
        return [row[:5] for row in in_memory(self.store.tables).parked]

    def ids(self) -> list[int]:
        return sorted(self.store.tables.messages)


class IntakeTests(IntakeTestCase):
    """What arrives as it should."""

    def test_a_batch_is_stored_and_then_told(self) -> None:
        """When it fires everything is committed; hints went to the pushback after that."""
        self.assertIsNone(self.successResultOf(self.take(written(0, sent(7)), written(1, offlined(8)))))
        self.assertEqual(self.ids(), [7, 8])
        self.assertEqual((self.told.applied, self.told.saw), ([Applied(hints=(BEN,))], [[7, 8]]))
        self.assertEqual(self.metrics.business_commit_events.sum, 2)
        self.assertEqual(self.metrics.business_commit_seconds.count, 1)

    def test_nothing_to_tell_is_not_told(self) -> None:
        """A message alone concerns nobody but its receiver's gateway, which has it."""
        self.successResultOf(self.take(written(0, sent(7))))
        self.assertEqual(self.told.applied, [])

    def test_business_tells_what_a_gateway_asks_it_to(self) -> None:
        """The property RECEIPT=business: the receipt comes from here; without it the gateway has told it."""
        self.successResultOf(self.take(written(0, sent(7)), written(1, sent(8))))
        self.successResultOf(self.take(written(2, ack(7, 3, by_business=True)), written(3, ack(8, 3))))
        self.assertEqual(self.told.applied, [Applied(receipts=(Receipt(7, client_id(7), ANN, BEN, 3),))])

    def test_always_told(self) -> None:
        """Profile xzll: business tells every receipt, and Java's bodies are read."""
        self.intake = self.make(self.told, always_told=True)
        bodies = [stored(i, XZLL.encode(event).body) for i, event in enumerate((sent(7), ack(7, 4), withdraw(7)))]
        self.successResultOf(self.take(*bodies))
        (applied,) = self.told.applied
        self.assertEqual([receipt.status for receipt in applied.receipts], [4])
        self.assertEqual(applied.withdrawals, (Withdrawal(7, ANN, BEN),))

    def test_a_broken_pushback_holds_up_nothing(self) -> None:
        """The events are stored whatever telling does."""
        self.told.broken = True
        self.successResultOf(self.take(written(0, offlined(7))))
        self.assertEqual(self.ids(), [7])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_repeat_changes_nothing(self) -> None:
        """The same messages again, as after a lost offset: no error, no second row."""
        for _ in range(2):
            self.successResultOf(self.take(written(0, sent(7)), written(1, ack(7, 4))))
        rows = in_memory(self.store.tables)
        self.assertEqual([(row.msg_id, row.msg_status) for row in rows.messages], [(7, 4)])
        self.assertEqual((rows.owed, rows.parked), ([], []))


class PoisonTests(IntakeTestCase):
    """What is no event."""

    def test_every_kind_is_parked_and_the_queue_goes_on(self) -> None:
        """With topic, queue, offset, body and a reason that quotes nothing; its neighbours are stored."""
        messages = [stored(0, good(1))]
        messages += [stored(i, body) for i, body in enumerate(POISON.values(), 1)]
        messages.append(stored(len(messages), good(2)))
        self.successResultOf(self.take(*messages))
        self.assertEqual(self.ids(), [1, 2])
        parked = self.parked()
        self.assertEqual([row[:4] for row in parked], [("T", 3, i, b) for i, b in enumerate(POISON.values(), 1)])
        for _, _, offset, _, reason in parked:
            self.assertTrue(reason, offset)
            self.assertNotIn("poison", reason)

    def test_poison_alone(self) -> None:
        """A batch of nothing else is done, too."""
        self.successResultOf(self.take(stored(0, b"x")))
        self.assertEqual(len(self.parked()), 1)
        self.assertEqual(self.metrics.business_commit_events.sum, 1)

    def test_parked_once(self) -> None:
        """Read again, it stays one row."""
        for _ in range(3):
            self.successResultOf(self.take(stored(0, b"x")))
        self.assertEqual((len(self.parked()), self.business.counts.parked), (1, 1))

    def test_a_body_that_stayed_compressed(self) -> None:
        """In a way that we do not know: parked with that reason."""
        self.successResultOf(self.take(stored(0, b"\x28\xb5\x2f\xfd", undecoded="compressed with zstd")))
        self.assertEqual(self.parked(), [("T", 3, 0, b"\x28\xb5\x2f\xfd", "compressed with zstd")])

    def test_an_event_that_contradicts_what_is_stored(self) -> None:
        """The same msgId with another content: parked with its body as it was read."""
        self.successResultOf(self.take(stored(0, good(1)), stored(1, good(1, "other")), stored(2, good(2))))
        self.assertEqual(self.ids(), [1, 2])
        self.assertEqual([row[2:4] for row in self.parked()], [(1, good(1, "other"))])


class TroubleTests(IntakeTestCase):
    """What cannot be stored now."""

    def test_a_database_that_is_away_is_waited_for(self) -> None:
        """Far beyond the bound of attempts: an error each time, nothing parked; then everything is there."""
        self.store.away = "away"
        for attempt in range(1, 20):
            self.failureResultOf(self.take(stored(0, good(1)), stored(1, b"x"), attempt=attempt), Unavailable)
            self.assertEqual(self.intake.trouble, "away")
        self.store.away = ""
        self.successResultOf(self.take(stored(0, good(1)), stored(1, b"x"), attempt=20))
        self.assertEqual((self.ids(), len(self.parked()), self.intake.trouble), ([1], 1, ""))

    def test_a_bug_is_met_event_by_event_in_the_end(self) -> None:
        """The batch comes again as often as is allowed; then the culprit is parked and the others are stored."""
        self.business.bugs = frozenset({2})
        batch = [stored(i, good(i)) for i in (1, 2, 3)]
        for attempt in (1, 2, 3):
            self.failureResultOf(self.take(*batch, attempt=attempt), KeyError)
            self.assertEqual((self.ids(), self.parked()), ([], []))
        self.successResultOf(self.take(*batch, attempt=4))
        self.assertEqual(self.ids(), [1, 3])
        self.assertEqual(self.parked(), [("T", 3, 2, good(2), "fails again and again: KeyError")])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.business.bugs = frozenset()
        self.failureResultOf(self.next_bug(), KeyError)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def next_bug(self) -> Deferred[None]:
        """The count began anew: the next batch with a bug is tried as often."""
        self.business.bugs = frozenset({5})
        return self.take(stored(5, good(5)))

    def test_attempts_are_counted_per_queue_and_without_outages(self) -> None:
        """Neither another queue's bug nor a database that was away brings a queue nearer to its bound."""
        self.business.bugs = frozenset({2})
        for _ in range(3):
            self.failureResultOf(self.take(stored(2, good(2)), queue=OTHER), KeyError)
        self.store.away = "away"
        for _ in range(5):
            self.failureResultOf(self.take(stored(3, good(3))), Unavailable)
        self.store.away = ""
        self.failureResultOf(self.take(stored(2, good(2))), KeyError)
        self.assertEqual(self.parked(), [])
        self.flushLoggedErrors(KeyError)

    def test_away_while_event_by_event(self) -> None:
        """What was committed by then is told, the rest comes again and nothing of it is parked."""
        self.business.bugs = frozenset({2})
        batch = [written(1, offlined(1)), written(2, sent(2)), written(3, sent(3))]
        for _ in range(3):
            self.failureResultOf(self.take(*batch), KeyError)
        self.business.away_after = 1
        self.failureResultOf(self.take(*batch), Unavailable)
        self.assertEqual((self.ids(), self.told.applied, self.parked()), ([1], [Applied(hints=(BEN,))], []))
        self.business.away_after = -1
        self.successResultOf(self.take(*batch))
        self.assertEqual((self.ids(), len(self.parked())), ([1, 3], 1))
        self.flushLoggedErrors(KeyError)
