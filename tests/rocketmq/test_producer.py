"""The producer when the broker or the network does not do what it should."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.defer import Deferred

from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Outcome, Request
from imconnect.rocketmq.errors import ClientClosed
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Producer, Receipt
from imconnect.rocketmq.routes import Queue
from tests.rocketmq.fake_broker import Fault
from tests.rocketmq.support import BROKER, ClusterTestCase


class ProducerTestCase(ClusterTestCase):
    """A producer with a deadline of 3 s that has its route."""

    def setUp(self) -> None:
        super().setUp()
        self.mq: Client = self.client()
        self.producer = Producer(self.mq, "P", timeout=3.0)
        self.play(self.producer.queues("T"))

    def outcomes(self, *bodies: bytes) -> list[Outcome]:
        return [receipt.outcome for receipt in self.send(self.producer, *bodies)]

    def start(self, *bodies: bytes, queue: Queue | None = None) -> Deferred[list[Receipt]]:
        """Send without waiting."""
        sent = self.producer.send(queue or self.queue, [Message(body=body) for body in bodies])
        self.network.settle()
        return sent


class AnswerTests(ProducerTestCase):
    """Every code a broker may give."""

    def test_codes(self) -> None:
        """Stored, stored but not proven, again, never: and the code is told."""
        told = {
            **dict.fromkeys((10, 11, 12), Outcome.UNPROVEN),
            **dict.fromkeys((1, 2, 14, 16, 17, 204, 205, 215, 999), Outcome.RETRY),
            13: Outcome.PERMANENT,
        }
        for code, outcome in told.items():
            self.broker.faults = [Fault(code=Request.SEND, answer=code)]
            (receipt,) = self.send(self.producer, b"%d" % code)
            self.assertEqual((receipt.outcome, receipt.code, receipt.reason), (outcome, code, "as told"))
            self.assertEqual(receipt.stored, outcome is Outcome.UNPROVEN)
            self.assertEqual(b"%d" % code in self.broker.bodies("T", 0), receipt.stored)
        self.assertEqual(self.producer.last_code, 13)

    def test_nothing_overtakes_what_was_not_stored(self) -> None:
        """After a busy answer the rest of the call is not sent, so sending it again keeps the order."""
        producer = Producer(self.mq, "P", max_batch=60)
        self.broker.faults = [Fault(code=Request.SEND, answer=0), Fault(code=Request.SEND, answer=2)]
        receipts = self.send(producer, b"a" * 30, b"b" * 30, b"c" * 30)
        outcomes = [receipt.outcome for receipt in receipts]
        self.assertEqual(outcomes, [Outcome.STORED, Outcome.RETRY, Outcome.RETRY])
        self.assertEqual([receipt.code for receipt in receipts], [0, 2, None])
        self.assertEqual(self.broker.bodies("T", 0), [b"a" * 30])

    def test_a_busy_broker_in_the_middle_of_the_search(self) -> None:
        """While the illegal one of a batch is looked for the broker gets busy: the rest waits, in order."""
        self.broker.faults = [
            Fault(code=Request.SEND_BATCH, answer=13),
            Fault(code=Request.SEND, answer=0),
            Fault(code=Request.SEND, answer=13),
            Fault(code=Request.SEND, answer=215),
        ]
        outcomes = self.outcomes(b"a", b"b", b"c", b"d")
        self.assertEqual(outcomes, [Outcome.STORED, Outcome.PERMANENT, Outcome.RETRY, Outcome.RETRY])
        self.assertEqual(self.broker.bodies("T", 0), [b"a"])

    def test_illegal_here(self) -> None:
        """An empty body, or keys that cannot travel, never leave."""
        messages = [Message(body=b""), Message(body=b"x", keys="a\x01b"), Message(body=b"y")]
        receipts = self.play(_send(self.producer, self.queue, messages))
        self.assertEqual([r.outcome for r in receipts], [Outcome.PERMANENT, Outcome.PERMANENT, Outcome.STORED])
        self.assertEqual(self.broker.count(Request.SEND), 1)

    def test_go_away(self) -> None:
        """1500: the next send uses a new connection; the old one ends once it has nothing to wait for."""
        self.outcomes(b"first")
        self.network.advance(10)
        other = Queue("T", "broker-a", 1)
        self.broker.faults = [
            Fault(code=Request.SEND, queue=1, delay=1.0),
            Fault(code=Request.SEND, queue=0, answer=1500),
        ]
        slow = self.start(b"slow", queue=other)
        self.assertEqual(self.outcomes(b"x"), [Outcome.RETRY])
        self.assertEqual(self.outcomes(b"x"), [Outcome.STORED])
        self.assertEqual(len(self.broker.peers), 2)
        self.network.advance(1.0)
        self.assertEqual(self.successResultOf(slow)[0].outcome, Outcome.STORED)
        self.assertEqual(len(self.broker.peers), 1)
        self.assertEqual(self.mq.counters.connects, 3)  # two to the broker, one to the name server

    def test_a_topic_that_the_broker_lost(self) -> None:
        """It may create it again at a send: with as many queues as it had, or those beyond would take nothing."""
        for queues, asked in ((12, "12"), (1, "4")):
            self.cluster.topics[f"T{queues}"] = queues
            (queue, *_) = self.play(self.producer.queues(f"T{queues}"))
            self.start(b"x", queue=queue)
            self.assertEqual(self.broker.seen[-1].fields["d"], asked)


class DeadlineTests(ProducerTestCase):
    """Replies that are late or never come."""

    def test_a_reply_that_never_comes(self) -> None:
        """RETRY after the deadline, not before; the connection stays and serves the next."""
        self.broker.faults = [Fault(code=Request.SEND, silent=True)]
        sent = self.start(b"x")
        self.network.advance(2.9)
        self.assertNoResult(sent)
        self.network.advance(0.2)
        (receipt,) = self.successResultOf(sent)
        self.assertEqual((receipt.outcome, receipt.code), (Outcome.RETRY, None))
        self.assertIn("RequestTimeout", receipt.reason)
        self.assertEqual(self.outcomes(b"x"), [Outcome.STORED])
        self.assertEqual((len(self.broker.peers), self.mq.counters.timeouts), (1, 1))

    def test_a_late_reply_is_nobodys(self) -> None:
        """It is dropped and counted, and not taken for the answer to what was sent meanwhile."""
        self.broker.faults = [Fault(code=Request.SEND, delay=4.0), Fault(code=Request.SEND, delay=2.0)]
        self.assertEqual(self.outcomes(b"x"), [Outcome.RETRY])
        second = self.start(b"y")
        self.network.advance(1.5)
        self.assertEqual(self.mq.counters.late_replies, 1)
        self.assertNoResult(second)
        self.network.advance(1.0)
        self.assertEqual(self.successResultOf(second)[0].offset, 1)
        self.assertEqual(len(self.broker.peers), 1)

    def test_a_slow_queue_holds_up_no_other(self) -> None:
        """Queues are independent, and a queue has one request under way."""
        self.broker.faults = [Fault(code=Request.SEND, queue=0, delay=2.0)]
        slow, behind = self.start(b"slow"), self.start(b"behind")
        other = self.start(b"other", queue=Queue("T", "broker-a", 1))
        self.assertTrue(self.successResultOf(other)[0].stored)
        self.network.advance(1.0)
        self.assertNoResult(slow)
        self.assertEqual(self.broker.bodies("T", 0), [b"slow"])
        self.network.advance(1.5)
        self.assertEqual([self.successResultOf(d)[0].offset for d in (slow, behind)], [0, 1])
        self.assertEqual(self.broker.overlaps, 0)

    def test_a_frozen_broker(self) -> None:
        """Thirty seconds of silence: sends fail one by one, the connection stays, then everything goes on."""
        self.outcomes(b"before")
        self.broker.freeze()
        for _ in range(10):
            self.assertEqual(self.outcomes(b"during"), [Outcome.RETRY])
        self.broker.thaw()
        self.network.settle()
        self.assertEqual(self.outcomes(b"after"), [Outcome.STORED])
        self.assertEqual((len(self.broker.peers), self.mq.counters.connects), (1, 2))
        self.assertGreaterEqual(self.mq.counters.late_replies, 10)
        # Why consumers have to know a message by its unique id:
        self.assertEqual(self.broker.bodies("T", 0), [b"before", *[b"during"] * 10, b"after"])

    def test_a_connection_that_is_dead_for_good_is_given_up(self) -> None:
        """No byte for 90 s and no answer to a heartbeat: another connection is made."""
        self.outcomes(b"before")
        self.broker.freeze()
        self.network.advance(140)
        self.assertEqual(self.outcomes(b"after"), [Outcome.STORED])
        self.assertEqual(self.mq.counters.connects, 3)


class ConnectionTests(ProducerTestCase):
    """Connections that break."""

    def test_killed_and_back(self) -> None:
        """Away: RETRY, soon. Back: stored, without anybody's help."""
        self.outcomes(b"before")
        self.network.advance(10)
        self.network.refuse(BROKER)
        self.broker.kill()
        before = self.network.clock.seconds()
        self.assertEqual(self.outcomes(b"x"), [Outcome.RETRY])
        self.assertLess(self.network.clock.seconds() - before, 1.0)
        self.network.listen(BROKER, self.broker.peer)
        self.network.advance(1.0)
        self.assertEqual(self.outcomes(b"x"), [Outcome.STORED])

    def test_reconnecting_is_paced(self) -> None:
        """However often one sends, attempts come 0.1 s, 0.2 s, 0.4 s apart, up to 10 s."""
        self.network.refuse(BROKER)
        self.network.attempts.clear()
        end = self.network.clock.seconds() + 60
        while self.network.clock.seconds() < end:
            self.outcomes(b"x")
        times = [when for when, address in self.network.attempts if address == BROKER]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        expected = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]
        for gap, least in zip(gaps, expected, strict=False):
            self.assertTrue(least - 0.01 <= gap <= least + 3.1, gaps)  # a send gives up after 3 s, then another asks
        self.assertLess(len(times), 16)

    def test_jitter(self) -> None:
        """Two clients of a broker that is away do not come back in step."""
        waits = []
        for jitter in (0.0, 1.0):
            producer = Producer(self.client(jitter=jitter), "P", timeout=30.0)
            self.network.refuse(BROKER)
            self.network.attempts.clear()
            self.send(producer, b"x")
            self.send(producer, b"x")
            tried = [when for when, address in self.network.attempts if address == BROKER]
            waits.append(tried[1] - tried[0])
        self.assertTrue(0.04 < waits[0] < 0.11 and 0.14 < waits[1] < 0.21, waits)

    def test_connecting_that_hangs(self) -> None:
        """The deadline covers connecting; when the address answers again, so do sends."""
        self.network.hang(BROKER)
        before = self.network.clock.seconds()
        self.assertEqual(self.outcomes(b"x"), [Outcome.RETRY])
        self.assertLess(abs(self.network.clock.seconds() - before - 3.0), 0.2)
        self.network.listen(BROKER, self.broker.peer)
        self.network.advance(10)
        self.assertEqual(self.outcomes(b"x"), [Outcome.STORED])

    def test_a_broker_that_does_not_greet(self) -> None:
        """No answer to the first heartbeat: no connection, nothing is sent on it."""
        self.broker.faults = [Fault(code=Request.HEARTBEAT, silent=True)]
        self.assertEqual(self.outcomes(b"x"), [Outcome.RETRY])
        self.assertEqual(self.broker.count(Request.SEND), 0)

    def test_cut_inside_a_frame(self) -> None:
        """At every place of the reply's first bytes: unknown outcome, then on a new connection."""
        for length in (0, 1, 3, 4, 7, 20):
            self.broker.faults = [Fault(code=Request.SEND, cut=length)]
            (receipt,) = self.send(self.producer, b"x")
            self.assertEqual(receipt.outcome, Outcome.RETRY)
            self.assertIn("ConnectionGone", receipt.reason)
            self.network.advance(10)
            self.assertEqual(self.outcomes(b"x"), [Outcome.STORED])
            self.network.advance(10)

    def test_nonsense(self) -> None:
        """Bytes that are no frame, and a length that no frame has: the connection ends, sending goes on."""
        for nonsense in (b"HTTP/1.1 400 Bad Request\r\n", b"\0\0\0\5hello", b"\x7f\xff\xff\xff", b"\0\0\0\0"):
            self.broker.faults = [Fault(code=Request.SEND, nonsense=nonsense)]
            self.assertEqual(self.outcomes(b"x"), [Outcome.RETRY])
            self.network.advance(10)
            self.assertEqual(self.outcomes(b"x"), [Outcome.STORED])
            self.network.advance(10)
        self.assertEqual(self.mq.counters.nonsense, 4)

    def test_the_brokers_own_requests_are_no_replies(self) -> None:
        """A request with the opaque of ours that waits: answered as not known, ours goes on waiting."""
        self.outcomes(b"first")
        self.broker.faults = [Fault(code=Request.SEND, delay=1.0)]
        sent = self.start(b"x")
        (peer,) = self.broker.peers
        opaque = self.broker.seen[-1].opaque
        peer.ask(307, {}, opaque=opaque)
        peer.ask(Request.NOTIFY_CONSUMERS, {"consumerGroup": "G"}, opaque=opaque, oneway=True)
        self.network.advance(0.5)
        self.assertNoResult(sent)
        self.assertEqual([(frame.code, frame.opaque) for frame in peer.answers], [(3, opaque)])
        self.assertEqual(self.mq.counters.broker_requests, 2)
        self.network.advance(1.0)
        self.assertEqual(self.successResultOf(sent)[0].offset, 1)

    def test_heartbeats(self) -> None:
        """The first thing on a connection, then every 30 s, naming client and group."""
        self.play(self.producer.start())
        self.outcomes(b"x")
        self.assertEqual(self.broker.seen[0].code, Request.HEARTBEAT)
        self.assertIn(b'"producerDataSet":[{"groupName":"P"}]', self.broker.seen[0].body)
        self.assertIn(self.mq.client_id.encode(), self.broker.seen[0].body)
        self.network.advance(95)
        self.assertEqual(self.broker.count(Request.HEARTBEAT), 4)


class CloseTests(ProducerTestCase):
    """Ending with work under way."""

    def test_what_does_not_finish_fails_at_the_deadline(self) -> None:
        """Producer and client give it their time; then it is told as unknown, and what waited behind it too."""
        self.outcomes(b"first")
        self.broker.faults = [Fault(code=Request.SEND, silent=True)]
        sent, behind = self.start(b"x"), self.start(b"y")
        closing = Deferred.fromCoroutine(self.producer.close(0.5))
        self.network.advance(0.4)
        self.assertNoResult(closing)
        self.network.advance(0.3)
        self.successResultOf(closing)
        self.assertNoResult(sent)
        closed = Deferred.fromCoroutine(self.mq.close(0.5))
        self.network.advance(0.7)
        self.successResultOf(closed)
        for each in (sent, behind):
            self.assertEqual(self.successResultOf(each)[0].outcome, Outcome.RETRY)
        self.assertEqual(self.broker.bodies("T", 0), [b"first", b"x"])

    def test_nothing_is_left(self) -> None:
        """No connection, no timer; sending is refused; closing twice is nothing special."""
        self.outcomes(b"x")
        self.play(self.mq.close())
        self.network.settle()
        self.play(self.mq.close())
        self.assertEqual(self.broker.peers, [])
        self.assertEqual(self.network.clock.getDelayedCalls(), [])
        self.failureResultOf(self.producer.send(self.queue, [Message(body=b"x")]), ClientClosed)


async def _send(producer: Producer, queue: Queue, messages: list[Message]) -> list[Receipt]:
    return await producer.send(queue, messages)
