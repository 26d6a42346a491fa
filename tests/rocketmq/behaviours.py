"""What a producer and a consumer do, whoever the broker is: run on the fake one and on a real one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Outcome
from imconnect.rocketmq.consumer import GroupConsumer
from imconnect.rocketmq.errors import ClientClosed, TopicMissing
from imconnect.rocketmq.lane import Handler, Settings
from imconnect.rocketmq.messages import Message, StoredMessage
from imconnect.rocketmq.producer import Producer, Receipt
from imconnect.rocketmq.routes import Queue

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as Base
else:
    Base = object

PATIENCE = 30.0  # seconds until something expected has happened


async def stored_in(admin: Admin, queue: Queue, count: int) -> list[StoredMessage]:
    """What lies in the queue; a broker shows a message some moments after it has said that it is stored."""
    deadline = admin.clock.seconds() + PATIENCE
    while len(found := await admin.read_all(queue)) < count and admin.clock.seconds() < deadline:
        await deferLater(admin.clock, 0.05)
    return found


class Log:
    """A handler that writes down what it gets, and fails or waits when told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Queue, list[bytes], int]] = []
        self.handled: list[StoredMessage] = []
        self.fail_on: set[bytes] = set()
        self.gate: Deferred[None] | None = None

    async def __call__(self, queue: Queue, messages: Sequence[StoredMessage], attempt: int) -> None:
        bodies = [message.body for message in messages]
        self.calls.append((queue, bodies, attempt))
        if self.gate is not None:
            await self.gate
        if self.fail_on.intersection(bodies):
            raise ValueError("as told")
        self.handled += messages

    def bodies(self, queue: Queue | None = None) -> list[bytes]:
        """What was handled, of one queue or of all."""
        return [m.body for m in self.handled if queue is None or m.queue == queue.number]


class Behaviours(Base):
    """Mixed into a test case that says how to reach a broker and how to pass time."""

    def play(self, scenario: Coroutine[Any, Any, None]) -> Any:
        """Run the scenario: at once on a fake clock, or as a Deferred for trial."""
        raise NotImplementedError

    def new_client(self, client_id: str = "") -> Client:
        """A client of the broker under test; closed when the test ends."""
        raise NotImplementedError

    def new_topic(self) -> str:
        """The name of a topic that does not exist yet."""
        raise NotImplementedError

    async def until(self, client: Client, true: Callable[[], bool]) -> None:
        """Wait for it, or fail."""
        deadline = client.clock.seconds() + PATIENCE
        while not true():
            if client.clock.seconds() > deadline:
                raise AssertionError("it did not happen")
            await deferLater(client.clock, 0.05)

    async def producer(self, queues: int = 4, **options: Any) -> tuple[Producer, Admin, tuple[Queue, ...]]:
        """A producer and a topic with so many queues."""
        client = self.new_client()
        admin = Admin(client)
        topic = self.new_topic()
        await admin.create_topic(topic, queues)
        producer = Producer(client, "P" + topic, **options)
        await producer.start()
        return producer, admin, await producer.queues(topic)

    async def consumer(
        self,
        topic: str,
        handler: Handler,
        client_id: str = "",
        *,
        tags: str = "*",
        start: str = "first",
        group: str = "",
    ) -> tuple[GroupConsumer, Client]:
        client = self.new_client(client_id)
        settings = Settings(start=start, suspend=1.0, pull_timeout=10.0)
        consumer = GroupConsumer(client, group or "G" + topic, topic, handler, tags=tags, settings=settings)
        await consumer.start()
        return consumer, client

    # -- sending

    def test_one_message_is_stored_as_it_was_given(self) -> Any:
        """Body, keys, tags, unique id and properties come back, also a body with every byte there is."""

        async def scenario() -> None:
            producer, admin, queues = await self.producer()
            message = Message(
                body=bytes(range(256)), keys="k1 k2", tags="T", unique_id="id-1", properties={"RECEIPT": "ü"}, flag=7
            )
            (receipt,) = await producer.send(queues[1], [message])
            self.assertEqual((receipt.outcome, receipt.offset, receipt.code), (Outcome.STORED, 0, 0))
            (stored,) = await stored_in(admin, queues[1], 1)
            self.assertEqual((stored.body, stored.keys, stored.tags), (message.body, "k1 k2", "T"))
            self.assertEqual((stored.unique_id, stored.properties["RECEIPT"]), ("id-1", "ü"))
            self.assertEqual((stored.flag, stored.offset, stored.queue, stored.undecoded), (7, 0, 1, ""))

        return self.play(scenario())

    def test_a_batch_keeps_order_and_each_ones_properties(self) -> Any:
        """Messages of one batch lie in the queue as they were given, none with the keys of another."""

        async def scenario() -> None:
            producer, admin, queues = await self.producer()
            batch = [Message(body=b"%d" % i, keys=f"k{i}", tags=f"t{i}", unique_id=f"u{i}") for i in range(20)]
            receipts = await producer.send(queues[0], batch)
            self.assertEqual([receipt.offset for receipt in receipts], list(range(20)))
            self.assertEqual({receipt.outcome for receipt in receipts}, {Outcome.STORED})
            self.assertEqual(len({receipt.message_id for receipt in receipts}), 20)
            stored = [(m.body, m.keys, m.tags, m.unique_id) for m in await stored_in(admin, queues[0], 20)]
            self.assertEqual(stored, [(m.body, m.keys, m.tags, m.unique_id) for m in batch])

        return self.play(scenario())

    def test_calls_for_one_queue_keep_their_order(self) -> Any:
        """Sends that nobody waited for do not overtake each other."""

        async def scenario() -> None:
            producer, admin, queues = await self.producer()
            await gatherResults([producer.send(queues[0], [Message(body=b"%d" % i)]) for i in range(30)])
            stored = [message.body for message in await stored_in(admin, queues[0], 30)]
            self.assertEqual(stored, [b"%d" % i for i in range(30)])

        return self.play(scenario())

    def test_what_is_too_large_here_is_refused_alone(self) -> Any:
        """A body over the producer's limit never leaves; those before and after it are stored, in order."""

        async def scenario() -> None:
            producer, admin, queues = await self.producer(max_message=10)
            sizes = [1, 2, 11, 3]
            receipts = await producer.send(queues[0], [Message(body=b"x" * size) for size in sizes])
            outcomes = [receipt.outcome for receipt in receipts]
            self.assertEqual(outcomes, [Outcome.STORED, Outcome.STORED, Outcome.PERMANENT, Outcome.STORED])
            self.assertEqual([len(m.body) for m in await stored_in(admin, queues[0], 3)], [1, 2, 3])

        return self.play(scenario())

    def test_what_the_broker_refuses_is_found_within_its_batch(self) -> Any:
        """A message that the broker calls illegal takes none of its neighbours with it."""

        async def scenario() -> None:
            producer, admin, queues = await self.producer(max_message=8 << 20, max_batch=16 << 20)
            bodies = [b"one", b"x" * ((4 << 20) + 1000), b"two"]
            receipts = await producer.send(queues[0], [Message(body=body) for body in bodies])
            outcomes = [receipt.outcome for receipt in receipts]
            self.assertEqual(outcomes, [Outcome.STORED, Outcome.PERMANENT, Outcome.STORED])
            self.assertEqual(receipts[1].code, 13)
            self.assertEqual([m.body for m in await stored_in(admin, queues[0], 2)], [b"one", b"two"])

        return self.play(scenario())

    def test_a_missing_topic_is_said_so_and_can_be_created(self) -> Any:
        """No route: TopicMissing names the topic. Created, it takes messages."""

        async def scenario() -> None:
            client = self.new_client()
            producer, admin, topic = Producer(client, "P"), Admin(client), self.new_topic()
            try:
                await producer.queues(topic)
                self.fail("a route to nowhere")
            except TopicMissing as error:
                self.assertEqual(error.topic, topic)
            route = await admin.ensure_topic(topic, 2)
            self.assertEqual(len(route.writable), 2)
            (receipt,) = await producer.send(route.writable[0], [Message(body=b"x")])
            self.assertTrue(receipt.stored)
            self.assertEqual(await admin.ensure_topic(topic, 9), route)

        return self.play(scenario())

    def test_a_queue_that_does_not_exist_takes_nothing(self) -> Any:
        """A queue number that the topic has not: not stored, with the broker's code."""

        async def scenario() -> None:
            producer, _, queues = await self.producer(queues=2)
            (receipt,) = await producer.send(queues[0]._replace(broker="nobody"), [Message(body=b"x")])
            self.assertEqual((receipt.outcome, receipt.code), (Outcome.RETRY, None))

        return self.play(scenario())

    def test_closing_lets_work_in_flight_finish(self) -> Any:
        """What was asked for before `close` is answered; after it nothing is taken."""

        async def scenario() -> None:
            client = self.new_client()
            producer, admin, topic = Producer(client, "P"), Admin(client), self.new_topic()
            (queue, *_) = (await admin.create_topic(topic, 1)).writable
            sends = [producer.send(queue, [Message(body=b"%d" % i)]) for i in range(10)]
            await producer.close()
            receipts: list[Receipt] = [(await sent)[0] for sent in sends]
            self.assertEqual([receipt.offset for receipt in receipts], list(range(10)))
            self.failureResultOf(producer.send(queue, [Message(body=b"x")]), ClientClosed)
            await client.close()
            self.assertEqual(client.in_flight(), 0)

        return self.play(scenario())

    # -- consuming

    def test_a_group_reads_everything_in_order_and_commits(self) -> Any:
        """All that lies there and all that comes later, per queue in order; the offset stands behind the last one."""

        async def scenario() -> None:
            producer, admin, queues = await self.producer()
            for queue in queues:
                await producer.send(queue, [Message(body=b"%d" % i) for i in range(40)])
            log = Log()
            topic = queues[0].topic
            consumer, client = await self.consumer(topic, log)
            await self.until(client, lambda: len(log.handled) == 160)
            await producer.send(queues[0], [Message(body=b"late")])
            await self.until(client, lambda: len(log.handled) == 161)
            await consumer.stop()
            self.assertEqual(log.bodies(queues[0]), [*(b"%d" % i for i in range(40)), b"late"])
            for queue in queues[1:]:
                self.assertEqual(log.bodies(queue), [b"%d" % i for i in range(40)])
            offsets = [await admin.consumer_offset("G" + topic, queue) for queue in queues]
            self.assertEqual(offsets, [41, 40, 40, 40])

        return self.play(scenario())

    def test_a_group_may_begin_with_what_comes(self) -> Any:
        """start="last": what was there before the group is not shown."""

        async def scenario() -> None:
            producer, admin, queues = await self.producer(queues=1)
            await producer.send(queues[0], [Message(body=b"old")])
            log, group = Log(), "G" + queues[0].topic
            consumer, client = await self.consumer(queues[0].topic, log, start="last")
            await self.until(client, lambda: consumer.queues == [queues[0]])
            while await admin.consumer_offset(group, queues[0]) is None:
                await deferLater(client.clock, 0.05)
            await producer.send(queues[0], [Message(body=b"new")])
            await self.until(client, lambda: bool(log.handled))
            await consumer.stop()
            self.assertEqual(log.bodies(), [b"new"])

        return self.play(scenario())

    def test_the_offset_waits_for_the_handler(self) -> Any:
        """While the handler works nothing is committed; stopping waits for it and commits."""

        async def scenario() -> None:
            producer, admin, queues = await self.producer(queues=1)
            await producer.send(queues[0], [Message(body=b"x")])
            log, group = Log(), "G" + queues[0].topic
            gate = log.gate = Deferred()
            consumer, client = await self.consumer(queues[0].topic, log)
            await self.until(client, lambda: bool(log.calls))
            self.assertIn(await admin.consumer_offset(group, queues[0]), (None, 0))
            stopping = Deferred.fromCoroutine(consumer.stop())
            self.assertIn(await admin.consumer_offset(group, queues[0]), (None, 0))
            gate.callback(None)
            await stopping
            self.assertEqual(await admin.consumer_offset(group, queues[0]), 1)

        return self.play(scenario())

    def test_a_failing_handler_stops_its_queue_only(self) -> Any:
        """The same messages come again, attempts counted, before anything else of that queue; others go on."""

        async def scenario() -> None:
            producer, _, queues = await self.producer(queues=2)
            log = Log()
            log.fail_on = {b"bad"}
            consumer, client = await self.consumer(queues[0].topic, log)
            await self.until(client, lambda: len(consumer.queues) == 2)
            await producer.send(queues[0], [Message(body=b"bad"), Message(body=b"after")])
            await self.until(client, lambda: len(log.calls) >= 3)
            await producer.send(queues[1], [Message(body=b"other")])
            await self.until(client, lambda: log.bodies() == [b"other"])
            attempts = [attempt for queue, bodies, attempt in log.calls if queue == queues[0]]
            self.assertEqual(attempts, list(range(1, len(attempts) + 1)))
            log.fail_on = set()
            await self.until(client, lambda: len(log.handled) == 3)
            await consumer.stop()
            self.assertEqual(log.bodies(queues[0]), [b"bad", b"after"])

        return self.play(scenario())

    def test_a_group_may_want_some_tags_only(self) -> Any:
        """Others are passed over, and the offset moves over them."""

        async def scenario() -> None:
            producer, admin, queues = await self.producer(queues=1)
            tags = ["A", "B", "C", "A", "C"]
            await producer.send(queues[0], [Message(body=tag.encode(), tags=tag) for tag in tags])
            log, group = Log(), "G" + queues[0].topic
            consumer, client = await self.consumer(queues[0].topic, log, tags="A || B")
            await self.until(client, lambda: len(log.handled) == 3)
            while await admin.consumer_offset(group, queues[0]) != 5:
                await deferLater(client.clock, 0.05)
            await consumer.stop()
            self.assertEqual(log.bodies(), [b"A", b"B", b"A"])

        return self.play(scenario())

    def test_members_share_and_hand_over(self) -> Any:
        """Two members have half each; when one stops, the other has all; nothing is missed or comes twice."""

        async def scenario() -> None:
            producer, _, queues = await self.producer(queues=4)
            first_log, second_log = Log(), Log()
            first, client = await self.consumer(queues[0].topic, first_log, "member-1")
            await self.until(client, lambda: len(first.queues) == 4)
            second, _ = await self.consumer(queues[0].topic, second_log, "member-2")
            await self.until(client, lambda: len(first.queues) == 2 and len(second.queues) == 2)
            self.assertEqual([*first.queues, *second.queues], list(queues))
            for queue in queues:
                await producer.send(queue, [Message(body=b"a%d" % queue.number)])
            await self.until(client, lambda: len(first_log.handled) + len(second_log.handled) == 4)
            await second.stop()
            await self.until(client, lambda: len(first.queues) == 4)
            for queue in queues:
                await producer.send(queue, [Message(body=b"b%d" % queue.number)])
            await self.until(client, lambda: len(first_log.handled) + len(second_log.handled) == 8)
            await first.stop()
            self.assertEqual(sorted(second_log.bodies()), [b"a2", b"a3"])
            self.assertEqual(sorted(first_log.bodies()), [b"a0", b"a1", b"b0", b"b1", b"b2", b"b3"])

        return self.play(scenario())

    def test_a_member_that_comes_back_goes_on_where_it_was(self) -> Any:
        """The same client id after a stop: no message is repeated, none left out."""

        async def scenario() -> None:
            producer, _, queues = await self.producer(queues=2)
            log = Log()
            for round_ in range(3):
                for queue in queues:
                    await producer.send(queue, [Message(body=b"%d.%d" % (round_, i)) for i in range(5)])
                consumer, client = await self.consumer(queues[0].topic, log, "stable")
                await self.until(client, lambda round_=round_: len(log.handled) == 10 * (round_ + 1))  # type: ignore[misc]
                await consumer.stop()
                await client.close()
            for queue in queues:
                self.assertEqual(log.bodies(queue), [b"%d.%d" % (r, i) for r in range(3) for i in range(5)])

        return self.play(scenario())
