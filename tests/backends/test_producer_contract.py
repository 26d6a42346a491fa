"""The contract of producers on the embedded queue and on our RocketMQ client with a fake broker, in fake time."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from itertools import count
from typing import Any

from twisted.internet.task import deferLater

from imconnect.backends.mq_queues import FrozenQueues
from imconnect.backends.mq_topic import Topic
from imconnect.backends.producer_embedded import EmbeddedProducer
from imconnect.backends.producer_rocketmq import RocketmqProducer
from imconnect.backends.store_memory import MemoryStore
from imconnect.business.rows import Source
from imconnect.business.service import BusinessRules
from imconnect.config.tree import Rocketmq
from imconnect.core.ports import Producer
from imconnect.events.dialect import Dialect, msg_id_of
from imconnect.events.values import Event
from imconnect.model import Applied
from imconnect.rocketmq.client import Client
from tests.business.made import NOW, AtOnce
from tests.contracts.producer import ProducerContract, RocketmqContract
from tests.rocketmq.support import BROKER, NAMES, ClusterTestCase
from tests.support import TestCase

#: The node whose events are sent.
NODE = 7


class Recorder:
    """Business as it is, and the order in which it took the events."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.rules = BusinessRules(self.store, lambda: NOW)
        self.msg_ids: list[int] = []

    def apply(self, events: Sequence[Event], sources: Sequence[Source] | None = None) -> Applied:
        applied = self.rules.apply(events, sources)
        self.msg_ids += map(msg_id_of, events)
        return applied

    def tell(self, applied: Applied) -> None:
        """Nobody is there to be told."""


class EmbeddedContractTests(ProducerContract, TestCase):
    """The queue inside the process."""

    def play(self, scenario: Coroutine[Any, Any, None]) -> Any:
        return self.successResultOf(scenario)

    def new_producer(self) -> Producer:
        self.business = Recorder()
        return EmbeddedProducer(self.business, AtOnce(), self.business)

    async def taken(self, count: int) -> dict[int, list[int]]:
        return {0: self.business.msg_ids}

    async def break_queue(self) -> None:
        self.business.store.away = "pulled"

    async def mend_queue(self) -> None:
        self.business.store.away = ""

    async def wait(self, seconds: float) -> None:
        """Nothing here takes time."""


class FakeRocketmq(ClusterTestCase):
    """Producers over our own client."""

    def setUp(self) -> None:
        super().setUp()
        self._topics = count()

    def tearDown(self) -> None:
        """Whatever was sent, no queue ever had two requests under way."""
        self.assertEqual(self.broker.overlaps, 0)

    def new_topic(self) -> str:
        return f"Topic{next(self._topics)}"

    def producer(self, settings: Rocketmq, dialect: Dialect, data_dir: str, **options: Any) -> RocketmqProducer:
        topic = Topic(
            settings.topic,
            FrozenQueues(f"{data_dir}/queues.json"),
            create=settings.create_topic,
            queues=settings.queues,
        )
        producer = RocketmqProducer(
            self.network.clock,
            self.client,
            topic,
            dialect,
            node_id=NODE,
            group=settings.producer.group_name,
            timeout=settings.producer.send_timeout,
            max_bytes=settings.producer.max_message_size,
            attempts=settings.producer.retry_times,
            accept_unproven=settings.accept_unproven,
        )
        self.addCleanup(lambda: self.network.play(self._shut(producer)))
        return producer

    async def _shut(self, producer: Producer) -> None:
        await producer.close()

    async def wait(self, seconds: float) -> None:
        await deferLater(self.network.clock, seconds)

    async def break_queue(self) -> None:
        self.network.refuse(BROKER)
        self.broker.kill()

    async def mend_queue(self) -> None:
        self.network.listen(BROKER, self.broker.peer)


class NativeContractTests(FakeRocketmq, RocketmqContract):
    """Our own client."""

    def client(self, names: str = NAMES, *args: Any, **options: Any) -> Client:
        return super().client(names, *args, **options)
