"""What every producer does, and what those to RocketMQ do besides, whatever the transport and the broker."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults

from imconnect.config.tree import MqTls, Rocketmq
from imconnect.config.tree import Producer as Sending
from imconnect.core.ports import Answer, Entry, Producer
from imconnect.errors import Unavailable
from imconnect.events.dialect import Dialect
from imconnect.events.seed import SEED
from imconnect.events.values import Event
from imconnect.events.xzll import XZLL
from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.messages import StoredMessage
from imconnect.rocketmq.routes import Queue
from tests.business.made import ANN, ack, offlined, sent, withdraw

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _Base
else:
    _Base = object

#: What msgId goes to which queue of 4, 8 and 16 (contract/gateway.md 5.1, computed with a JVM).
VECTORS = {
    1: (1, 1, 1),
    7318732866797568: (1, 1, 9),
    2001234567890123776: (3, 7, 15),
    1999999999999999999: (1, 1, 1),
    123729024000: (2, 2, 10),
}
#: Seconds that something expected may take.
PATIENCE = 120.0


def numbered(events: Sequence[Event], first: int = 1) -> list[Entry]:
    """As they lie in the log."""
    return list(enumerate(events, first))


def stored(entries: Sequence[Entry]) -> list[Answer]:
    """Every one of these is taken."""
    return [Answer(number, True) for number, _ in entries]


class ProducerContract(_Base):
    """Mix into a test case; `new_producer` gives one that is not open, closed when the test ends."""

    def play(self, scenario: Coroutine[Any, Any, None]) -> Any:
        """Run the scenario: at once on a fake clock, or as a Deferred for trial."""
        raise NotImplementedError

    def new_producer(self) -> Producer:
        raise NotImplementedError

    async def taken(self, count: int) -> dict[int, list[int]]:
        """Lane -> msgIds, in order, of what the queue of the last `new_producer` has taken: so many, or more."""
        raise NotImplementedError

    async def break_queue(self) -> None:
        """The queue is away."""
        raise NotImplementedError

    async def mend_queue(self) -> None:
        """It is back."""
        raise NotImplementedError

    async def wait(self, seconds: float) -> None:
        """Let so much time pass."""
        raise NotImplementedError

    async def opened(self) -> Producer:
        producer = self.new_producer()
        await producer.open()
        return producer

    async def carry(self, producer: Producer, lane: int, entries: list[Entry]) -> list[Answer]:
        """As the relay does: again, until each entry is settled."""
        answers: list[Answer] = []
        for _ in range(int(PATIENCE / 0.2)):
            try:
                given = await producer.send(lane, entries[len(answers) :])
            except Unavailable:
                given = []
            for answer in given:
                if not answer.stored and not answer.refused:
                    break
                answers.append(answer)
            if len(answers) == len(entries):
                return answers
            await self.wait(0.2)
        raise AssertionError("the queue did not come back")

    def test_everything_is_taken_in_order(self) -> Any:
        """All kinds of events of a chat, over several calls: one answer each, and the same order at the other end."""

        async def scenario() -> None:
            producer = await self.opened()
            events: list[Event] = [
                sent(1),
                ack(1, 3),
                ack(1, 4),
                sent(2),
                offlined(2),
                withdraw(2),
                *map(sent, range(3, 100)),
            ]
            lane = producer.lane(events[0])
            self.assertEqual({producer.lane(event) for event in events}, {lane})
            entries = numbered(events)
            for part in (entries[:1], entries[1:6], entries[6:60], entries[60:]):
                self.assertEqual(list(await producer.send(lane, part)), stored(part))
            self.assertEqual((await self.taken(103))[lane], [1, 1, 1, 2, 2, 2, *range(3, 100)])

        return self.play(scenario())

    def test_lanes_are_independent(self) -> Any:
        """Several lanes at once: each keeps its order."""

        async def scenario() -> None:
            producer = await self.opened()
            events: list[Event] = [sent(number, sender=ANN, receiver=5000 + number % 7) for number in range(1, 141)]
            lanes: dict[int, list[Entry]] = {}
            for entry in numbered(events):
                lanes.setdefault(producer.lane(entry[1]), []).append(entry)
            given = await gatherResults([producer.send(lane, entries) for lane, entries in lanes.items()])
            self.assertEqual([list(answers) for answers in given], [stored(entries) for entries in lanes.values()])
            taken = await self.taken(140)
            self.assertEqual(
                {lane: ids for lane, ids in taken.items() if ids},
                {lane: [number for number, _ in entries] for lane, entries in lanes.items()},
            )

        return self.play(scenario())

    def test_a_queue_that_goes_and_comes(self) -> Any:
        """While it is away nothing is answered as stored; afterwards everything is there, in order."""

        async def scenario() -> None:
            producer = await self.opened()
            entries = numbered([sent(number) for number in range(1, 31)])
            lane = producer.lane(entries[0][1])
            await producer.send(lane, entries[:10])
            await self.break_queue()
            with self.assertRaises(Unavailable):
                await producer.send(lane, entries[10:20])
            await self.mend_queue()
            self.assertEqual(await self.carry(producer, lane, entries[10:]), stored(entries[10:]))
            ids = (await self.taken(30))[lane]
            self.assertEqual(list(dict.fromkeys(ids)), list(range(1, 31)))

        return self.play(scenario())

    def test_closed(self) -> Any:
        """Nothing is taken any more; closing twice, or before the start, is safe."""

        async def scenario() -> None:
            await self.new_producer().close()
            producer = await self.opened()
            await gatherResults([producer.close(), producer.close()])
            with self.assertRaises(Unavailable):
                await producer.send(producer.lane(sent(1)), [(1, sent(1))])
            self.assertEqual([ids for ids in (await self.taken(0)).values() if ids], [])

        return self.play(scenario())


class RocketmqContract(ProducerContract):
    """Mix into a test case with a broker, fake or real."""

    #: The property that identifies an event whatever happens.
    id_property = "UNIQ_KEY"
    _made: tuple[str, Path]

    def client(self) -> Client:
        """Another client of the same broker, to look at what it has. Closed when the test ends."""
        raise NotImplementedError

    def producer(self, settings: Rocketmq, dialect: Dialect, data_dir: str) -> Producer:
        """Not open; closed when the test ends. `server_addr` and `transport` of the settings are this case's."""
        raise NotImplementedError

    def new_topic(self) -> str:
        """The name of a topic that does not exist yet."""
        raise NotImplementedError

    def new_producer(
        self, topic: str = "", dialect: Dialect = SEED, data_dir: str = "", *, max_bytes: int = 4096, **options: Any
    ) -> Producer:
        topic = topic or self.new_topic()
        folder = Path(data_dir or self.mktemp())
        folder.mkdir(exist_ok=True)
        self._made = (topic, folder)
        sending = Sending(group_name=f"P{topic}", max_message_size=max_bytes, send_timeout=3.0)
        settings = Rocketmq(topic=topic, **{"queues": 4, "tls": MqTls(), "producer": sending, **options})
        return self.producer(settings, dialect, str(folder))

    async def taken(self, count: int) -> dict[int, list[int]]:
        topic, folder = self._made
        frozen = json.loads((folder / "queues.json").read_bytes())[topic]
        lanes = [tuple(queue) for queue in frozen["queues"]]
        return {
            frozen["first_lane"] + lanes.index((queue.broker, queue.number)): [
                int(json.loads(json.loads(message.body)["data"])["msgId"]) for message in messages
            ]
            for queue, messages in (await self.pulled(count)).items()
        }

    async def pulled(self, count: int) -> dict[Queue, list[StoredMessage]]:
        """Everything in the topic, once there are so many: a broker shows a message a moment after it took it."""
        client = self.client()
        admin, route = Admin(client), await client.routes.refresh(self._made[0])
        for _ in range(100):
            found = {queue: await admin.read_all(queue) for queue in route.readable}
            if sum(map(len, found.values())) >= count:
                return found
            await self.wait(0.1)
        return found

    async def messages(self, count: int) -> list[StoredMessage]:
        return [message for messages in (await self.pulled(count)).values() for message in messages]

    def test_what_travels_in_profile_seed(self) -> Any:
        """Body to the byte, TAGS, KEYS, the question to business, and the event's own id."""

        async def scenario() -> None:
            producer = self.new_producer()
            await producer.open()
            event = sent(7318732866797568, content="héllo 😀")
            await producer.send(producer.lane(event), [(41, event)])
            (message,) = await self.messages(1)
            self.assertEqual(message.body, SEED.encode(event).body)
            self.assertTrue(message.body.startswith(b'{"clusterEventType":"C2C_SEND_MSG","data":"{\\"clientMsgId\\":'))
            self.assertEqual((message.keys, message.tags), ("7318732866797568", "C2C_SEND"))
            self.assertEqual(message.properties[self.id_property], "0070000000000291001A005948BB4000")
            self.assertNotIn("RECEIPT", message.properties)

        return self.play(scenario())

    def test_what_travels_in_profile_xzll(self) -> Any:
        """Integer types, no tag, no key; an ACK that business has to check says so."""

        async def scenario() -> None:
            producer = self.new_producer(dialect=XZLL)
            await producer.open()
            event = ack(77, 4, by_business=True)
            await producer.send(producer.lane(event), [(1, event)])
            (message,) = await self.messages(1)
            self.assertEqual(message.body, XZLL.encode(event).body)
            self.assertEqual(json.loads(message.body)["clusterEventType"], 30)
            self.assertEqual((message.keys, message.tags), ("", ""))
            self.assertEqual(message.properties["RECEIPT"], "business")

        return self.play(scenario())

    def test_an_entry_keeps_its_id(self) -> Any:
        """Sent again, after a restart too, it has the same id; every other entry has another one."""

        async def scenario() -> None:
            producer = self.new_producer()
            topic, folder = self._made
            await producer.open()
            entries = numbered([sent(1), offlined(1), ack(1, 3), ack(1, 3), withdraw(1)])
            lane = producer.lane(sent(1))
            await producer.send(lane, entries)
            await producer.close()
            again = self.new_producer(topic, data_dir=str(folder), producer=Sending(group_name=f"Q{topic}"))
            await again.open()
            await again.send(lane, entries)
            ids = [message.properties[self.id_property] for message in await self.messages(10)]
            self.assertEqual(ids[:5], ids[5:])
            self.assertEqual(len(set(ids)), 5)

        return self.play(scenario())

    def test_the_queue_is_the_one_that_java_takes(self) -> Any:
        """The contract's vectors, for topics of 4, 8 and 16 queues, by what really lies in each queue."""

        async def scenario() -> None:
            for column, queues in enumerate((4, 8, 16)):
                producer = self.new_producer(dialect=XZLL, queues=queues)
                await producer.open()
                for number, event in numbered([sent(msg_id) for msg_id in VECTORS]):
                    await producer.send(producer.lane(event), [(number, event)])
                found = {
                    int(json.loads(json.loads(message.body)["data"])["msgId"]): queue.number
                    for queue, messages in (await self.pulled(len(VECTORS))).items()
                    for message in messages
                }
                self.assertEqual(found, {msg_id: numbers[column] for msg_id, numbers in VECTORS.items()})

        return self.play(scenario())

    def test_the_map_stays(self) -> Any:
        """After a restart, on a topic that has grown, every chat goes where it went before."""

        async def scenario() -> None:
            topic = self.new_topic()
            producer = self.new_producer(topic)
            folder = self._made[1]
            await producer.open()
            chats: list[Event] = [sent(number, sender=ANN, receiver=3000 + number) for number in range(1, 30)]
            before = [producer.lane(event) for event in chats]
            await producer.close()
            await Admin(self.client()).create_topic(topic, 8)
            grown = self.new_producer(topic, data_dir=str(folder), producer=Sending(group_name=f"Q{topic}"))
            await grown.open()
            self.assertEqual([grown.lane(event) for event in chats], before)
            for number, event in numbered(chats):
                await self.carry(grown, grown.lane(event), [(number, event)])
            taken = {queue.number for queue, messages in (await self.pulled(29)).items() if messages}
            self.assertEqual(taken, {0, 1, 2, 3})

        return self.play(scenario())

    def test_a_missing_topic(self) -> Any:
        """Not allowed to create it: an error that names the topic and the way out; it works once somebody made it."""

        async def scenario() -> None:
            producer = self.new_producer(create_topic=False)
            topic = self._made[0]
            with self.assertRaises(Unavailable) as caught:
                await producer.open()
            self.assertIn(topic, str(caught.exception))
            self.assertIn("rocketmq.create_topic: true", str(caught.exception))
            await Admin(self.client()).create_topic(topic, 2)
            await producer.open()
            event = sent(1)
            self.assertEqual(list(await producer.send(producer.lane(event), [(1, event)])), [Answer(1, True)])

        return self.play(scenario())

    def test_refused_for_good(self) -> Any:
        """Too large, or not to be encoded: refused with a reason without its text, and the lane goes on around it."""

        async def scenario() -> None:
            producer = self.new_producer(max_bytes=1000)
            await producer.open()
            events = [
                sent(1),
                sent(2, content="secret" * 300),
                sent(3),
                sent(4, client=b"seventeen bytes!!"),
                sent(5),
            ]
            answers = list(await producer.send(producer.lane(events[0]), numbered(events)))
            self.assertEqual([answer.stored for answer in answers], [True, False, True, False, True])
            self.assertIn("max_message_size (1000)", answers[1].refused)
            self.assertNotIn("secret", answers[1].refused)
            self.assertIn("cannot be encoded", answers[3].refused)
            self.assertEqual([ids for ids in (await self.taken(3)).values() if ids], [[1, 3, 5]])

        return self.play(scenario())

    def test_large_events(self) -> Any:
        """More than fits one request, and one that is larger than what librocketmq takes by itself."""

        async def scenario() -> None:
            producer = self.new_producer(max_bytes=400_000)
            await producer.open()
            entries = numbered([sent(number, content="x" * 300_000) for number in range(1, 10)])
            lane = producer.lane(entries[0][1])
            self.assertEqual(list(await producer.send(lane, entries)), stored(entries))
            self.assertEqual((await self.taken(9))[lane], list(range(1, 10)))

        return self.play(scenario())

    def test_nothing_in_flight_at_rest(self) -> Any:
        """The gauge is back at zero when every answer is there."""

        async def scenario() -> None:
            producer: Any = await self.opened()
            sending: Deferred[Any] = producer.send(producer.lane(sent(1)), [(1, sent(1))])
            self.assertEqual(producer.gauges()["mq_in_flight"](), 1)
            await sending
            self.assertEqual(producer.gauges()["mq_in_flight"](), 0)
            self.assertEqual((dict(producer.codes), dict(producer.unproven)), ({}, {}))

        return self.play(scenario())
