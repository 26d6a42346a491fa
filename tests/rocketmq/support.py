"""The fake cluster on the network in memory: what most tests of the client stand on."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from imconnect.rocketmq.client import Client
from imconnect.rocketmq.connection import Credentials
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Producer, Receipt
from imconnect.rocketmq.routes import Queue
from tests.rocketmq.fake_broker import FakeBroker, FakeCluster
from tests.rocketmq.network import MemoryNetwork
from tests.support import TestCase

NAMES = "10.0.0.1:9876"
BROKER = "10.0.0.2:10911"


class ClusterTestCase(TestCase):
    """One name server and one broker, `broker-a`, with topic `T` of four queues. Time is `self.network.clock`."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.cluster = FakeCluster(self.network.clock, {"broker-a": BROKER})
        self.broker: FakeBroker = self.cluster.brokers["broker-a"]
        self.cluster.topics["T"] = 4
        self.network.listen(NAMES, self.cluster.name_server)
        self.network.listen(BROKER, self.broker.peer)
        self.queue = Queue("T", "broker-a", 0)

    def client(
        self, names: str = NAMES, client_id: str = "", credentials: Credentials | None = None, jitter: float = 0.5
    ) -> Client:
        """Closed when the test ends."""
        client = Client(
            self.network.clock,
            names,
            client_id=client_id,
            credentials=credentials,
            endpoint=self.network.endpoint,
            jitter=lambda: jitter,
        )
        self.addCleanup(self.shut, client)
        return client

    def shut(self, client: Client) -> None:
        self.network.play(client.close(0.0))
        self.network.advance(0.1)

    def play(self, scenario: Coroutine[Any, Any, Any]) -> Any:
        return self.network.play(scenario)

    def send(self, producer: Producer, *bodies: bytes, queue: Queue | None = None) -> list[Receipt]:
        """Send these together and let time pass until there are receipts."""

        async def scenario() -> list[Receipt]:
            await producer.queues("T")
            return await producer.send(queue or self.queue, [Message(body=body) for body in bodies])

        receipts: list[Receipt] = self.play(scenario())
        return receipts
