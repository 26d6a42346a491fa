"""Pings and idle connections, on one timer."""

from __future__ import annotations

from twisted.internet.task import Clock

from imconnect.edge.frames import PING
from imconnect.edge.wheel import CATCH_UP, Wheel
from tests.edge.support import EdgeTestCase, frame
from tests.support import TestCase


class Visitor:
    """Remembers when it was visited, and asks for the next visit as told."""

    def __init__(self, ticks: int = 4) -> None:
        self.slot = None
        self.ticks = ticks
        self.visits: list[int] = []

    def visit(self, now: int) -> int:
        self.visits.append(now)
        return self.ticks


class WheelTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock, 1.0, 8)

    def turn(self, ticks: int) -> None:
        for _ in range(ticks):
            self.clock.advance(1)

    def test_visits_come_as_asked(self):
        """First within one turn, then as often as the visit said."""
        one = Visitor(3)
        self.wheel.add(one)
        self.turn(30)
        self.assertLessEqual(one.visits[0], 8)
        self.assertEqual({later - earlier for earlier, later in zip(one.visits, one.visits[1:], strict=False)}, {3})

    def test_a_whole_turn(self):
        """The longest wait is as many ticks as there are slots; more is cut to it."""
        one = Visitor(100)
        self.wheel.add(one)
        self.wheel.wait(one, 1)
        self.turn(17)
        self.assertEqual(one.visits, [1, 9, 17])

    def test_wait_moves(self):
        """Only the last wait counts."""
        one = Visitor()
        self.wheel.add(one)
        self.wheel.wait(one, 2)
        self.wheel.wait(one, 5)
        self.turn(5)
        self.assertEqual(one.visits, [5])

    def test_stands_still_without_visitors(self):
        """One timer for all while there are any, none otherwise."""
        many = [Visitor() for _ in range(100)]
        for one in many:
            self.wheel.add(one)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        for one in many:
            self.wheel.remove(one)
            self.wheel.remove(one)
        self.assertEqual((len(self.wheel), self.clock.getDelayedCalls()), (0, []))
        self.wheel.add(many[0])
        self.turn(8)
        self.assertEqual(len(many[0].visits), 2 if many[0].visits[0] <= 4 else 1)

    def test_removed_while_visited(self):
        """It is not visited again."""
        one = Visitor()
        one.visit = lambda now: self.wheel.remove(one) or 1
        self.wheel.add(one)
        self.turn(8)
        self.assertEqual((len(self.wheel), self.wheel.sizes()), (0, [0] * 8))

    def test_a_failing_visit(self):
        """Is logged, and stops neither the wheel nor the visits of others."""
        bad, good = Visitor(), Visitor(1)
        bad.visit = lambda now: 1 // 0
        self.wheel.add(bad)
        self.wheel.add(good)
        self.turn(8)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertGreaterEqual(len(good.visits), 1)
        self.assertEqual(len(self.wheel), 2)

    def test_time_that_nobody_listened_does_not_count(self):
        """A reactor that is a little late loses no tick; a minute in which the process stood still is a few."""
        self.wheel.add(Visitor())
        self.clock.advance(3)
        self.assertEqual(self.wheel.now, 3)
        self.clock.advance(60)
        self.assertEqual(self.wheel.now, 3 + CATCH_UP)
        self.clock.advance(1)
        self.assertEqual(self.wheel.now, 4 + CATCH_UP)


class PingTests(EdgeTestCase):
    def test_everybody_is_pinged_once_per_interval(self):
        """And not all at the same time: no tick pings more than a few times its share."""
        wires = [self.open()[1] for _ in range(800)]
        most = total = 0
        for _ in range(100):
            self.clock.advance(0.25)
            pinged = sum(len(wire.writes) for wire in wires)
            self.assertTrue(all(wire.drain() in (b"", PING) for wire in wires))
            most = max(most, pinged)
            total += pinged
        self.assertEqual(total, 800)
        self.assertLess(most, 32)

    def test_a_client_that_answers_stays(self):
        """Autobahn's client answers pings by itself: ten minutes later it is still there."""
        self.make_factory(ping_interval=25.0, idle_timeout=90.0)
        server, client, pump = self.pair()
        for _ in range(600):
            self.clock.advance(1)
            pump.flush()
        self.assertEqual(server.state, server.STATE_OPEN)
        self.assertIn(client.pings, (23, 24, 25))

    def test_the_first_ping_is_in_time(self):
        """Also where the wheel is larger than the interval, because closing may take longer than that."""
        self.make_factory(ping_interval=1.0, idle_timeout=3.0, close_timeout=20.0)
        for _ in range(50):
            _, wire, _ = self.open()
            self.advance(1.25)
            self.assertIn(PING, wire.drain())

    def test_silence(self):
        """Closed 4004 after `idle_timeout`, and dropped when that is not answered either."""
        _, wire, receiver = self.open()
        self.advance(89.5)
        self.assertEqual(wire.drain().replace(PING, b""), b"")
        self.advance(1)
        self.assertEqual(self.closed_with(wire), (4004, "idle"))
        self.advance(5.25)
        self.assertTrue(wire.aborted)
        wire.hang_up()
        self.assertEqual(receiver.ended, 1)
        self.assertEqual(self.metrics.closed, {4004: 1})

    def test_anything_heard_counts(self):
        """A message, a pong or half a frame: the clock starts anew."""
        for heard in (frame(b"hello"), frame(b"", 10), frame(b"hello")[:3]):
            server, _wire, _ = self.open()
            self.advance(80)
            server.dataReceived(heard)
            self.advance(89)
            self.assertEqual(server.state, server.STATE_OPEN)
            self.advance(2)
            self.assertNotEqual(server.state, server.STATE_OPEN)

    def test_who_may_not_speak_is_not_idle(self):
        """While we do not read, his silence is ours."""
        server, _, _ = self.open()
        server.pause()
        self.advance(300)
        self.assertEqual(server.state, server.STATE_OPEN)
        server.resume()
        self.advance(85)
        self.assertEqual(server.state, server.STATE_OPEN)
        self.advance(10)
        self.assertNotEqual(server.state, server.STATE_OPEN)

    def test_no_timer_per_connection(self):
        """A hundred open connections wait on one timer."""
        for _ in range(100):
            self.open()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_no_pings_for_a_reader_that_is_too_far_behind(self):
        """The bound holds for pings too; idleness decides."""
        self.make_factory(outgoing_bytes=1000)
        server, wire, _ = self.open(room=100)
        server.write([b"x" * 1100])
        before = len(wire.writes)
        self.advance(60)
        self.assertEqual(len(wire.writes), before)
