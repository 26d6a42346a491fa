"""The producer over our own client when the broker or the network does not do what it should. In fake time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from imconnect.config.tree import Producer as Sending
from imconnect.config.tree import Rocketmq
from imconnect.core.ports import Answer, Entry
from imconnect.errors import Unavailable
from imconnect.events.seed import SEED
from imconnect.events.values import Event
from imconnect.rocketmq.codes import Request
from imconnect.rocketmq.messages import decode_properties
from tests.backends.test_producer_contract import FakeRocketmq
from tests.business.made import sent
from tests.contracts.producer import numbered, stored
from tests.rocketmq.fake_broker import Fault
from tests.rocketmq.support import BROKER, NAMES

#: Anything that sends.
ANY_SEND = (Request.SEND, Request.SEND_BATCH)


class ProducerTestCase(FakeRocketmq):
    """A producer that makes three attempts of at most 2 s each, open, on the topic `T` of four queues."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.sender = self.make()
        self.play(self.open(self.sender))
        self.lane = self.sender.lane(sent(1))
        self.number = self.lane - 1  # of the queue

    def make(self, *, data_dir: str = "", max_bytes: int = 4096, **options: Any) -> Any:
        sending = Sending(send_timeout=2.0, max_message_size=max_bytes)
        settings = Rocketmq(**{"topic": "T", "producer": sending, **options})
        return self.producer(settings, SEED, data_dir or str(self.folder))

    async def open(self, producer: Any) -> None:
        await producer.open()

    def start(self, entries: list[Entry], producer: Any = None) -> Deferred[Any]:
        """Send without waiting."""
        sending: Deferred[Any] = (producer or self.sender).send(self.lane, entries)
        self.network.settle()
        return sending

    def carry(self, *events: Event, producer: Any = None, first: int = 1) -> list[Answer]:
        """Send and let time pass until there are answers."""

        async def scenario() -> list[Answer]:
            return list(await (producer or self.sender).send(self.lane, numbered(events, first)))

        answers: list[Answer] = self.play(scenario())
        return answers

    def fault(self, times: int = 1, **options: Any) -> None:
        """Of the next sends, single or batched."""
        self.broker.faults.append(Fault(queue=self.number, times=times, **options))

    def kept(self) -> list[str]:
        """KEYS of what lies in the queue."""
        return [decode_properties(kept.properties)["KEYS"] for kept in self.broker.store["T", self.number]]

    def attempts(self) -> int:
        return sum(self.broker.count(code) for code in ANY_SEND)


class CodeTests(ProducerTestCase):
    """Every answer that a broker may give."""

    def test_retry_then_success(self) -> None:
        """Busy twice, then not: stored once, counted by code, nobody else is bothered."""
        self.fault(answer=2)
        self.fault(answer=215)
        self.assertEqual(self.carry(sent(1), sent(2)), [Answer(1, True), Answer(2, True)])
        self.assertEqual(self.kept(), ["1", "2"])
        self.assertEqual(dict(self.sender.codes), {"2": 1, "215": 1})

    def test_every_retryable_code(self) -> None:
        """Known or not: after the last attempt the whole call comes back, with the broker's word."""
        for code in (1, 2, 14, 16, 17, 204, 205, 215, 1500, 999, 12345):
            before = self.attempts()
            self.fault(times=3, answer=code)
            with self.assertRaises(Unavailable) as caught:
                self.carry(sent(1))
            self.assertIn("as told", str(caught.exception))
            self.assertEqual(self.attempts() - before, 3)
            self.assertEqual(self.sender.codes[str(code)], 3)
        self.assertEqual(self.kept(), [])

    def test_illegal_is_for_good(self) -> None:
        """MESSAGE_ILLEGAL refuses that one event; those around it are stored in order."""
        self.fault(answer=13)  # the batch
        self.fault(answer=0)  # then one by one
        self.fault(answer=13)
        answers = self.carry(sent(1), sent(2), sent(3))
        self.assertEqual(answers, [Answer(1, True), Answer(2, False, "code 13: as told"), Answer(3, True)])
        self.assertEqual(self.kept(), ["1", "3"])
        self.assertEqual(dict(self.sender.codes), {})

    def test_not_proven_is_sent_again(self) -> None:
        """FLUSH_DISK_TIMEOUT and FLUSH_SLAVE_TIMEOUT, strict: again with the same id until the broker is sure."""
        self.fault(answer=10)
        self.fault(answer=12)
        self.assertEqual(self.carry(sent(1)), [Answer(1, True)])
        self.assertEqual(self.kept(), ["1", "1", "1"])
        ids = {decode_properties(kept.properties)["UNIQ_KEY"] for kept in self.broker.store["T", self.number]}
        self.assertEqual(len(ids), 1)
        self.assertEqual((dict(self.sender.codes), dict(self.sender.unproven)), ({"10": 1, "12": 1}, {}))

    def test_nothing_overtakes_what_is_not_proven(self) -> None:
        """Strict: the next request leaves only when the one before it is sure; a lost copy would change the order."""
        big = self.make(max_bytes=700_000)
        self.play(self.open(big))
        self.fault(answer=10)
        self.carry(*[sent(number, content="x" * 600_000) for number in (4, 5, 6)], producer=big)
        self.assertEqual(self.kept(), ["4", "4", "5", "6"])

    def test_not_proven_is_believed(self) -> None:
        """accept_unproven: stored at once, and counted."""
        relaxed = self.make(accept_unproven=True)
        self.play(self.open(relaxed))
        self.fault(answer=10)
        self.fault(answer=12)
        self.assertEqual(self.carry(sent(1), producer=relaxed), [Answer(1, True)])
        self.assertEqual(self.carry(sent(2), sent(3), producer=relaxed), [Answer(1, True), Answer(2, True)])
        self.assertEqual(self.kept(), ["1", "2", "3"])
        self.assertEqual((dict(relaxed.codes), dict(relaxed.unproven)), ({}, {"10": 1, "12": 2}))

    def test_no_slave_is_always_believed(self) -> None:
        """SLAVE_NOT_AVAILABLE: a second copy on the same master would prove nothing."""
        self.fault(answer=11)
        self.assertEqual(self.carry(sent(1)), [Answer(1, True)])
        self.assertEqual((self.kept(), dict(self.sender.unproven)), (["1"], {"11": 1}))


class PrefixTests(ProducerTestCase):
    """A call that succeeds in part."""

    def setUp(self) -> None:
        super().setUp()
        self.big = self.make(max_bytes=700_000)
        self.play(self.open(self.big))
        self.events = [sent(number, content="x" * 600_000) for number in (1, 2, 3)]

    def test_what_was_stored_is_answered(self) -> None:
        """The broker dies between two requests of one call: the first is answered as stored, the rest is not."""
        self.fault(answer=0)
        self.fault(times=3, answer=2)
        answers = self.carry(*self.events, producer=self.big)
        self.assertEqual(answers, [Answer(1, True), Answer(2, False), Answer(3, False)])
        self.assertEqual(self.kept(), ["1"])

    def test_what_was_stored_is_not_sent_again(self) -> None:
        """The attempts after a failure begin where it was."""
        self.fault(answer=0)
        self.fault(answer=2)
        self.assertEqual(self.carry(*self.events, producer=self.big), stored(numbered(self.events)))
        self.assertEqual(self.kept(), ["1", "2", "3"])


class SilenceTests(ProducerTestCase):
    """Replies that do not come, or too late."""

    def test_a_reply_that_never_comes(self) -> None:
        """Unknown outcome: sent again with the same id; both copies are there, the order of first copies holds."""
        self.fault(silent=True)
        self.assertEqual(self.carry(sent(1), sent(2)), [Answer(1, True), Answer(2, True)])
        self.assertEqual(self.kept(), ["1", "2", "1", "2"])
        self.assertEqual(dict(self.sender.codes), {"none": 1})

    def test_none_of_them_comes(self) -> None:
        """After the last attempt the call fails, in the time that the settings allow."""
        self.fault(times=3, silent=True)
        begun = self.network.clock.seconds()
        with self.assertRaises(Unavailable):
            self.carry(sent(1))
        self.assertApproximates(self.network.clock.seconds() - begun, 3 * 2.0 + 0.3, 0.3)

    def test_a_late_reply(self) -> None:
        """It is nobody's: the second attempt has its own, and the next call is not confused by it."""
        self.fault(delay=2.5)
        self.assertEqual(self.carry(sent(1)), [Answer(1, True)])
        self.assertEqual(self.carry(sent(2), first=2), [Answer(2, True)])
        self.network.advance(5.0)
        self.assertEqual(self.kept(), ["1", "1", "2"])
        self.broker.overlaps = 0  # the fake counts the request that we gave up as one under way

    def test_cut_inside_a_reply(self) -> None:
        """The connection ends within a frame: again on another one."""
        self.fault(cut=7)
        self.assertEqual(self.carry(sent(1)), [Answer(1, True)])
        self.assertEqual(dict(self.sender.codes), {"none": 1})

    def test_nonsense(self) -> None:
        """Bytes that are no frame: again on another connection."""
        self.fault(nonsense=b"\x7f\xff\xff\xffnonsense")
        self.assertEqual(self.carry(sent(1)), [Answer(1, True)])


class AwayTests(ProducerTestCase):
    """Brokers and name servers that are not there."""

    def test_away_and_back(self) -> None:
        """While nothing listens each call fails soon; the first one after it is back succeeds."""
        self.play(self.break_queue())
        for _ in range(5):
            with self.assertRaises(Unavailable):
                self.carry(sent(1))
        self.play(self.mend_queue())
        self.assertEqual(self.carry(sent(1)), [Answer(1, True)])

    def test_other_lanes_go_on(self) -> None:
        """A queue that answers nothing holds up its own lane only."""
        self.fault(times=100, silent=True)
        stuck = self.start([(1, sent(1))])
        other = next(event for event in map(self.chat, range(100)) if self.sender.lane(event) != self.lane)
        elsewhere = self.sender.send(self.sender.lane(other), [(2, other)])
        self.network.advance(0.1)
        self.assertEqual(list(self.successResultOf(elsewhere)), [Answer(2, True)])
        self.assertNoResult(stuck)
        self.network.advance(10.0)
        self.failureResultOf(stuck, Unavailable)

    def chat(self, number: int) -> Event:
        return sent(100 + number, receiver=5000 + number)

    def test_no_name_server_at_the_start(self) -> None:
        """Not open: says so; open when there is one."""
        self.network.refuse(NAMES)
        late = self.make(data_dir=str(self.folder))
        with self.assertRaises(Unavailable) as caught:
            self.play(self.open(late))
        self.assertIn("no name server tells where topic T is", str(caught.exception))
        self.network.listen(NAMES, self.cluster.name_server)
        self.play(self.open(late))
        self.assertEqual(self.carry(sent(1), producer=late), [Answer(1, True)])

    def test_a_broker_that_left(self) -> None:
        """Its lanes wait, in their frozen places, and go on when it is back; a restart meanwhile changes nothing."""
        self.broker.registered = False
        self.network.refuse(BROKER)
        self.cluster.slaves["broker-z"] = "10.0.0.9:10911"  # the topic still has a route, without a master
        again = self.make()
        self.play(self.open(again))
        self.assertEqual(again.lane(sent(1)), self.lane)
        with self.assertRaises(Unavailable):
            self.carry(sent(1), producer=again)
        self.broker.registered = True
        self.network.listen(BROKER, self.broker.peer)
        self.network.advance(31.0)
        self.assertEqual(self.carry(sent(1), producer=again), [Answer(1, True)])

    def test_a_topic_without_a_writable_queue(self) -> None:
        """Nothing is frozen: the error says what to look at."""
        self.cluster.topics["Empty"] = 0
        empty = self.make(topic="Empty")
        with self.assertRaises(Unavailable) as caught:
            self.play(self.open(empty))
        self.assertIn("no queue that takes messages", str(caught.exception))
        self.assertNotIn("Empty", (self.folder / "queues.json").read_text("utf-8"))


class LaneTests(ProducerTestCase):
    """Numbers of lanes."""

    def test_topics_never_share_one(self) -> None:
        """Lane 0 is the embedded queue's, and each topic has lanes of its own: positions in the outbox stay apart."""
        other = self.make(topic="Other", queues=3)
        self.play(self.open(other))
        chats = [sent(number, receiver=4000 + number) for number in range(200)]
        self.assertEqual({self.sender.lane(event) for event in chats}, {1, 2, 3, 4})
        self.assertEqual({other.lane(event) for event in chats}, {5, 6, 7})

    def test_not_known_before_the_start(self) -> None:
        """Asking for a lane before `open` is Unavailable, where the file does not say."""
        with self.assertRaises(Unavailable):
            self.make(topic="Unheard").lane(sent(1))

    def test_closing_with_work_under_way(self) -> None:
        """Closing waits for the answer; what comes after it is not sent."""
        self.fault(delay=1.0)
        sending = self.start([(1, sent(1))])
        closing = self.sender.close()
        self.network.advance(0.5)
        self.assertNoResult(sending)
        self.network.advance(1.0)
        self.assertEqual(list(self.successResultOf(sending)), [Answer(1, True)])
        self.successResultOf(closing)
