"""From the outbox to the queue: in order per lane, for as long as it takes, done only when it is stored."""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from imconnect.backends.outbox_memory import MemoryOutbox
from imconnect.core import lane as lane_module
from imconnect.core import relay
from imconnect.core.background import Background
from imconnect.core.ports import Answer, Entry
from imconnect.core.relay import Relay
from imconnect.errors import Unavailable
from imconnect.events.values import Event, Sent
from imconnect.model import Message
from imconnect.observe.metrics import Metrics
from tests.support import TestCase


class Queue:
    """A topic with lanes: `core.ports.Producer`. The receiver of a message is its lane."""

    def __init__(self) -> None:
        #: What each lane has stored, by text.
        self.stored: dict[int, list[str]] = {}
        #: Requests as they came: lane and texts.
        self.requests: list[tuple[int, list[str]]] = []
        self.dead: set[int] = set()
        #: Texts that are refused for good; that are not taken just now.
        self.poison: set[str] = set()
        self.busy: set[str] = set()
        #: Nothing is taken behind one that is not.
        self.strict = False
        self.broken: list[Exception] = []
        #: Nobody can say yet which lanes there are.
        self.closed = False
        self.held = False
        self._waiting: list[tuple[Deferred[Sequence[Answer]], int, Sequence[Entry]]] = []

    def open(self) -> Deferred[None]:
        return fail(Unavailable("no route yet")) if self.closed else succeed(None)

    def lane(self, event: Event) -> int:
        assert isinstance(event, Sent)
        return event.message.receiver

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        self.requests.append((lane, [text_of(entry) for entry in entries]))
        if self.broken:
            raise self.broken.pop()
        if lane in self.dead:
            return fail(Unavailable(f"queue {lane} is dead"))
        if self.held:
            deferred: Deferred[Sequence[Answer]] = Deferred()
            self._waiting.append((deferred, lane, entries))
            return deferred
        return succeed(self._take(lane, entries))

    def go_on(self) -> None:
        self.held = False
        waiting, self._waiting = self._waiting, []
        for deferred, lane, entries in waiting:
            deferred.callback(self._take(lane, entries))

    def _take(self, lane: int, entries: Sequence[Entry]) -> list[Answer]:
        answers = []
        for entry in entries:
            text = text_of(entry)
            if text in self.poison:
                answers.append(Answer(entry[0], False, "too large"))
            elif text in self.busy or (self.strict and answers and not answers[-1].stored):
                answers.append(Answer(entry[0], False))
            else:
                self.stored.setdefault(lane, []).append(text)
                answers.append(Answer(entry[0], True))
        return answers

    def close(self) -> Deferred[None]:
        return succeed(None)


def text_of(entry: Entry) -> str:
    event = entry[1]
    assert isinstance(event, Sent)
    return event.message.content


def event(lane: int, text: str) -> Sent:
    return Sent(Message(1, b"", 1, lane, 1, text, 1, 1))


class RelayTestCase(TestCase):
    """A relay over a log and a queue."""

    gather = 0.0

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1000.0
        self.queue = Queue()
        self.outbox = MemoryOutbox(self.clock)
        self.begin()

    def begin(self) -> None:
        recovered = self.successResultOf(self.outbox.open())
        self.metrics = Metrics()
        self.background = Background(self.clock)
        self.relay = Relay(
            clock=self.clock,
            outbox=self.outbox,
            producer=self.queue,
            background=self.background,
            metrics=self.metrics,
            gather=self.gather,
            jitter=lambda: 1.0,
        )
        self.relay.start(recovered.last, len(self.successResultOf(self.outbox.parked())))

    def append(self, *events: Sent) -> None:
        self.outbox.append(events).addCallback(lambda first: self.relay.durable(first + len(events) - 1))
        self.clock.advance(0)

    def crash(self) -> None:
        """The process dies; its clock with it."""
        self.outbox = self.outbox.restart()
        for call in list(self.clock.getDelayedCalls()):
            call.cancel()
        self.begin()


class OrderTests(RelayTestCase):
    """What is sent, and when it counts as sent."""

    def test_events_arrive_in_order_per_lane(self) -> None:
        """Each lane has its own events, as they were accepted."""
        self.append(event(1, "a"), event(2, "b"), event(1, "c"))
        self.append(event(2, "d"), event(1, "e"))
        self.assertEqual(self.queue.stored, {1: ["a", "c", "e"], 2: ["b", "d"]})
        self.assertEqual((self.relay.backlog, self.relay.position, self.relay.sent), (0, 5, 5))

    def test_one_request_per_lane_at_a_time(self) -> None:
        """What comes during a request is the next one, in one piece."""
        self.queue.held = True
        self.append(event(1, "a"))
        self.append(event(1, "b"))
        self.append(event(1, "c"), event(2, "x"))
        self.assertEqual(self.queue.requests, [(1, ["a"]), (2, ["x"])])
        self.queue.go_on()
        self.assertEqual(self.queue.requests[2:], [(1, ["b", "c"])])

    def test_done_only_after_it_is_stored(self) -> None:
        """A request under way is not relayed yet: the log keeps it, and a crash sends it again."""
        self.queue.held = True
        self.append(event(1, "a"))
        self.assertEqual((self.relay.backlog, self.relay.position), (1, 0))
        self.assertEqual(self.outbox.positions().get(1, 0), 0)
        self.queue.held = False
        self.crash()
        self.assertEqual(self.queue.stored, {1: ["a"]})
        self.assertEqual((self.relay.backlog, dict(self.outbox.positions())), (0, {1: 1}))

    def test_requests_are_bounded(self) -> None:
        """A backlog goes in pieces, not in one request."""
        self.patch(relay, "BATCH", 3)
        self.append(*(event(1, f"{number}") for number in range(8)))
        self.assertTrue(all(len(texts) <= 3 for _, texts in self.queue.requests))
        self.assertEqual(self.queue.stored[1], [str(number) for number in range(8)])


class GatherTests(RelayTestCase):
    """Events of a moment go together."""

    gather = 0.01

    def test_one_request_for_a_moment(self) -> None:
        """What comes within it waits for its end; what fills a request does not wait."""
        self.append(event(1, "a"))
        self.append(event(1, "b"))
        self.assertEqual([], self.queue.requests)
        self.clock.advance(0.01)
        self.assertEqual([(1, ["a", "b"])], self.queue.requests)
        self.patch(relay, "BATCH", 2)
        self.append(event(1, "c"), event(1, "d"))
        self.assertEqual([(1, ["a", "b"]), (1, ["c", "d"])], self.queue.requests)

    def test_stop_within_it(self) -> None:
        """Nothing is sent after a stop; it stays in the log."""
        self.append(event(1, "a"))
        self.relay.stop()
        self.clock.advance(0.01)
        self.assertEqual(([], 1), (self.queue.requests, self.relay.backlog))


class FullLaneTests(RelayTestCase):
    """A lane holds so many events in memory and no more; what it skipped is read again when there is room."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(relay, "BATCH", 2)
        self.patch(lane_module, "AHEAD", 4)

    def fill(self, first: int, last: int, *lanes: int) -> list[str]:
        """These numbers, one commit each, for each of these lanes."""
        texts = [f"{number}" for number in range(first, last + 1)]
        for text in texts:
            self.append(*(event(number, text) for number in lanes))
        return texts

    def test_dead_lane_is_bounded_and_holds_up_nobody(self) -> None:
        """It holds what fits; the other lanes have everything; nothing is taken for relayed that is not."""
        self.queue.dead = {1}
        texts = self.fill(1, 30, 1, 2)
        self.assertEqual(self.queue.stored, {2: texts})
        self.assertEqual(len(self.relay._lanes.by_number[1].entries), 4)
        self.assertEqual((self.relay.backlog, self.relay.position), (30, 0))
        self.clock.advance(1)
        self.assertEqual((self.relay.oldest_seconds(), self.relay.stuck_seconds()), (1.0, 1.0))
        self.assertNoResult(self.relay.caught_up())

    def test_everything_arrives_once_and_in_order_when_it_lives_again(self) -> None:
        """Also what comes meanwhile, which does not pass what was skipped."""
        self.queue.dead = {1}
        texts = self.fill(1, 30, 1, 2)
        self.queue.dead = set()
        caught_up = self.relay.caught_up()
        texts += self.fill(31, 33, 2, 1)
        self.clock.pump([0.1] * 60)
        self.successResultOf(caught_up)
        self.assertEqual(self.queue.stored, {1: texts, 2: texts})
        self.assertEqual((self.relay.backlog, self.relay.position, self.relay.oldest_seconds()), (0, 66, 0.0))
        self.assertTrue(all(len(texts) <= 2 for _, texts in self.queue.requests))

    def test_new_events_flow_while_a_lane_catches_up(self) -> None:
        """Somebody's chat does not wait until another's backlog is gone."""
        self.queue.dead = {1}
        self.fill(1, 200, 1)
        self.queue.dead = set()
        self.queue.held = True
        self.clock.advance(10)
        self.queue.held = False
        self.append(event(2, "live"))
        self.assertEqual((self.queue.stored, self.relay.backlog), ({2: ["live"]}, 200))
        self.queue.go_on()
        self.assertEqual((len(self.queue.stored[1]), self.relay.backlog), (200, 0))

    def test_lanes_that_skipped_at_different_places(self) -> None:
        """Each goes on where it was; one that is still dead does not hold up the one that is back."""
        self.queue.dead = {1, 2}
        first = self.fill(1, 20, 1)
        second = self.fill(21, 40, 2)
        both = self.fill(41, 50, 2, 1)
        self.queue.dead = {1}
        self.clock.pump([0.1] * 80)
        self.assertEqual((self.queue.stored, self.relay.position), ({2: second + both}, 0))
        self.queue.dead = set()
        self.clock.pump([0.1] * 80)
        self.assertEqual((self.queue.stored[1], self.queue.stored[2]), (first + both, second + both))
        self.assertEqual((self.relay.backlog, self.relay.position), (0, 60))

    def test_crash_while_events_are_skipped(self) -> None:
        """The next process sends them all, and the other lane's none a second time."""
        self.queue.dead = {1}
        texts = self.fill(1, 30, 1, 2)
        self.clock.advance(0.3)
        self.queue.dead = set()
        self.crash()
        self.clock.pump([0.1] * 60)
        self.assertEqual(self.queue.stored, {1: texts, 2: texts})

    def test_log_that_lost_what_waits_is_said_and_not_read_in_circles(self) -> None:
        """Nothing of ours deletes it; somebody else's hand might."""
        self.queue.dead = {1}
        self.fill(1, 30, 1)
        self.outbox.forget(31)
        self.queue.dead = set()
        self.clock.pump([0.1] * 20)
        self.assertEqual(self.queue.stored[1], ["1", "2", "3", "4"])
        self.assertEqual((self.relay.backlog, self.relay.last_error), (26, "LookupError"))
        self.assertIn(len(self.flushLoggedErrors(LookupError)), range(1, 10))

    def test_any_schedule(self) -> None:
        """Lanes die and come back, the process is killed, events come: bounds, order, counts and positions hold."""
        for seed in range(60):
            self.patch(relay, "BATCH", 1 + seed % 3)
            self.queue = Queue()
            self.queue.strict = True
            self.outbox = MemoryOutbox(self.clock)
            self.begin()
            self.play(random.Random(seed))

    def play(self, dice: random.Random) -> None:
        accepted: list[tuple[int, str]] = []
        for _ in range(60):
            what = dice.random()
            if what < 0.6:
                events = [(dice.randint(1, 3), f"{len(accepted) + number}") for number in range(dice.randint(1, 5))]
                accepted += events
                self.append(*(event(*one) for one in events))
            elif what < 0.75:
                self.queue.dead ^= {dice.randint(1, 3)}
            elif what < 0.8 and accepted:
                # Stored up to here, and then no further for a while.
                self.queue.busy = {dice.choice(accepted)[1]}
            elif what < 0.95:
                self.clock.pump([0.1] * dice.randint(1, 20))
            else:
                self.successResultOf(self.outbox.close())  # positions are on disk
                self.crash()
            self.check(accepted)
        self.queue.dead, self.queue.busy = set(), set()
        self.clock.pump([0.1] * 200)
        self.check(accepted)
        self.assertEqual((self.relay.backlog, self.relay.position), (0, len(accepted)))

    def check(self, accepted: list[tuple[int, str]]) -> None:
        stored = self.queue.stored
        for number in (1, 2, 3):
            texts = [text for lane, text in accepted if lane == number]
            self.assertEqual(stored.get(number, []), texts[: len(stored.get(number, []))])
        self.assertTrue(all(len(one.entries) <= 4 for one in self.relay._lanes.by_number.values()))
        settled = [text in stored.get(lane, []) for lane, text in accepted]
        self.assertEqual(self.relay.backlog, settled.count(False))
        self.assertEqual(self.relay.position, settled.index(False) if False in settled else len(settled))


class FailingQueueTests(RelayTestCase):
    """The queue is away, refuses, or has a bug."""

    def test_dead_lane_stalls_only_itself(self) -> None:
        """The other lanes go on; it follows when its queue is back, in order. Meanwhile the node says what is wrong."""
        self.queue.dead = {1}
        self.append(event(1, "a"), event(2, "b"))
        self.append(event(1, "c"), event(2, "d"))
        self.assertEqual(self.queue.stored, {2: ["b", "d"]})
        self.assertEqual((self.relay.backlog, self.relay.position), (2, 0))
        self.assertIn("queue 1 is dead", self.relay.last_error)
        self.queue.dead = set()
        self.clock.advance(10)
        self.assertEqual(self.queue.stored, {2: ["b", "d"], 1: ["a", "c"]})
        self.assertEqual((self.relay.backlog, self.relay.last_error), (0, ""))

    def test_it_waits_longer_each_time_up_to_a_bound(self) -> None:
        """0.2, 0.4, 0.8 ... 5 seconds, and goes on for ever."""
        self.queue.dead = {1}
        self.append(event(1, "a"))
        times: list[float] = []
        for _ in range(2000):
            seen = len(self.queue.requests)
            self.clock.advance(0.1)
            if len(self.queue.requests) > seen:
                times.append(round(self.clock.seconds() - 1000, 1))
        self.assertEqual(times[:6], [0.2, 0.6, 1.4, 3.0, 6.2, 11.2])
        self.assertTrue(4.9 < times[-1] - times[-2] < 5.2)
        self.assertEqual((self.relay.retries, self.metrics.mq_sends["retry"]), (len(times) + 1,) * 2)

    def test_hours_without_a_queue(self) -> None:
        """Bounded memory, a request now and then; on its return everything in order and in bounded requests."""
        self.queue.closed = True  # already at the start
        texts = []
        for number in range(6 * 60):
            self.queue.closed = number < 60
            self.queue.dead = {1}
            texts += [f"{number} {index}" for index in range(10)]
            self.append(*(event(1, text) for text in texts[-10:]))
            self.clock.pump([5.0] * 12)
        self.assertEqual((self.relay.backlog, self.relay.position), (3600, 0))
        self.assertEqual(self.relay.oldest_seconds(), 6 * 3600)
        self.assertLessEqual(len(self.queue.requests), 5 * 3600 / 5 + 20)
        self.assertLessEqual(len(self.relay._lanes.by_number[1].entries), lane_module.AHEAD)
        self.queue.dead = set()
        self.queue.requests.clear()
        self.clock.advance(5)
        self.assertEqual((self.queue.stored, self.relay.backlog), ({1: texts}, 0))
        self.assertLessEqual(max(len(texts) for _, texts in self.queue.requests), relay.BATCH)

    def test_queue_that_comes_and_goes(self) -> None:
        """Each time it is there a while, what waited goes; once, and in order."""
        texts = []
        for number in range(200):
            self.queue.dead ^= {1}
            texts.append(f"{number}")
            self.append(event(1, texts[-1]))
            self.clock.pump([0.1] * (number % 40))
        self.queue.dead = set()
        self.clock.pump([0.1] * 60)
        self.assertEqual(self.queue.stored, {1: texts})

    def test_after_success_the_wait_is_short_again(self) -> None:
        """One bad hour does not slow down the next hiccup."""
        self.queue.dead = {1}
        self.append(event(1, "a"))
        self.clock.pump([0.1] * 600)
        self.queue.dead = set()
        self.clock.pump([0.1] * 60)
        self.assertEqual(self.queue.stored, {1: ["a"]})
        self.queue.dead = {1}
        self.append(event(1, "b"))
        self.queue.dead = set()
        self.clock.advance(0.2)
        self.assertEqual(self.queue.stored, {1: ["a", "b"]})

    def test_only_the_front_that_is_stored_counts(self) -> None:
        """What lies behind an event that is not taken comes again, so that order is kept at the consumer."""
        self.queue.busy = {"b"}
        self.append(event(1, "a"), event(1, "b"), event(1, "c"))
        self.assertEqual((self.relay.position, self.relay.backlog), (1, 2))
        self.queue.busy = set()
        self.clock.advance(1)
        self.assertEqual(self.queue.stored[1], ["a", "c", "b", "c"])
        self.assertEqual(self.relay.backlog, 0)

    def test_what_is_refused_for_good_is_parked_and_the_lane_goes_on(self) -> None:
        """Listed with its reason, counted, also in the next life."""
        self.queue.poison = {"b"}
        self.append(event(1, "a"), event(1, "b"), event(1, "c"))
        self.clock.advance(0)
        self.append(event(1, "d"))
        self.assertEqual(self.queue.stored[1], ["a", "c", "d"])
        [(number, parked, why)] = self.successResultOf(self.outbox.parked())
        self.assertEqual((number, text_of((number, parked)), why), (2, "b", "too large"))
        self.assertEqual((self.relay.parked, self.relay.backlog), (1, 0))
        self.assertEqual((self.metrics.mq_sends["stored"], self.metrics.mq_sends["refused"]), (3, 1))
        self.clock.advance(1)
        self.crash()
        self.assertEqual(self.relay.parked, 1)

    def test_nothing_counts_as_done_until_the_parked_is_safe(self) -> None:
        """A crash before that sends it again, and parks it once."""
        self.queue.poison = {"b"}
        park = self.outbox.park
        self.patch(self.outbox, "park", lambda parked: fail(Unavailable("full")))
        self.append(event(1, "b"), event(1, "c"))
        self.assertEqual((self.relay.position, self.relay.parked), (0, 0))
        self.patch(self.outbox, "park", park)
        self.clock.advance(1)
        self.clock.advance(0)
        self.assertEqual((self.relay.position, self.relay.parked), (2, 1))

    def test_producer_with_a_bug_does_not_stop_the_lane(self) -> None:
        """Logged, and tried again like any other failure."""
        self.queue.broken = [ValueError("a bug")]
        self.append(event(1, "a"))
        self.assertEqual(self.queue.stored, {})
        self.clock.advance(1)
        self.assertEqual(self.queue.stored, {1: ["a"]})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_log_that_cannot_be_read_is_read_later(self) -> None:
        """A moment without a disk does not stop the relay."""
        read = self.outbox.read
        self.patch(self.outbox, "read", lambda after, limit: fail(Unavailable("busy")))
        self.append(event(1, "a"))
        self.assertEqual((self.queue.stored, self.relay.last_error), ({}, "busy"))
        self.patch(self.outbox, "read", read)
        self.clock.advance(5)
        self.assertEqual(self.queue.stored, {1: ["a"]})

    def test_reading_that_fails_with_a_bug_does_not_stop_it(self) -> None:
        """Logged, and tried again without waiting for the next event."""
        read = self.outbox.read

        def broken(after: int, limit: int) -> Deferred[Sequence[Entry]]:
            raise ValueError("a bug")

        self.patch(self.outbox, "read", broken)
        self.append(event(1, "a"))
        self.patch(self.outbox, "read", read)
        self.clock.advance(5)
        self.assertEqual(self.queue.stored, {1: ["a"]})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_queue_that_is_not_open_yet(self) -> None:
        """The broker is away at the start: events wait, and go when it can say which lanes it has."""
        self.queue.closed = True
        self.append(event(1, "a"), event(2, "b"))
        self.clock.pump([1.0] * 20)
        self.assertEqual((self.queue.requests, self.relay.backlog, self.relay.last_error), ([], 2, "no route yet"))
        self.queue.closed = False
        self.clock.pump([1.0] * 6)
        self.assertEqual((self.queue.stored, self.relay.backlog), ({1: ["a"], 2: ["b"]}, 0))

    def test_stop_ends_it_at_once(self) -> None:
        """Whether it waits for an answer or for the next attempt; nothing is sent any more."""
        self.queue.dead = {1}
        self.queue.held = True
        self.append(event(1, "a"), event(2, "b"))
        self.relay.stop()
        self.successResultOf(self.background.stop())
        requests = len(self.queue.requests)
        self.queue.go_on()
        self.append(event(3, "c"))
        self.clock.advance(60)
        self.assertEqual(len(self.queue.requests), requests)
        self.assertEqual(self.outbox.positions().get(2, 0), 1)  # the mark that the lane began, no more


class PositionTests(RelayTestCase):
    """Where a new process goes on."""

    def settle(self) -> None:
        """Positions are on disk."""
        self.clock.advance(0.3)

    def test_goes_on_behind_what_was_stored(self) -> None:
        """Nothing is sent twice after a quiet moment."""
        self.append(event(1, "a"), event(2, "b"))
        self.settle()
        self.queue.requests.clear()
        self.crash()
        self.append(event(1, "c"))
        self.assertEqual(self.queue.requests, [(1, ["c"])])

    def test_each_lane_goes_on_where_it_was(self) -> None:
        """One was stuck, the other far ahead."""
        self.queue.dead = {1}
        self.append(event(1, "a"), event(2, "b"), event(1, "c"), event(2, "d"))
        self.settle()
        self.queue.requests.clear()
        self.queue.dead = set()
        self.crash()
        self.assertEqual(self.queue.requests, [(1, ["a", "c"])])
        self.assertEqual(self.relay.backlog, 0)

    def test_lane_that_was_stuck_from_its_first_event(self) -> None:
        """It has no position of its own when the others are far ahead; its events are not passed over."""
        self.append(event(1, "a"), event(2, "b"))
        self.settle()
        self.queue.dead = {3}
        self.append(event(3, "never sent"))
        self.append(event(1, "c"), event(2, "d"))
        self.settle()
        self.queue.dead = set()
        self.crash()
        self.assertEqual(self.queue.stored[3], ["never sent"])
        self.assertEqual(self.queue.stored[1], ["a", "c"])

    def test_idle_lane_does_not_make_a_start_read_everything(self) -> None:
        """When nobody waits, every lane's position moves along."""
        self.append(event(1, "a"))
        for number in range(5):
            self.append(event(2, f"{number}"))
        self.settle()
        self.assertEqual(dict(self.outbox.positions()), {1: 6, 2: 6})

    def test_position_older_than_what_was_forgotten(self) -> None:
        """The log has let go of what lies between; nothing waits for it."""
        self.append(event(1, "a"), event(2, "b"))
        self.settle()
        self.queue.dead = {2}
        self.append(event(1, "c"))
        self.settle()
        self.outbox.forget(4)
        self.crash()
        self.assertEqual((self.relay.backlog, self.relay.position), (0, 3))
        self.successResultOf(self.relay.caught_up())

    def test_caught_up_fires_when_all_lanes_are(self) -> None:
        """Before a listener opens over an embedded queue."""
        self.queue.held = True
        self.append(event(1, "a"), event(2, "b"))
        caught_up = self.relay.caught_up()
        self.assertNoResult(caught_up)
        self.queue.go_on()
        self.successResultOf(caught_up)
        self.successResultOf(self.relay.caught_up())

    def test_new_log_is_caught_up(self) -> None:
        """The first start of all waits for nothing."""
        self.successResultOf(self.relay.caught_up())


class AgeTests(RelayTestCase):
    """How long the oldest event has been waiting."""

    def test_age_of_the_oldest(self) -> None:
        """To the second; nothing where nothing waits."""
        self.assertEqual(self.relay.oldest_seconds(), 0.0)
        self.queue.dead = {1}
        self.append(event(1, "a"))
        self.clock.advance(10)
        self.append(event(1, "b"))
        self.assertEqual(self.relay.oldest_seconds(), 10.0)
        self.queue.dead = set()
        self.queue.busy = {"b"}
        self.clock.advance(5)
        self.assertEqual(self.relay.oldest_seconds(), 5.0)
        self.queue.busy = set()
        self.clock.advance(5)
        self.assertEqual(self.relay.oldest_seconds(), 0.0)

    def test_what_an_earlier_process_left_counts_from_the_start(self) -> None:
        """Nobody knows better."""
        self.queue.dead = {1}
        self.append(event(1, "a"))
        self.clock.advance(10)
        self.crash()
        self.clock.advance(3)
        self.assertEqual(self.relay.oldest_seconds(), 3.0)

    def test_marks_do_not_pile_up_where_nobody_asks(self) -> None:
        """A gateway without a scraper runs for months."""
        for _ in range(100):
            self.append(event(1, "a"))
            self.clock.advance(1)
        self.assertLessEqual(len(self.relay._progress._marks), 2)
