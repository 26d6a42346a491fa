"""profile: xzll, where business says who was served and the codes are Java's."""

from __future__ import annotations

import attrs

from imconnect.core.settings import SEED, XZLL
from imconnect.model import Applied, Receipt
from imconnect.wire.client_codec import ReceiptReply, SendReply, encode_get_msg_ids
from tests.core.rig import ALICE, BOB, CAROL, Rig, client_id, send_frame
from tests.support import TestCase


class XzllTestCase(TestCase):
    """Two people on a node in profile xzll, with business in the same process."""

    def setUp(self) -> None:
        self.rig = Rig(profile=XZLL)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def stored(self, text: str) -> SendReply:
        """What a sender is told when business has stored his message."""
        return SendReply(client_id(text), self.rig.id_of(text), ALICE, BOB, 1, 1, "")


class StoredTests(XzllTestCase):
    """Who tells the sender that his message is stored."""

    def test_business_does(self) -> None:
        """The receiver has it before; the sender hears it once, when it is in the database."""
        self.rig.business.held = True
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual((self.alice.got, self.bob.shown), ([], ["hello"]))
        self.rig.business.go_on()
        self.assertEqual(self.alice.got, [self.stored("hello")])
        self.assertEqual((self.rig.metrics.receipts[1], self.rig.stored), (1, {"hello": 1}))

    def test_on_all_his_connections(self) -> None:
        """Business knows people, not connections."""
        phone = self.rig.sign_in(ALICE)
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual((self.alice.got, phone.got), ([self.stored("hello")],) * 2)

    def test_a_repeat_of_what_is_not_durable_yet(self) -> None:
        """It shares the fate of the first: business answers both with one word."""
        self.alice.read(send_frame(BOB, "hello"), send_frame(BOB, "hello"))
        self.rig.turn()
        self.assertEqual((self.alice.got, self.bob.shown), ([self.stored("hello")], ["hello"]))

    def test_a_repeat_of_what_is_durable(self) -> None:
        """The gateway answers itself, however long business takes, with the very same frame."""
        self.rig.business.held = True
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual(self.alice.got, [self.stored("hello")])
        self.rig.business.go_on()
        self.assertEqual((self.alice.got, self.bob.shown), ([self.stored("hello")] * 2, ["hello"]))

    def test_a_commit_that_fails(self) -> None:
        """The gateway refuses the send and its repeat, as nobody else ever hears of them."""
        self.rig.outbox.fail_appends = True
        self.alice.read(send_frame(BOB, "hello"), send_frame(BOB, "hello"))
        self.rig.turn()
        self.assertEqual((self.alice.refused, self.bob.shown), ([("hello", -2)] * 2, []))

    def test_a_crash_before_business_told(self) -> None:
        """The event comes again and business tells again, whether it had stored the message or not."""
        for at, is_stored in enumerate((False, True)):
            text = f"hello {at}"
            self.rig.business.held = True
            self.alice.send(BOB, text)
            self.rig.turn()
            if is_stored:
                self.patch(self.rig, "tell", lambda applied: None)
                self.patch(self.rig.outbox, "done", lambda *_: None)
                self.rig.business.go_on()
                self.rig.business.held = True
                del self.rig.tell
            self.rig.crash()
            self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
            self.assertEqual(self.alice.got, [])
            self.rig.business.go_on()
            self.assertIn(self.stored(text), self.alice.got)

    def test_an_absent_receiver(self) -> None:
        """The OFFLINE event does not make business tell twice."""
        self.alice.send(CAROL, "hello")
        self.rig.turn()
        self.assertEqual([reply.status for reply in self.alice.replies], [1])
        self.assertEqual(self.rig.log, ["sent hello", "offline hello"])


class ReceiptTests(XzllTestCase):
    """Delivered and read."""

    def test_business_tells(self) -> None:
        """The gateway ends the message at once and says nothing; each ACK counts once."""
        self.rig.business.held = True
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.bob.ack("hello")
        self.rig.advance(400)
        self.assertEqual((self.alice.got, self.bob.shown), ([], ["hello"]))
        self.rig.business.go_on()
        self.bob.ack("hello", 4)
        self.rig.turn()
        self.assertEqual(self.alice.receipts, [("hello", 3), ("hello", 4)])
        self.assertEqual(self.alice.got[0], self.stored("hello"))
        self.assertEqual(dict(self.rig.metrics.receipts), {1: 1, 3: 1, 4: 1})

    def test_withdrawn(self) -> None:
        """Both sides are told by business; the answer says yes with 1."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.alice.withdraw("hello")
        self.rig.turn()
        self.assertEqual((self.alice.withdrawals, self.alice.notices, self.bob.notices), ([("hello", 1)], ["hello"], ["hello"]))


class RefusalTests(XzllTestCase):
    """Check refusals stay the gateway's, with Java's codes."""

    def test_codes(self) -> None:
        """-1 for what is the client's fault, -2 for ours, 0 for what he may try again at his leisure."""
        self.alice.send(BOB, "")
        self.alice.send(BOB, "x" * 5000)
        self.alice.send(BOB, "first", client_id("x"))
        self.alice.send(BOB, "another", client_id("x"))
        self.rig.turn()
        self.rig.outbox.fail_appends = True
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual(self.alice.refused, [("", -1), ("x" * 16, -1), ("x", -1), ("hello", -2)])
        self.alice.forget()
        self.bob.withdraw("first", ALICE)
        self.rig.turn()
        self.assertEqual(self.bob.withdrawals, [("first", -1)])

    def test_over_the_rate(self) -> None:
        """Code 0, failure."""
        rig = Rig(profile=XZLL, commands_per_second=1, burst=1)
        alice = rig.sign_in(ALICE)
        alice.read(send_frame(BOB, "one"), send_frame(BOB, "two"))
        rig.turn()
        self.assertEqual((alice.accepted, alice.refused), (["one"], [("two", 0)]))

    def test_unknown_and_ids(self) -> None:
        """An unknown type is -1, a hundred ids come with 1."""
        self.alice.read(b"\x08\x63", encode_get_msg_ids())
        self.rig.turn()
        unknown, ids = self.alice.got
        self.assertEqual((unknown.code, ids.code), (-1, 1))


class TellTests(XzllTestCase):
    """What business tells every node."""

    def test_only_what_is_about_people_here_counts(self) -> None:
        """Receipts and hints for others are passed over."""
        told = Applied((Receipt(5, client_id("x"), CAROL, BOB, 1), Receipt(5, client_id("x"), ALICE, 0, 1)), (), (CAROL, BOB))
        self.rig.node.tell(told)
        self.rig.turn()
        self.assertEqual((dict(self.rig.metrics.receipts), self.rig.metrics.hints), ({1: 1}, 1))
        self.assertEqual(self.alice.got, [SendReply(client_id("x"), 5, ALICE, 0, 1, 1, "")])

    def test_in_profile_seed_too(self) -> None:
        """A receipt that a gateway asked business to tell counts where the sender is."""
        rig = Rig()
        alice = rig.sign_in(ALICE)
        rig.node.tell(Applied((Receipt(5, b"", CAROL, BOB, 3), Receipt(6, b"", ALICE, BOB, 3)), (), (CAROL,)))
        self.assertEqual((dict(rig.metrics.receipts), rig.metrics.hints), ({3: 1}, 0))
        self.assertEqual(alice.got, [ReceiptReply(b"", 6, ALICE, BOB, 3, 0)])


class RowTests(TestCase):
    """One row of the table taken from the other profile."""

    def test_the_seed_with_business_telling_what_is_stored(self) -> None:
        """Its own code, 0; delivered and read stay the gateway's."""
        rig = Rig(profile=attrs.evolve(SEED, stored_by_gateway=False))
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        rig.business.held = True
        alice.send(BOB, "hello")
        rig.turn()
        bob.ack("hello")
        rig.turn()
        self.assertEqual((alice.accepted, alice.receipts), ([], [("hello", 3)]))
        rig.business.go_on()
        self.assertEqual([(reply.status, reply.code) for reply in alice.replies], [(1, 0)])
        self.assertEqual((alice.receipts, dict(rig.metrics.receipts)), ([("hello", 3)], {1: 1, 3: 1}))

    def test_xzll_with_the_gateway_telling_what_is_stored(self) -> None:
        """At once, and business does not say it again; it still tells what was delivered."""
        rig = Rig(profile=attrs.evolve(XZLL, stored_by_gateway=True))
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        rig.business.held = True
        alice.send(BOB, "hello")
        rig.turn()
        bob.ack("hello")
        rig.turn()
        self.assertEqual(([(reply.status, reply.code) for reply in alice.replies], alice.receipts), ([(1, 1)], []))
        rig.business.go_on()
        self.assertEqual((len(alice.replies), alice.receipts), (1, [("hello", 3)]))


class OfflineTests(XzllTestCase):
    """OFFLINE is written where Java does."""

    def test_going_away_writes_no_offline_event(self) -> None:
        """Its consumer counts unread at each; only an absent receiver, exhausted retries and a restart do."""
        self.alice.send(BOB, "one")
        self.rig.turn()
        self.bob.leave()
        self.rig.turn()
        self.assertEqual(self.rig.log, ["sent one"])
        self.alice.send(BOB, "two")
        self.rig.turn()
        self.assertEqual(self.rig.log[1:], ["sent two", "offline two"])
        self.assertEqual(self.rig.sign_in(BOB).shown, ["one", "two"])
        self.rig.crash()
        self.assertEqual(self.rig.log[3:], ["offline one"])

    def test_nor_does_what_the_store_has_brought(self) -> None:
        """A page's message that nobody here knows: its receiver goes again, and nothing is written."""
        self.bob.leave()
        self.alice.send(BOB, "hello")
        self.rig.turn()
        row = self.rig.store.tables.messages[self.rig.id_of("hello")]
        row.msg_status = 1
        self.rig.node.recent._drop(self.rig.node.recent._by_id[row.msg_id])
        bob = self.rig.sign_in(BOB)
        self.assertEqual(bob.shown, ["hello"])
        before = len(self.rig.log)
        bob.leave()
        self.rig.turn()
        self.assertEqual(len(self.rig.log), before)
