"""C2C_WITHDRAW and WITHDRAW_MSG_SEND: taking a message back."""

from __future__ import annotations

from imconnect.model import MAX_ID
from imconnect.wire import client_codec as wire
from imconnect.wire.client_codec import WithdrawReply
from tests.core.rig import ALICE, BOB, CAROL, Rig, client_id, send_frame
from tests.support import TestCase


class WithdrawTests(TestCase):
    """His own message, not too old."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        self.alice.send(BOB, "hello")
        self.rig.turn()

    def forget(self, text: str) -> None:
        msg_id = self.rig.id_of(text)
        self.rig.node.recent._drop(self.rig.node.recent._by_id[msg_id])
        self.rig.node.resend.end(msg_id)

    def test_both_sides_are_told_once_business_has_applied_it(self) -> None:
        """The answer says accepted and durable; receiver and sender get a C2C_WITHDRAW on all their connections."""
        laptop = self.rig.sign_in(ALICE)
        self.rig.business.held = True
        self.alice.withdraw("hello")
        self.rig.turn()
        self.assertEqual((self.alice.withdrawals, self.alice.notices, self.bob.notices), ([("hello", 0)], [], []))
        self.rig.business.go_on()
        self.assertEqual((self.alice.notices, laptop.notices, self.bob.notices), (["hello"],) * 3)
        self.assertEqual((self.rig.log, self.rig.owed(BOB)), (["sent hello", "withdrawn hello"], []))

    def test_answer(self) -> None:
        """Type 15: msgId, clientMsgId, success, the server's time; the same for both request types."""
        msg_id = self.rig.id_of("hello")
        expected = WithdrawReply(msg_id, client_id("hello"), True, "", self.rig.now_ms(), 0)
        for frame in (wire.encode_withdraw(msg_id, BOB), wire.encode_withdraw_send(msg_id, b"", 77)):
            self.alice.forget()
            self.alice.read(frame)
            self.rig.turn()
            self.assertEqual(self.alice.got[0], expected)

    def test_withdrawn_twice(self) -> None:
        """The same answer, no second event, nobody is told again; also when the window has ended meanwhile."""
        self.alice.withdraw("hello")
        self.rig.turn()
        self.alice.withdraw("hello")
        self.rig.advance(121)
        self.alice.withdraw("hello")
        self.rig.turn()
        self.assertEqual(self.alice.withdrawals, [("hello", 0)] * 3)
        self.assertEqual((self.bob.notices, self.rig.log), (["hello"], ["sent hello", "withdrawn hello"]))

    def test_only_the_sender_may(self) -> None:
        """403 for the receiver and for anybody else."""
        carol = self.rig.sign_in(CAROL)
        for client in (self.bob, carol):
            client.withdraw("hello")
        self.rig.turn()
        self.assertEqual((self.bob.withdrawals, carol.withdrawals), ([("hello", 403)],) * 2)
        self.assertEqual((self.rig.log, self.alice.notices), (["sent hello"], []))

    def test_window(self) -> None:
        """Accepted within limits.withdraw_window, 403 after it."""
        self.alice.send(BOB, "later")
        self.rig.advance(119)
        self.alice.withdraw("hello")
        self.rig.advance(2)
        self.alice.withdraw("later")
        self.rig.turn()
        self.assertEqual(self.alice.withdrawals, [("hello", 0), ("later", 403)])

    def test_window_of_a_message_that_only_the_store_knows(self) -> None:
        """The same, by the id."""
        self.rig.advance(60)
        self.forget("hello")
        self.alice.withdraw("hello")
        self.rig.turn()
        self.assertEqual(self.alice.withdrawals, [("hello", 0)])
        self.alice.send(BOB, "later")
        self.rig.advance(121)
        self.forget("later")
        self.alice.withdraw("later")
        self.rig.turn()
        self.assertEqual(self.alice.withdrawals[1:], [("later", 403)])

    def test_late_ack_does_not_open_the_window_again(self) -> None:
        """What is left of an old message is the ACK of a moment ago."""
        self.rig.advance(300)
        self.forget("hello")
        self.bob.ack("hello")
        self.rig.turn()
        self.alice.withdraw("hello")
        self.rig.turn()
        self.assertEqual((self.alice.receipts, self.alice.withdrawals), ([("hello", 3)], [("hello", 403)]))

    def test_read_message_may_still_be_taken_back(self) -> None:
        """Within the window."""
        self.bob.ack("hello", 4)
        self.rig.turn()
        self.alice.withdraw("hello")
        self.rig.turn()
        self.assertEqual((self.alice.withdrawals, self.bob.notices), ([("hello", 0)], ["hello"]))

    def test_ids_that_are_none(self) -> None:
        """400 for 0 and beyond all; 404 for the future and for before the epoch; 400 for a receiver that is no user."""
        future = (self.rig.now_ms() + 400_000 - self.rig.settings.profile.epoch) << 22
        self.alice.read(
            wire.encode_withdraw(0, BOB),
            wire.encode_withdraw(MAX_ID + 1, BOB),
            wire.encode_withdraw(future, BOB),
            wire.encode_withdraw(1, BOB),
            wire.encode_withdraw(self.rig.id_of("hello"), 0),
        )
        self.rig.turn()
        self.assertEqual([code for _, code in self.alice.withdrawals], [400, 400, 404, 404, 400])

    def test_message_that_nobody_knows_is_left_to_business(self) -> None:
        """Accepted with RECEIPT=business; it checks the rights when it knows the message."""
        unknown = (self.rig.now_ms() - self.rig.settings.profile.epoch) << 22 | 5 << 12
        self.alice.withdraw(unknown)
        self.rig.turn()
        self.assertEqual(
            (self.alice.withdrawals, self.rig.log[1:]), ([(str(unknown), 0)], [f"withdrawn {unknown} by business"])
        )

    def test_withdrawal_while_the_store_is_away(self) -> None:
        """Nobody could check it at the door; business does, and the retries end all the same."""
        self.forget("hello")
        self.rig.store.away = "gone"
        self.alice.withdraw("hello")
        self.rig.turn()
        self.rig.business.held = True
        self.rig.store.away = ""
        laptop = self.rig.sign_in(BOB)
        self.assertEqual(laptop.shown, ["hello"])
        self.rig.business.go_on()
        self.rig.advance(60)
        self.assertEqual((laptop.notices, laptop.shown), (["hello"], ["hello"]))

    def test_look_ups_are_limited(self) -> None:
        """429 over ten per second."""
        unknown = (self.rig.now_ms() - self.rig.settings.profile.epoch) << 22 | 5 << 12
        for number in range(12):
            self.alice.withdraw(unknown + number)
        self.rig.turn()
        self.assertEqual(sorted(code for _, code in self.alice.withdrawals), [0] * 10 + [429] * 2)

    def test_message_that_is_not_durable_yet(self) -> None:
        """Its id was told to nobody: whoever names it has guessed."""
        rig = Rig(commit_delay=1.0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "hello")
        alice.withdraw(rig.node.ids.next() - 1)
        rig.advance(3)
        self.assertEqual([code for _, code in alice.withdrawals], [403])


class NeverShownTests(TestCase):
    """A message withdrawn before it was shown is never shown."""

    def test_receiver_away(self) -> None:
        """He is told at his next login, and is never shown it."""
        rig = Rig()
        alice = rig.sign_in(ALICE)
        alice.read(send_frame(BOB, "hello"), send_frame(BOB, "oops"))
        rig.turn()
        alice.withdraw("oops")
        rig.turn()
        bob = rig.sign_in(BOB)
        self.assertEqual((bob.shown, bob.notices), (["hello"], ["oops"]))

    def test_waiting_in_the_queue_of_a_session_that_is_behind(self) -> None:
        """It came and went while he was brought up to date."""
        rig = Rig(store_delay=1.0)
        rig.business.held = True
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.read(send_frame(BOB, "oops"), send_frame(BOB, "hello"))
        rig.turn()
        alice.withdraw("oops")
        rig.advance(20)
        self.assertEqual(set(bob.shown), {"hello"})

    def test_in_a_page_that_was_read_before(self) -> None:
        """The store's answer is older than the withdrawal."""
        rig = Rig(store_delay=0.0)
        alice = rig.sign_in(ALICE)
        alice.read(send_frame(BOB, "oops"), send_frame(BOB, "hello"))
        rig.turn()
        rig.business.held = True
        alice.withdraw("oops")
        rig.turn()
        self.assertEqual(rig.owed(BOB), ["oops", "hello"])
        self.assertEqual(rig.sign_in(BOB).shown, ["hello"])

    def test_unknown_to_the_store(self) -> None:
        """Business lags behind with both the message and its withdrawal."""
        rig = Rig()
        alice = rig.sign_in(ALICE)
        rig.business.held = True
        alice.read(send_frame(BOB, "oops"), send_frame(BOB, "hello"))
        rig.turn()
        alice.withdraw("oops")
        rig.turn()
        rig.crash()
        self.assertEqual(rig.sign_in(BOB).shown, ["hello"])

    def test_waiting_for_a_full_session(self) -> None:
        """It would have been shown when there is room."""
        rig = Rig(unacknowledged=2)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        for text in ("1", "2", "oops", "3"):
            alice.send(BOB, text)
            rig.turn()
        alice.withdraw("oops")
        rig.turn()
        bob.read(bob.ack_frame("1"), bob.ack_frame("2"))
        rig.turn()
        self.assertEqual(bob.shown, ["1", "2", "3"])

    def test_pushed_and_not_acknowledged(self) -> None:
        """It is not pushed again, nor turned offline."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "oops")
        rig.turn()
        alice.withdraw("oops")
        rig.advance(400)
        self.assertEqual((bob.shown, rig.log), (["oops"], ["sent oops", "withdrawn oops"]))
