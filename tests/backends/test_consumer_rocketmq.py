"""The member of the group, on the fake broker: from a topic into the database, in fake time."""

from __future__ import annotations

from typing import Any

from imconnect.backends.consumer_rocketmq import MEASURE, RocketmqConsumer
from imconnect.backends.intake import Intake
from imconnect.backends.store_memory import MemoryStore
from imconnect.business.service import BusinessRules
from imconnect.events.seed import SEED
from imconnect.observe.metrics import Metrics
from imconnect.rocketmq.lane import Settings
from imconnect.rocketmq.messages import encode_properties
from tests.backends.test_intake import Told
from tests.business.made import NOW, AtOnce, ack, in_memory
from tests.business.poison import POISON, good
from tests.rocketmq.fake_broker import Kept
from tests.rocketmq.support import BROKER, ClusterTestCase

GROUP = "G"


class ConsumerTests(ClusterTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store = MemoryStore()
        self.told = Told()

    def make(self, client_id: str = "host@imbusiness-10003") -> RocketmqConsumer:
        rules = BusinessRules(self.store, lambda: NOW)
        intake = Intake(self.network.clock, rules, AtOnce(), self.told, Metrics(), max_attempts=3)
        consumer = RocketmqConsumer(
            lambda: self.client(client_id=client_id),
            intake.take,
            group=GROUP,
            topic="T",
            settings=Settings(suspend=1.0, pull_timeout=5.0),
        )
        self.addCleanup(lambda: self.play(consumer.stop()))
        return consumer

    def started(self, client_id: str = "host@imbusiness-10003") -> RocketmqConsumer:
        consumer = self.make(client_id)
        self.play(consumer.start())
        self.network.advance(3.0)
        return consumer

    def keep(self, queue: int, *bodies: bytes, properties: str = "") -> None:
        self.broker.keep("T", queue, *(Kept(body, properties) for body in bodies))

    def ids(self) -> list[int]:
        return sorted(self.store.tables.messages)

    def offset(self, queue: int) -> int | None:
        return self.broker.offsets.get((GROUP, "T", queue))

    def test_events_are_in_the_database_and_then_the_offset_moves(self) -> None:
        """What lay there and what comes later, of all queues."""
        self.keep(0, good(1), good(2))
        consumer = self.started()
        self.keep(3, good(3))
        self.network.advance(3.0)
        self.assertEqual(self.ids(), [1, 2, 3])
        self.assertEqual((self.offset(0), self.offset(3)), (2, 1))
        self.assertEqual(len(consumer.queues), 4)
        self.assertFalse(consumer.away)

    def test_a_receipt_that_business_has_to_tell(self) -> None:
        """The user property of the message says so."""
        self.keep(0, good(7))
        self.started()
        body = SEED.encode(ack(7, 3, by_business=True))
        self.keep(0, body.body, properties=encode_properties(body.properties))
        self.network.advance(2.0)
        self.assertEqual([receipt.msg_id for applied in self.told.applied for receipt in applied.receipts], [7])

    def test_poison_of_every_kind(self) -> None:
        """Parked, and what comes behind it is stored and the offset is behind it all."""
        self.keep(1, *POISON.values(), good(5))
        self.started()
        self.assertEqual(self.ids(), [5])
        parked = in_memory(self.store.tables).parked
        self.assertEqual([row.body for row in parked], list(POISON.values()))
        self.assertEqual({(row.topic, row.queue) for row in parked}, {("T", 1)})
        self.assertEqual(self.offset(1), len(POISON) + 1)

    def test_a_database_that_is_away_for_minutes(self) -> None:
        """The queues wait, the offset stays, the lag grows and is seen; then everything is there, nothing is parked."""
        consumer = self.started()
        self.store.away = "away"
        self.keep(0, good(1))
        self.network.advance(60.0)
        self.keep(0, *(good(number) for number in range(2, 1500)))
        self.network.advance(240.0 + MEASURE)
        self.assertEqual((self.ids(), self.offset(0) or 0), ([], 0))
        self.assertEqual(consumer.lag()["T/broker-a/0"], 1499)
        self.store.away = ""
        self.network.advance(60.0)
        self.assertEqual(self.ids(), list(range(1, 1500)))
        self.assertEqual((self.offset(0), in_memory(self.store.tables).parked), (1499, []))
        self.network.advance(MEASURE)
        self.assertEqual(consumer.lag()["T/broker-a/0"], 0)

    def test_a_broker_that_is_away(self) -> None:
        """Said while it lasts; when it is back the rest comes."""
        consumer = self.started()
        self.network.refuse(BROKER)
        self.broker.kill()
        self.network.advance(5.0)
        self.assertTrue(consumer.away)
        self.network.listen(BROKER, self.broker.peer)
        self.keep(2, good(1))
        self.network.advance(40.0)
        self.assertFalse(consumer.away)
        self.assertEqual(self.ids(), [1])

    def test_a_broker_that_hangs(self) -> None:
        """Its connection stays, nothing answers: said as well."""
        consumer = self.started()
        self.broker.freeze()
        self.network.advance(MEASURE + 6.0)
        self.assertTrue(consumer.away)
        self.broker.thaw()
        self.keep(2, good(1))
        self.network.advance(MEASURE + 6.0)
        self.assertFalse(consumer.away)
        self.assertEqual(self.ids(), [1])

    def test_a_topic_that_is_not_there_yet(self) -> None:
        """Waited for; it is consumed from its first message."""
        del self.cluster.topics["T"]
        consumer = self.started()
        self.assertEqual(consumer.queues, [])
        self.cluster.topics["T"] = 2
        self.keep(0, good(1))
        self.network.advance(30.0)
        self.assertEqual((len(consumer.queues), self.ids()), (2, [1]))

    def test_two_share_and_one_takes_over(self) -> None:
        """Half each; when one stops the other goes on where it was, nothing twice and nothing missing."""
        one = self.started("host@imbusiness-1")
        other = self.started("host@imbusiness-2")
        self.network.advance(25.0)
        self.assertEqual((len(one.queues), len(other.queues)), (2, 2))
        for queue in range(4):
            self.keep(queue, good(10 + queue))
        self.network.advance(3.0)
        self.play(one.stop())
        self.network.advance(5.0)
        self.assertEqual(len(other.queues), 4)
        for queue in range(4):
            self.keep(queue, good(20 + queue))
        self.network.advance(3.0)
        self.assertEqual(self.ids(), [10, 11, 12, 13, 20, 21, 22, 23])

    def test_stopping(self) -> None:
        """Queues are given back and the connections end; a stop before the start, and a second one, do no harm."""
        consumer = self.started()
        self.keep(0, good(1))
        self.network.advance(1.0)
        self.play(consumer.stop())
        self.play(consumer.stop())
        self.network.advance(1.0)
        self.assertEqual((self.broker.locks, self.broker.peers), ({}, []))
        unstarted: Any = self.make("x")
        self.play(unstarted.stop())
        self.assertEqual((unstarted.queues, dict(unstarted.lag()), unstarted.away), ([], {}, True))
