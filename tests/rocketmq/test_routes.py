"""Name servers that are away, silent or confused, and routes that change."""

from __future__ import annotations

from twisted.internet.protocol import Protocol

from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client, split_addresses
from imconnect.rocketmq.codes import Outcome, Request
from imconnect.rocketmq.errors import FrameError, RequestTimeout, RocketMQError, TopicMissing, Unreachable
from imconnect.rocketmq.producer import Producer
from imconnect.rocketmq.routes import Queue, parse_route
from tests.rocketmq.fake_broker import FakeBroker, FakeCluster, Fault
from tests.rocketmq.support import BROKER, NAMES, ClusterTestCase
from tests.support import TestCase

SECOND = "10.0.0.9:9876"


class ParseTests(TestCase):
    """The body of a route."""

    def test_masters_and_permissions(self) -> None:
        """Slaves do not count; queues without write permission can still be read; keys may be without quotes."""
        body = (
            b'{"brokerDatas":[{"brokerAddrs":{0:"h:1",1:"h:2"},"brokerName":"b","cluster":"C"},'
            b'{"brokerAddrs":{1:"h:3"},"brokerName":"a","cluster":"C"},'
            b'{"brokerAddrs":{"0":"h:4"},"brokerName":"c","cluster":"C"}],"queueDatas":['
            b'{"brokerName":"c","perm":4,"readQueueNums":1,"writeQueueNums":1},'
            b'{"brokerName":"b","perm":6,"readQueueNums":3,"writeQueueNums":2},'
            b'{"brokerName":"a","perm":6,"readQueueNums":1,"writeQueueNums":1}]}'
        )
        route = parse_route("T", body)
        self.assertEqual(route.masters, {"b": "h:1", "c": "h:4"})
        self.assertEqual(route.writable, (Queue("T", "b", 0), Queue("T", "b", 1)))
        self.assertEqual([(q.broker, q.number) for q in route.readable], [("b", 0), ("b", 1), ("b", 2), ("c", 0)])

    def test_nonsense(self) -> None:
        """Anything else is a FrameError."""
        for body in (
            b"",
            b"hello",
            b"[]",
            b"{}",
            b'{"brokerDatas":[1],"queueDatas":[]}',
            b'{"brokerDatas":[],"queueDatas":3}',
        ):
            self.assertRaises(FrameError, parse_route, "T", body)

    def test_addresses(self) -> None:
        """host:port, several of them, IPv6 in brackets; everything else is said so at once."""
        self.assertEqual(split_addresses("a:1; b:2;"), ["a:1", "b:2"])
        self.assertEqual(split_addresses(["[::1]:9876"]), ["[::1]:9876"])
        for bad in ("", ";", "a", "a:", ":1", "a:0", "a:65536", "a:b", "a:1;b"):
            self.assertRaises(ValueError, split_addresses, bad)


class NameServerTests(ClusterTestCase):
    """Several of them, any of which will do."""

    def elapsed(self, mq: Client) -> float:
        """Seconds until the route of T was there."""
        before = self.network.clock.seconds()
        self.assertEqual(len(self.play(mq.route("T")).writable), 4)
        return self.network.clock.seconds() - before

    def test_absent_at_the_start(self) -> None:
        """Said so while it is away; known as soon as it is there."""
        self.network.refuse(NAMES)
        mq = self.client()
        with self.assertRaises(Unreachable):
            self.play(mq.route("T"))
        self.network.listen(NAMES, self.cluster.name_server)
        self.network.advance(1.0)
        self.assertLess(self.elapsed(mq), 0.2)

    def test_one_is_absent(self) -> None:
        """The next one is asked, at once."""
        self.assertLess(self.elapsed(self.client("10.9.9.9:1;" + NAMES)), 0.2)

    def test_one_hangs(self) -> None:
        """Three seconds, then the next one; and that one first from then on."""
        for hangs in (True, False):  # while connecting, or after having accepted
            address = f"10.9.9.{int(hangs)}:1"
            if hangs:
                self.network.hang(address)
            else:
                self.network.listen(address, Protocol)
            mq = self.client(f"{address};{NAMES}")
            self.assertTrue(2.9 < self.elapsed(mq) < 3.3)
            before = self.network.clock.seconds()
            self.play(mq.routes.refresh("T"))
            self.assertLess(self.network.clock.seconds() - before, 0.2)

    def test_one_talks_nonsense(self) -> None:
        """Bytes, codes or bodies that make no sense: the next one is asked."""
        other = FakeCluster(self.network.clock, {"broker-a": BROKER})
        other.topics["T"] = 4
        self.network.listen(SECOND, other.name_server)
        for fault in (Fault(nonsense=b"SSH-2.0-OpenSSH\r\n"), Fault(cut=9), Fault(answer=999), Fault(answer=0)):
            self.cluster.faults = [fault]
            self.assertLess(self.elapsed(self.client(f"{NAMES};{SECOND}")), 0.5)

    def test_only_nonsense(self) -> None:
        """One server, nonsense: an error, no hang; later it may come to its senses."""
        self.cluster.faults = [Fault(nonsense=b"\0\0\0\4{}{}")]
        mq = self.client()
        with self.assertRaises(RocketMQError):
            self.play(mq.route("T"))
        self.network.advance(1.0)
        self.assertLess(self.elapsed(mq), 0.2)

    def test_one_has_just_started(self) -> None:
        """A server that knows no route yet is not believed when another one knows it."""
        self.network.listen(SECOND, FakeCluster(self.network.clock, {}).name_server)
        self.assertLess(self.elapsed(self.client(f"{SECOND};{NAMES}")), 0.2)
        with self.assertRaises(TopicMissing):
            self.play(self.client(f"{SECOND};{NAMES}").route("Nowhere"))

    def test_all_gone_later(self) -> None:
        """Brokers outlive their name servers: a known route is used on."""
        mq = self.client()
        producer = Producer(mq, "P")
        self.assertTrue(self.send(producer, b"x")[0].stored)
        self.network.refuse(NAMES)
        self.cluster.topics.clear()
        self.network.advance(100)
        self.cluster.topics["T"] = 4
        self.assertTrue(self.send(producer, b"y")[0].stored)


class ChangeTests(ClusterTestCase):
    """Routes that are not what they were."""

    def test_refreshed(self) -> None:
        """Every 30 s; more queues are seen."""
        mq = self.client()
        self.play(mq.route("T"))
        self.cluster.topics["T"] = 8
        self.network.advance(25)
        self.assertEqual(len(self.play(mq.route("T")).writable), 4)
        self.network.advance(10)
        self.assertEqual(len(self.play(mq.route("T")).writable), 8)
        self.assertEqual(len(self.cluster.seen), 2)

    def test_a_broker_that_moved(self) -> None:
        """Its first failure makes the route be looked at again; the old address is forgotten."""
        mq = self.client()
        producer = Producer(mq, "P")
        self.send(producer, b"x")
        self.network.advance(5)
        self.network.refuse(BROKER)
        self.broker.kill()
        self.broker.address = "10.0.0.3:10911"
        self.network.listen("10.0.0.3:10911", self.broker.peer)
        self.assertEqual(self.send(producer, b"y")[0].outcome, Outcome.RETRY)
        self.network.advance(0.1)
        self.assertEqual(self.send(producer, b"y")[0].outcome, Outcome.STORED)
        self.network.advance(35)
        self.assertEqual(mq.connected(), ["10.0.0.3:10911"])

    def test_one_of_two_brokers_dies(self) -> None:
        """Its queues wait, the other's go on."""
        second = FakeBroker(self.cluster, "broker-b", "10.0.0.4:10911")
        self.cluster.brokers["broker-b"] = second
        self.network.listen("10.0.0.4:10911", second.peer)
        producer = Producer(self.client(), "P")
        self.assertEqual(len(self.play(producer.queues("T"))), 8)
        other = Queue("T", "broker-b", 3)
        self.network.refuse(BROKER)
        self.broker.registered = False
        self.assertEqual(self.send(producer, b"x")[0].outcome, Outcome.RETRY)
        self.assertEqual(self.send(producer, b"x", queue=other)[0].outcome, Outcome.STORED)
        self.network.listen(BROKER, self.broker.peer)
        self.broker.registered = True
        self.network.advance(35)
        self.assertEqual(self.send(producer, b"x")[0].outcome, Outcome.STORED)

    def test_many_failures_make_few_questions(self) -> None:
        """A route in doubt is looked at once a second, not once per failure."""
        producer = Producer(self.client(), "P")
        self.play(producer.queues("T"))
        before = len(self.cluster.seen)
        for _ in range(50):
            self.broker.faults = [Fault(code=Request.SEND, answer=14)]
            self.send(producer, b"x")
        self.assertLessEqual(len(self.cluster.seen) - before, 1)


class AdminTests(ClusterTestCase):
    """What the behaviours do not reach."""

    def test_no_broker_is_registered(self) -> None:
        """Creating a topic waits for one until its deadline."""
        self.cluster.brokers.clear()
        with self.assertRaises(RequestTimeout):
            self.play(Admin(self.client()).create_topic("New", deadline=5.0))

    def test_what_was_deleted_is_not_read(self) -> None:
        """`read_all` begins with what is still there."""
        producer = Producer(self.client(), "P")
        self.send(producer, *[b"%d" % i for i in range(100)])
        self.broker.begin["T", 0] = 60
        admin = Admin(self.client())
        self.assertEqual([m.offset for m in self.play(admin.read_all(self.queue))], list(range(60, 100)))
        self.assertEqual(self.play(admin.min_offset(self.queue)), 60)
