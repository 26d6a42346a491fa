"""The group consumer when brokers, other members or its handler do not do what they should."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Request
from imconnect.rocketmq.consumer import GroupConsumer
from imconnect.rocketmq.lane import Settings
from imconnect.rocketmq.lost_end import REWIND_MS
from tests.rocketmq.behaviours import Log
from tests.rocketmq.fake_broker import Fault, Kept
from tests.rocketmq.support import BROKER, NAMES, ClusterTestCase

QUIET = Settings(rebalance=1000.0)  # nothing happens by itself


class ConsumerTestCase(ClusterTestCase):
    """A topic of one queue, and members of group G."""

    def setUp(self) -> None:
        super().setUp()
        self.cluster.topics["T"] = 1
        self.log = Log()

    def member(self, name: str = "me", log: Log | None = None, settings: Settings | None = None) -> GroupConsumer:
        """Started; it has had a second."""
        self.mq: Client = self.client(client_id=name)
        consumer = GroupConsumer(self.mq, "G", "T", log or self.log, settings=settings)
        self.addCleanup(lambda: self.play(consumer.stop(0.0)))
        self.play(consumer.start())
        self.network.advance(1.0)
        return consumer

    def put(self, *bodies: bytes, queue: int = 0) -> None:
        self.broker.keep("T", queue, *[Kept(body, "") for body in bodies])
        self.network.settle()

    def offset(self, queue: int = 0) -> int | None:
        return self.broker.offsets.get(("G", "T", queue))

    def lock(self, who: str, seconds: float, queue: int = 0) -> None:
        """Somebody holds the queue at the broker."""
        self.broker.locks["G", "T", queue] = (who, self.network.clock.seconds() + seconds)


class StoppingTests(ConsumerTestCase):
    """In the right order, and in time."""

    def test_order(self) -> None:
        """Handler, commit, unlock, goodbye."""
        consumer = self.member()
        gate = self.log.gate = Deferred()
        self.put(b"x")
        self.assertEqual(len(self.log.calls), 1)
        self.broker.history.clear()
        stopping = Deferred.fromCoroutine(consumer.stop())
        self.network.advance(1.0)
        self.assertEqual((self.broker.history, consumer.queues), ([], []))
        self.assertNoResult(stopping)
        gate.callback(None)
        self.network.settle()
        self.successResultOf(stopping)
        self.assertEqual(self.broker.history, [("commit", "0"), ("unlock", "0"), ("goodbye", "me")])
        self.assertEqual((self.offset(), self.broker.locks), (1, {}))

    def test_a_handler_that_does_not_end(self) -> None:
        """At the deadline it is left to itself: nothing committed, nothing unlocked, also when it ends later."""
        consumer = self.member()
        gate = self.log.gate = Deferred()
        self.put(b"x")
        self.broker.history.clear()
        stopping = Deferred.fromCoroutine(consumer.stop(3.0))
        self.network.advance(2.9)
        self.assertNoResult(stopping)
        self.network.advance(0.2)
        self.successResultOf(stopping)
        gate.callback(None)
        self.network.advance(5.0)
        self.assertEqual(self.broker.history, [("goodbye", "me")])
        self.assertEqual(self.broker.locks["G", "T", 0][0], "me")

    def test_a_failing_handler_does_not_hold_up_the_stop(self) -> None:
        """Between two attempts it stops at once; the message is the next member's."""
        consumer = self.member()
        self.log.fail_on = {b"bad"}
        self.put(b"bad")
        self.network.advance(3.0)
        before = self.network.clock.seconds()
        self.play(consumer.stop())
        self.assertLess(self.network.clock.seconds() - before, 0.2)
        self.assertEqual(self.offset(), 0)
        self.log.fail_on = set()
        self.member("next")
        self.assertEqual(self.log.bodies(), [b"bad"])

    def test_while_everything_is_away(self) -> None:
        """Brokers and name servers gone: the stop keeps its deadline, and can be asked for twice."""
        consumer = self.member()
        for address in (BROKER, NAMES):
            self.network.refuse(address)
        self.broker.kill()
        self.network.advance(5.0)
        before = self.network.clock.seconds()
        self.play(consumer.stop(4.0))
        self.play(consumer.stop(4.0))
        self.assertLess(self.network.clock.seconds() - before, 4.5)

    def test_a_frozen_broker(self) -> None:
        """It accepts and answers nothing: deadline, plus the goodbye that nobody hears."""
        consumer = self.member()
        self.broker.freeze()
        before = self.network.clock.seconds()
        self.play(consumer.stop(4.0))
        self.assertLess(self.network.clock.seconds() - before, 6.5)

    def test_a_reply_in_the_turn_of_the_stop(self) -> None:
        """A pull that is answered while we stop brings nothing back to life."""
        consumer = self.member()
        stopping = Deferred.fromCoroutine(consumer.stop())
        self.broker.keep("T", 0, Kept(b"late", ""))
        self.network.advance(1.0)
        self.successResultOf(stopping)
        pulls = self.broker.count(Request.PULL)
        self.network.advance(60.0)
        self.assertEqual((self.log.calls, self.broker.count(Request.PULL)), ([], pulls))


class LockTests(ConsumerTestCase):
    """Who may consume what."""

    def test_held_by_another(self) -> None:
        """Nothing is pulled before the lock is ours; it is asked for every second."""
        self.lock("other", 5.5)
        self.put(b"x")
        consumer = self.member()
        self.network.advance(3.0)
        self.assertEqual((consumer.queues, self.broker.count(Request.PULL)), ([], 0))
        self.network.advance(3.0)
        self.assertEqual(self.log.bodies(), [b"x"])

    def test_renewed(self) -> None:
        """A long quiet time: the lock stays ours."""
        self.member()
        self.network.advance(300.0)
        holder, until = self.broker.locks["G", "T", 0]
        self.assertEqual(holder, "me")
        self.assertGreater(until, self.network.clock.seconds() + 30)

    def test_lost(self) -> None:
        """Refused at a renewal: consumption ends, what is in hand is not committed, unlocked is nothing."""
        consumer = self.member()
        gate = self.log.gate = Deferred()
        self.put(b"x", b"y")
        self.lock("other", 1000.0)
        self.broker.history.clear()
        self.network.advance(25.0)
        self.assertEqual(consumer.queues, [])
        gate.callback(None)
        self.network.advance(5.0)
        self.assertEqual((self.broker.history, self.offset()), ([], 0))
        self.assertEqual(self.broker.locks["G", "T", 0][0], "other")

    def test_not_relied_upon_when_old(self) -> None:
        """Not renewed for 30 s: nothing more is handed over until it is, even while messages still come."""
        self.member()
        self.broker.faults = [Fault(code=Request.LOCK, silent=True, times=8)]
        self.network.advance(32.0)
        self.put(b"x")
        self.network.advance(2.0)
        self.assertEqual(self.log.calls, [])
        self.network.advance(40.0)
        self.assertEqual(self.log.bodies(), [b"x"])

    def test_renewed_while_letting_go(self) -> None:
        """A handler that takes minutes keeps its queue although it is another's share; then he gets it."""
        first = self.member("a")
        gate = self.log.gate = Deferred()
        self.put(b"x")
        other = Log()
        # The queue of a topic with one goes to the first member in order.
        second = self.member("0", other)
        self.network.advance(150.0)
        self.assertEqual((first.queues, second.queues, other.calls), ([], [], []))
        gate.callback(None)
        self.put(b"y")
        self.network.advance(3.0)
        self.assertEqual((self.log.bodies(), other.bodies()), ([b"x"], [b"y"]))


class RecoveryTests(ConsumerTestCase):
    """Brokers that die, sleep or answer oddly."""

    def test_killed_and_back(self) -> None:
        """Goes on by itself, nothing twice: our own position counts where the broker's is behind."""
        self.member()
        self.put(b"a", b"b")
        self.network.advance(10.0)
        self.network.refuse(BROKER)
        self.broker.kill()
        self.broker.offsets.clear()
        self.network.advance(30.0)
        self.network.listen(BROKER, self.broker.peer)
        self.put(b"c")
        self.network.advance(30.0)
        self.assertEqual(self.log.bodies(), [b"a", b"b", b"c"])
        self.assertEqual(self.offset(), 3)

    def test_name_server_away_at_the_start(self) -> None:
        """Waited for."""
        self.network.refuse(NAMES)
        self.put(b"x")
        consumer = self.member()
        self.assertEqual(consumer.queues, [])
        self.network.listen(NAMES, self.cluster.name_server)
        self.network.advance(15.0)
        self.assertEqual(self.log.bodies(), [b"x"])

    def test_no_topic_yet(self) -> None:
        """Waited for too."""
        del self.cluster.topics["T"]
        self.member()
        self.cluster.topics["T"] = 1
        self.put(b"x")
        self.network.advance(5.0)
        self.assertEqual(self.log.bodies(), [b"x"])

    def test_frozen(self) -> None:
        """Half a minute of silence, then on, in order, nothing missing."""
        self.member()
        self.put(b"a")
        self.broker.freeze()
        self.put(b"b")
        self.network.advance(40.0)
        self.broker.thaw()
        self.put(b"c")
        self.network.advance(30.0)
        self.assertEqual(self.log.bodies(), [b"a", b"b", b"c"])

    def test_a_commit_that_fails_is_made_up_for(self) -> None:
        """Also when no further message comes."""
        self.member()
        self.broker.faults = [Fault(code=Request.UPDATE_OFFSET, answer=2, times=3)]
        self.put(b"x")
        self.network.advance(1.0)
        self.assertEqual(self.offset(), 0)
        self.network.advance(5.0)
        self.assertEqual((self.offset(), self.log.bodies()), (1, [b"x"]))

    def test_odd_answers_to_a_pull(self) -> None:
        """Busy, unknown, cut, nonsense, none at all: asked again, nothing missing, nothing twice."""
        self.member()
        faults = [{"answer": 2}, {"answer": 777}, {"cut": 30}, {"nonsense": b"\0\0\0\2ab"}, {"silent": True}]
        for number, fault in enumerate(faults):
            self.broker.faults = [Fault(code=Request.PULL, **fault)]  # type: ignore[arg-type]
            self.put(b"%d.a" % number)
            self.put(b"%d.b" % number)
            self.network.advance(60.0)
        expected = [b"%d.%s" % (number, which) for number in range(len(faults)) for which in (b"a", b"b")]
        self.assertEqual(self.log.bodies(), expected)

    def test_expired_messages(self) -> None:
        """The stored offset is before the first message that still exists: go on there."""
        self.put(*[b"%d" % i for i in range(10)])
        self.broker.offsets["G", "T", 0] = 2
        self.broker.begin["T", 0] = 7
        self.member()
        self.network.advance(2.0)
        self.assertEqual(self.log.bodies(), [b"7", b"8", b"9"])

    def test_a_broker_that_lost_its_end(self) -> None:
        """Our offset is beyond its last message: nobody knows what of the rest is new, so all of it is seen."""
        self.broker.offsets["G", "T", 0] = 50
        self.put(b"perhaps")
        self.member()
        self.network.advance(2.0)
        self.put(b"new")
        self.network.advance(2.0)
        self.assertEqual((self.log.bodies(), self.offset()), ([b"perhaps", b"new"], 2))

    def test_only_what_comes_is_wanted(self) -> None:
        """The same for a group that begins with the last message: back to the end, so that what comes then is seen."""
        self.broker.offsets["G", "T", 0] = 50
        self.put(b"old")
        self.member(settings=Settings(start="last"))
        self.network.advance(2.0)
        self.put(b"new")
        self.network.advance(2.0)
        self.assertEqual((self.log.bodies(), self.offset()), ([b"new"], 2))

    def test_written_before_the_loss_was_noticed(self) -> None:
        """A broker comes back without the end of its log, and takes messages before we ask: they have numbers that we
        have passed. They are seen; of what came before the loss only the last minutes come again."""
        self.day()
        self.member()
        self.network.advance(2.0)
        self.assertEqual((len(self.log.bodies()), self.offset()), (12, 12))
        self.lose(b"new")
        self.network.advance(30.0)
        self.assertEqual((self.log.bodies()[12:], self.offset()), ([b"8", b"new"], 10))
        self.put(b"next")
        self.network.advance(2.0)
        self.assertEqual((self.log.bodies()[14:], self.offset()), ([b"next"], 11))

    def day(self) -> None:
        """Twelve messages in the queue; the time that is read again after a loss begins with "8"."""
        self.broker.keep("T", 0, *[Kept(b"%d" % i, "", stored=1_000 + i * REWIND_MS // 3) for i in range(12)])

    def lose(self, *bodies: bytes, upto: int = 9) -> None:
        """As a power cut: the broker comes back without the end of its log, and has taken these since."""
        self.broker.kill()
        del self.broker.store["T", 0][upto:]
        self.broker.keep("T", 0, *[Kept(body, "", stored=1_001 + 11 * REWIND_MS // 3) for body in bodies])

    def test_more_written_than_was_lost(self) -> None:
        """The same, and our offset is a good one again, so that the broker finds nothing odd: its last message that we
        had is another one now. All that is new is seen."""
        self.day()
        self.member()
        self.network.advance(2.0)
        new = [b"new%d" % i for i in range(5)]
        self.lose(*new)
        self.network.advance(30.0)
        self.assertEqual((self.log.bodies()[12:], self.offset()), ([b"8", *new], 14))
        self.put(b"next")
        self.network.advance(2.0)
        self.assertEqual((self.log.bodies()[18:], self.offset()), ([b"next"], 15))

    def test_lost_while_nothing_was_asked(self) -> None:
        """The window is full and no pull under way, so no request fails: another connection is a reason to look too.
        What was fetched before is handled first."""
        gate = self.log.gate = Deferred()
        self.day()
        self.member(settings=Settings(batch=2, buffered=10))
        self.network.advance(2.0)
        new = [b"new%d" % i for i in range(5)]
        self.lose(*new)
        self.network.advance(30.0)
        self.log.gate = None
        gate.callback(None)
        self.network.advance(10.0)
        self.assertEqual((self.log.bodies()[:12], self.offset()), ([b"%d" % i for i in range(12)], 14))
        self.assertEqual(self.log.bodies()[12:], [b"8", *new])

    def test_lost_while_another_had_the_queue(self) -> None:
        """What a member remembers of a queue it keeps when the queue goes and comes back."""
        self.day()
        consumer = self.member()
        self.network.advance(2.0)
        self.lock("other", 25.0)
        self.network.advance(21.0)
        self.assertEqual(consumer.queues, [])
        new = [b"new%d" % i for i in range(5)]
        self.lose(*new)
        self.lock("other", 10.0)
        self.broker.offsets["G", "T", 0] = 13
        self.network.advance(30.0)
        self.assertEqual((self.log.bodies()[12:], self.offset()), ([b"8", *new], 14))

    def test_trouble_on_the_way_back(self) -> None:
        """The way back is not committed yet when trouble comes again: the broker's old offset takes nobody forward."""
        self.day()
        self.member(settings=Settings(batch=1))
        self.network.advance(2.0)
        self.log.fail_on = {b"8"}
        self.broker.faults = [Fault(code=Request.UPDATE_OFFSET, answer=2, times=1000)]
        self.lose(b"new0", b"new1", b"new2", b"new3")
        self.network.advance(5.0)
        self.broker.kill()
        self.network.advance(5.0)
        self.log.fail_on, self.broker.faults = set(), []
        self.network.advance(30.0)
        self.assertEqual((self.log.bodies()[12:], self.offset()), ([b"8", b"new0", b"new1", b"new2", b"new3"], 13))

    def test_nothing_was_lost(self) -> None:
        """A broker that comes back whole is looked at once, and only then; so is one that forgot what is old."""
        self.day()
        self.member()
        self.network.advance(20.0)
        pulls = self.broker.count(Request.PULL)
        self.put(b"12")
        self.assertEqual(self.broker.count(Request.PULL), pulls + 1)
        self.broker.begin["T", 0] = 13
        self.broker.kill()
        self.network.advance(30.0)
        self.put(b"13")
        self.assertEqual((self.log.bodies(), self.offset()), ([b"%d" % i for i in range(14)], 14))
        groups = {frame.fields["consumerGroup"] for frame in self.broker.seen if frame.code == Request.PULL}
        self.assertEqual(groups, {"G"})

    def test_only_what_comes_is_not_looked_back_for(self) -> None:
        """A group that begins with the last message stays where it is."""
        self.put(b"old")
        self.member(settings=Settings(start="last"))
        self.put(b"new")
        self.network.advance(2.0)
        self.lose(b"a", b"b", b"c", upto=1)
        self.network.advance(30.0)
        self.assertEqual((self.log.bodies(), self.offset()), ([b"new", b"b", b"c"], 4))

    def test_forgotten_by_the_broker(self) -> None:
        """Not in its list of members: heartbeat again; meanwhile nothing is let go."""
        consumer = self.member()
        self.broker.members.clear()
        self.network.advance(21.0)
        self.assertEqual(len(consumer.queues), 1)
        self.assertIn("me", self.broker.members["G"])


class FlowTests(ConsumerTestCase):
    """How much is fetched and handed over."""

    def test_fetching_stops_when_the_handler_does(self) -> None:
        """At most `buffered` messages wait in memory (and one pull); when they are handled, on it goes."""
        gate = self.log.gate = Deferred()
        self.put(*[b"%d" % i for i in range(500)])
        self.member(settings=Settings(batch=50, buffered=100))
        self.network.advance(60.0)
        last = [frame for frame in self.broker.seen if frame.code == Request.PULL][-1]
        self.assertLessEqual(int(last.fields["queueOffset"]), 50 + 100 + 32)
        self.log.gate = None
        gate.callback(None)
        self.network.advance(5.0)
        self.assertEqual(self.log.bodies(), [b"%d" % i for i in range(500)])
        self.assertLessEqual(max(len(bodies) for _, bodies, _ in self.log.calls), 50)

    def test_retries_are_spaced(self) -> None:
        """0.1 s, 0.2 s, ... 10 s: a handler that keeps failing is not hammered, and its attempts are counted."""
        self.member()
        self.log.fail_on = {b"bad"}
        self.put(b"bad")
        self.network.advance(60.0)
        attempts = [attempt for _, _, attempt in self.log.calls]
        self.assertEqual(attempts, list(range(1, len(attempts) + 1)))
        self.assertTrue(9 <= len(attempts) <= 13, attempts)

    def test_the_handler_may_park(self) -> None:
        """A handler that gives up on a message by itself just returns: the queue goes on."""
        parked: list[bytes] = []

        def handler(queue: Any, messages: Any, attempt: int) -> None:
            if attempt < 3:
                raise ValueError("poison")
            parked.extend(message.body for message in messages)

        self.put(b"poison")
        self.member(log=handler)  # type: ignore[arg-type]
        self.network.advance(5.0)
        self.assertEqual((parked, self.offset()), ([b"poison"], 1))

    def test_lag(self) -> None:
        """What waits in our queues, as far as we heard."""
        gate = self.log.gate = Deferred()
        self.put(*[b"%d" % i for i in range(10)])
        consumer = self.member()
        self.assertEqual(consumer.lag(), {self.queue: 10})
        gate.callback(None)
        self.network.advance(1.0)
        self.assertEqual(consumer.lag(), {self.queue: 0})
        self.assertEqual(self.play(Admin(self.mq).consumer_offset("G", self.queue)), 10)


class NotificationTests(ConsumerTestCase):
    """Requests of the broker."""

    def test_of_another_group(self) -> None:
        """Not ours to look at."""
        self.member(settings=QUIET)
        asked = self.broker.count(Request.CONSUMER_LIST)
        (peer,) = self.broker.peers
        peer.ask(Request.NOTIFY_CONSUMERS, {"consumerGroup": "X"}, oneway=True)
        self.network.advance(1.0)
        self.assertEqual(self.broker.count(Request.CONSUMER_LIST), asked)
        peer.ask(Request.NOTIFY_CONSUMERS, {"consumerGroup": "G"}, oneway=True)
        self.network.advance(1.0)
        self.assertEqual(self.broker.count(Request.CONSUMER_LIST), asked + 1)

    def test_while_balancing(self) -> None:
        """A change during a look at the group makes it look again, at once."""
        self.member(settings=QUIET)
        self.broker.faults = [Fault(code=Request.CONSUMER_LIST, delay=1.0)]
        asked = self.broker.count(Request.CONSUMER_LIST)
        (peer,) = self.broker.peers
        for _ in range(3):
            peer.ask(Request.NOTIFY_CONSUMERS, {"consumerGroup": "G"}, oneway=True)
            self.network.advance(0.1)
        self.network.advance(2.0)
        self.assertEqual(self.broker.count(Request.CONSUMER_LIST), asked + 2)
