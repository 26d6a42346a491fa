"""A gateway whose database nobody here can read: people still get what this node itself remembers."""

from __future__ import annotations

from imconnect.backends.store_none import NoPendingStore
from imconnect.core.settings import XZLL
from tests.core import rig as world
from tests.core.rig import ALICE, BOB, Rig
from tests.support import TestCase


class NoDatabaseTests(TestCase):
    """A node over it."""

    def setUp(self) -> None:
        self.patch(world, "MemoryPendingStore", lambda *_: NoPendingStore())
        self.rig = Rig(profile=XZLL)
        self.alice = self.rig.sign_in(ALICE)

    def test_what_the_node_remembers(self) -> None:
        """Missed messages younger than `business_lag` come at login, once."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        bob = self.rig.sign_in(BOB)
        self.assertEqual((bob.shown, bob.live), (["hello"], True))
        bob.ack("hello")
        self.rig.turn()
        bob.leave()
        self.assertEqual(self.rig.sign_in(BOB).shown, [])

    def test_what_it_does_not(self) -> None:
        """Older ones are read elsewhere; the watch finds nothing and nothing is said to be away."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.rig.advance(400)
        bob = self.rig.sign_in(BOB)
        self.rig.advance(20)
        self.assertEqual((bob.shown, bob.live, self.rig.node.backfill.store_answers), ([], True, True))

    def test_messages_that_nobody_knows(self) -> None:
        """An ACK and a withdrawal of them are business's to judge."""
        unknown = (self.rig.now_ms() - XZLL.epoch) << 22 | 5 << 12
        bob = self.rig.sign_in(BOB)
        bob.ack(unknown)
        self.alice.withdraw(unknown + 1)
        self.rig.turn()
        self.assertEqual(self.rig.log, [f"ack 3 {unknown} by business", f"withdrawn {unknown + 1} by business"])
        self.assertEqual(self.alice.withdrawals, [(str(unknown + 1), 1)])

    def test_the_rest_of_the_port(self) -> None:
        """Nothing, at once."""
        store = NoPendingStore()
        self.assertEqual(self.successResultOf(store.overdue([BOB], 9, 9)), [])
        self.assertEqual(self.successResultOf(store.states(BOB, [b"x"])), [])
        self.assertEqual(self.successResultOf(store.notices(BOB, 0, 9)), [])
        self.assertIsNone(self.successResultOf(store.close()))
