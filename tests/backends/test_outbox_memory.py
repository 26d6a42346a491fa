"""The outbox in memory."""

from __future__ import annotations

from twisted.internet.task import Clock

from imconnect.backends.outbox_memory import MemoryOutbox
from imconnect.core.ports import Outbox
from imconnect.errors import Unavailable
from tests.backends.hand_clock import real_reactor
from tests.contracts.outbox import OutboxContract, batch
from tests.support import ReactorTestCase, TestCase


class MemoryOutboxContractTests(OutboxContract, ReactorTestCase):
    """The port's contract, on the real reactor as its clock."""

    def make(self) -> Outbox:
        return MemoryOutbox(real_reactor())

    async def restart(self, outbox: Outbox) -> Outbox:
        assert isinstance(outbox, MemoryOutbox)
        await outbox.close()
        return outbox.restart()


class MemoryOutboxTests(TestCase):
    """What the twin adds: time, crashes and failures at will."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.outbox = MemoryOutbox(self.clock, delay=0.5)
        self.successResultOf(self.outbox.open())

    def test_append_is_durable_after_the_delay(self) -> None:
        """Until then nobody is told and nobody can read it."""
        append = self.outbox.append(batch(1, 2))
        self.clock.advance(0.4)
        self.assertNoResult(append)
        self.assertEqual(self.successResultOf(self.outbox.read(0, 9)), [])
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(append), 1)
        self.assertEqual(len(self.successResultOf(self.outbox.read(0, 9))), 2)

    def test_crash_loses_what_was_not_durable(self) -> None:
        """A restart finds the durable batches; what waited never fires, and its number is given out again."""
        self.outbox.append(batch(1, 2))
        self.clock.advance(0.5)
        lost = self.outbox.append(batch(3, 2))
        reborn = self.outbox.restart()
        self.clock.advance(9)
        self.assertNoResult(lost)
        self.assertEqual(self.successResultOf(reborn.open()).last, 2)
        self.failureResultOf(self.outbox.append(batch(1, 1)), Unavailable)
        again = reborn.append(batch(3, 1))
        self.clock.advance(0.5)
        self.assertEqual(self.successResultOf(again), 3)

    def test_positions_ride_with_the_next_commit(self) -> None:
        """A crash before it forgets them, a commit or 0.2 seconds keep them."""
        self.outbox.done({0: 1})
        reborn = self.outbox.restart()
        self.successResultOf(reborn.open())
        self.assertEqual(reborn.positions(), {})
        reborn.done({0: 2})
        self.clock.advance(0.2)
        reborn = reborn.restart()
        self.successResultOf(reborn.open())
        self.assertEqual(reborn.positions(), {0: 2})

    def test_failing_appends_leave_nothing(self) -> None:
        """While it is switched on appends fail and take no number; reservations go on."""
        self.outbox.fail_appends = True
        append, reserve = self.outbox.append(batch(1, 2)), self.outbox.reserve(99)
        self.clock.advance(0.5)
        self.failureResultOf(append, Unavailable)
        self.successResultOf(reserve)
        self.outbox.fail_appends = False
        append = self.outbox.append(batch(1, 2))
        self.clock.advance(0.5)
        self.assertEqual(self.successResultOf(append), 1)
        recovered = self.successResultOf(self.outbox.restart().open())
        self.assertEqual((len(recovered.entries), recovered.reserved_ms), (2, 99))

    def test_close_waits_for_the_disk(self) -> None:
        """It fires when what was asked for is durable, and leaves no timer."""
        append = self.outbox.append(batch(1, 1))
        self.outbox.done({0: 1})
        closed = self.outbox.close()
        self.assertNoResult(closed)
        self.clock.advance(0.5)
        self.successResultOf(append)
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
