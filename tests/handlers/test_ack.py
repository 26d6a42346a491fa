"""C2C_ACK: who may end a message, and who is told."""

from __future__ import annotations

from imconnect.model import MAX_ID
from imconnect.wire import client_codec as wire
from imconnect.wire.client_codec import Other, ReceiptReply
from tests.core.rig import ALICE, BOB, CAROL, DAVE, Rig, client_id
from tests.support import TestCase


class AckTestCase(TestCase):
    """Alice has sent a message to Bob, who has it on his screen."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        self.alice.send(BOB, "hello")
        self.rig.turn()

    def ignored(self) -> dict[str, int]:
        return dict(self.rig.metrics.acks_ignored)

    def id_now(self, offset_ms: int = 0) -> int:
        return (self.rig.now_ms() + offset_ms - self.rig.settings.profile.epoch) << 22 | 5 << 12


class ReceiptTests(AckTestCase):
    """The sender's ticks."""

    def test_receipt(self) -> None:
        """Type 2, status as given, from = who acknowledges, to = the sender, the sender's clientMsgId."""
        self.alice.forget()
        self.bob.ack("hello")
        self.rig.turn()
        self.assertEqual(self.alice.got, [ReceiptReply(client_id("hello"), self.rig.id_of("hello"), ALICE, BOB, 3, 0)])
        self.assertEqual((self.bob.got[1:], self.rig.stored), ([], {"hello": 3}))

    def test_once_per_status(self) -> None:
        """Delivered, then read; repeats are told to nobody and written nowhere."""
        for status in (3, 3, 4, 4, 3):
            self.bob.ack("hello", status)
            self.rig.turn()
        self.assertEqual(self.alice.receipts, [("hello", 3), ("hello", 4)])
        self.assertEqual(self.rig.log, ["sent hello", "ack 3 hello", "ack 4 hello"])
        self.assertEqual(self.ignored(), {"repeated": 3})

    def test_repeats_in_one_read(self) -> None:
        """Also those that come before the first is durable."""
        self.bob.read(*(self.bob.ack_frame("hello", status) for status in (3, 3, 4, 4, 3)))
        self.rig.turn()
        self.assertEqual(self.alice.receipts, [("hello", 3), ("hello", 4)])

    def test_read_without_delivered(self) -> None:
        """One tick less, and delivered does not come after it."""
        self.bob.ack("hello", 4)
        self.bob.ack("hello", 3)
        self.rig.turn()
        self.assertEqual((self.alice.receipts, self.rig.stored), ([("hello", 4)], {"hello": 4}))

    def test_all_connections_of_the_sender_are_told(self) -> None:
        """And nobody else."""
        laptop, carol = self.rig.sign_in(ALICE), self.rig.sign_in(CAROL)
        self.bob.ack("hello")
        self.rig.turn()
        self.assertEqual((self.alice.receipts, laptop.receipts), ([("hello", 3)],) * 2)
        self.assertEqual(carol.got, [])

    def test_sender_who_is_away_is_not_told_later(self) -> None:
        """His client asks."""
        self.alice.leave()
        self.bob.ack("hello")
        self.rig.turn()
        self.assertEqual(self.rig.sign_in(ALICE).got, [])

    def test_ack_of_any_connection_ends_it_on_all(self) -> None:
        """What one device acknowledged is pushed to no other."""
        laptop = self.rig.sign_in(BOB)
        laptop.ack("hello")
        self.rig.advance(400)
        self.assertEqual((self.bob.shown, laptop.shown), (["hello"], ["hello"]))

    def test_claimed_sender_is_not_believed(self) -> None:
        """The receipt goes to who sent the message, whatever the ACK says."""
        carol = self.rig.sign_in(CAROL)
        self.bob.read(wire.encode_ack(client_id("other"), self.rig.id_of("hello"), CAROL, 3))
        self.rig.turn()
        self.assertEqual((self.alice.receipts, carol.got), ([("hello", 3)], []))


class ForeignAckTests(AckTestCase):
    """ACKs that change nothing."""

    def test_only_the_receiver_may(self) -> None:
        """Neither the sender nor anybody else; the message stays owed."""
        carol = self.rig.sign_in(CAROL)
        carol.ack("hello")
        self.alice.ack("hello", 4)
        self.rig.turn()
        self.assertEqual((self.alice.receipts, self.rig.log, self.rig.owed(BOB)), ([], ["sent hello"], ["hello"]))
        self.assertEqual(self.ignored(), {"not_receiver": 2})

    def test_foreign_message_that_only_the_store_knows(self) -> None:
        """The store says whose it is."""
        self.rig.node.recent._drop(self.rig.node.recent._by_id[self.rig.id_of("hello")])
        self.rig.node.resend.end(self.rig.id_of("hello"))
        carol = self.rig.sign_in(CAROL)
        carol.ack("hello")
        self.rig.turn()
        self.assertEqual((self.alice.receipts, self.rig.log), ([], ["sent hello"]))

    def test_ids_from_the_future_and_from_before_the_epoch(self) -> None:
        """Nobody can have been given them: not even asked about."""
        self.rig.store.away = "asked!"
        for msg_id in (self.id_now(301_000), MAX_ID, 1, (1 << 22) - 1):
            self.bob.ack(msg_id)
        self.rig.turn()
        self.assertEqual((self.rig.log, self.ignored()), (["sent hello"], {"no_such_id": 4}))
        self.assertEqual((self.bob.link.closed, self.bob.session.lookups), (None, 0))

    def test_id_of_a_node_whose_clock_is_a_little_ahead(self) -> None:
        """It may well be a message."""
        self.bob.ack(self.id_now(200_000))
        self.rig.turn()
        self.assertEqual(len(self.rig.log), 2)

    def test_bad_requests(self) -> None:
        """400, nothing written: no id, an id beyond all, a status that is none."""
        for msg_id, status in ((0, 3), (MAX_ID + 1, 3), (self.rig.id_of("hello"), 1), (self.rig.id_of("hello"), 5)):
            self.bob.forget()
            self.bob.read(wire.encode_ack(b"", msg_id, ALICE, status))
            self.rig.turn()
            [answer] = self.bob.got
            assert isinstance(answer, Other)
            self.assertEqual((answer.type, answer.code), (2, 400))
        self.assertEqual(self.rig.log, ["sent hello"])

    def test_ack_of_a_message_that_is_not_durable(self) -> None:
        """Somebody guesses an id."""
        rig = Rig(commit_delay=1.0)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        bob.ack(rig.node.ids.next() - 1)
        rig.advance(3)
        self.assertEqual((rig.log, alice.receipts), (["sent hello"], []))

    def test_ack_of_a_withdrawn_message(self) -> None:
        """Too late: the sender has taken it back."""
        self.alice.withdraw("hello")
        self.rig.turn()
        self.bob.ack("hello")
        self.rig.turn()
        self.assertEqual((self.alice.receipts, self.rig.log), ([], ["sent hello", "withdrawn hello"]))


class LookUpTests(AckTestCase):
    """Messages that this node has never seen, or has forgotten."""

    def setUp(self) -> None:
        super().setUp()
        self.forget("hello")

    def forget(self, text: str) -> None:
        msg_id = self.rig.id_of(text)
        self.rig.node.recent._drop(self.rig.node.recent._by_id[msg_id])
        self.rig.node.resend.end(msg_id)

    def test_message_that_only_the_store_knows(self) -> None:
        """The gateway tells the sender all the same, once."""
        self.bob.ack("hello")
        self.rig.turn()
        self.bob.ack("hello")
        self.rig.turn()
        self.assertEqual((self.alice.receipts, self.rig.stored), ([("hello", 3)], {"hello": 3}))
        self.assertEqual(self.rig.log, ["sent hello", "ack 3 hello"])

    def test_message_that_the_store_has_as_read(self) -> None:
        """Nothing to do."""
        self.rig.store.tables.messages[self.rig.id_of("hello")].msg_status = 4
        self.bob.ack("hello")
        self.rig.turn()
        self.assertEqual((self.alice.receipts, self.rig.log), ([], ["sent hello"]))

    def test_two_acks_while_the_store_is_asked(self) -> None:
        """One receipt."""
        self.bob.read(self.bob.ack_frame("hello"), self.bob.ack_frame("hello"))
        self.rig.turn()
        self.assertEqual(self.alice.receipts, [("hello", 3)])

    def test_message_that_nobody_knows_is_left_to_business(self) -> None:
        """Written with RECEIPT=business: it decides and tells when it knows the message."""
        unknown = self.id_now()
        self.bob.ack(unknown)
        self.rig.turn()
        self.assertEqual(self.rig.log[1:], [f"ack 3 {unknown} by business"])
        self.assertEqual((self.alice.receipts, len(self.rig.store.tables.early)), ([], 1))

    def test_business_tells_when_the_message_comes(self) -> None:
        """The store was away when the ACK came; the sender gets his tick from business."""
        self.rig.store.away = "gone"
        self.bob.ack("hello")
        self.rig.turn()
        self.assertEqual(self.rig.log[1:], ["ack 3 hello by business"])
        self.rig.store.away = ""
        self.rig.advance(10)
        self.assertEqual((self.alice.receipts, self.rig.stored), ([("hello", 3)], {"hello": 3}))

    def test_what_was_left_to_business_is_not_shown_again_on_the_connection(self) -> None:
        """He says himself that he has it, though nobody can check it yet."""
        self.rig.store.away = "gone"
        self.bob.ack("hello")
        self.rig.turn()
        self.rig.business.held = True
        self.rig.store.away = ""
        self.rig.node.backfill.hint(BOB)
        self.rig.advance(10)
        self.assertEqual(self.bob.shown, ["hello"])

    def test_foreign_ack_left_to_business_hides_nothing(self) -> None:
        """Carol acknowledges what is Bob's while nobody can check it; Bob is still shown it."""
        carol = self.rig.sign_in(CAROL)
        self.rig.store.away = "gone"
        carol.ack("hello")
        self.rig.turn()
        self.rig.store.away = ""
        self.rig.advance(10)
        self.assertEqual((self.alice.receipts, self.rig.owed(BOB)), ([], ["hello"]))
        self.assertEqual(self.rig.sign_in(BOB).shown, ["hello"])

    def test_look_ups_are_limited(self) -> None:
        """Ten per second and session; beyond that ignored and counted; others are not affected."""
        unknown = self.id_now()
        for number in range(13):
            self.bob.ack(unknown + number)
        dave = self.rig.sign_in(DAVE)
        dave.ack(unknown + 100)
        self.rig.turn()
        self.assertEqual((len(self.rig.log), self.ignored()), (1 + 10 + 1, {"lookups": 3}))
        self.rig.advance(1)
        self.bob.ack(unknown + 12)
        self.rig.turn()
        self.assertEqual(len(self.rig.log), 13)

    def test_store_that_hangs(self) -> None:
        """After backfill_timeout the ACK is left to business."""
        rig = Rig(store_delay=1000.0)
        bob = rig.sign_in(BOB)
        rig.advance(6)
        bob.ack((rig.now_ms() - rig.settings.profile.epoch) << 22)
        rig.advance(4.9)
        self.assertEqual(rig.log, [])
        rig.advance(0.2)
        self.assertIn("by business", rig.log[0])

    def test_connection_that_goes_while_the_store_is_asked(self) -> None:
        """Nothing is written for somebody who has gone."""
        rig = Rig(store_delay=1.0)
        bob = rig.sign_in(BOB)
        rig.advance(5)
        bob.ack((rig.now_ms() - rig.settings.profile.epoch) << 22)
        bob.leave()
        rig.advance(5)
        self.assertEqual(rig.log, [])
