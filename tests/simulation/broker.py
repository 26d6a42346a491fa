"""The queue between the nodes and business, in memory: several queues, at least once, each in order.

A queue may be dead for a while, a request may be stored and denied, or stored in part. What it holds it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail, succeed

from imconnect.core.ports import Answer, Entry
from imconnect.errors import Unavailable
from imconnect.events.dialect import java_queue
from imconnect.events.seed import SEED
from imconnect.events.values import Event
from imconnect.rocketmq.messages import StoredMessage
from imconnect.rocketmq.routes import Queue
from tests.simulation.clock import Life
from tests.simulation.faults import Fate, Faults
from tests.simulation.record import Record


class Broker:
    """The topic, and how far the consumer group has come in each of its queues."""

    def __init__(self, queues: int, faults: Faults, record: Record) -> None:
        self.queues = [Queue(SEED.topic, "broker", number) for number in range(queues)]
        self.held: list[list[StoredMessage]] = [[] for _ in self.queues]
        self.offsets = [0] * queues
        #: Queues that take and give nothing.
        self.dead: set[int] = set()
        #: Who wants to know that something new is in a queue.
        self.listener: Callable[[int], None] = lambda _: None
        self._record = record
        self._faults = faults

    def lane(self, event: Event) -> int:
        return java_queue(SEED.queue_key(event), len(self.queues))

    def store(self, node: int, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        """Now. In part, where the faults will it."""
        if lane in self.dead:
            return fail(Unavailable("the queue is dead (simulated)"))
        taken = len(entries)
        if self._faults.fate("part") is not Fate.WELL:
            taken = self._faults.random.randint(0, taken)
        held = self.held[lane]
        for number, event in entries[:taken]:
            body = SEED.encode(event)
            held.append(
                StoredMessage(
                    topic=SEED.topic,
                    queue=lane,
                    offset=len(held),
                    body=body.body,
                    properties=body.properties,
                    flag=0,
                    attempts=0,
                    born=0,
                    stored=0,
                )
            )
            self._record.of(node).queued(lane, number)
        self.listener(lane)
        return succeed([Answer(number, at < taken) for at, (number, _) in enumerate(entries)])


class BrokerProducer:
    """`core.ports.Producer` of one life of a node."""

    def __init__(self, broker: Broker, node: int, life: Life, faults: Faults, record: Record) -> None:
        self._broker = broker
        self._node = node
        self._life = life
        self._faults = faults
        self._record = record
        self._flying: set[int] = set()

    def open(self) -> Deferred[None]:
        return self._faults.call(self._life, "queue", lambda: succeed(None))

    def lane(self, event: Event) -> int:
        return self._broker.lane(event)

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        if lane in self._flying:
            self._record.broken.append(f"node {self._node} has two requests to queue {lane} under way")
        self._flying.add(lane)
        batch = tuple(entries)
        sent = self._faults.call(self._life, "queue", lambda: self._broker.store(self._node, lane, batch))
        return sent.addBoth(self._landed, lane)

    def _landed(self, result: object, lane: int) -> object:
        self._flying.discard(lane)
        return result

    def close(self) -> Deferred[None]:
        return succeed(None)
