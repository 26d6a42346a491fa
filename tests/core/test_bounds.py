"""Every queue has a bound and a way out."""

from __future__ import annotations

from imconnect.wire.client_codec import IdsReply, SendReply, encode_get_msg_ids
from tests.core.rig import ALICE, BOB, CAROL, Rig, send_frame
from tests.support import TestCase


class CommandRateTests(TestCase):
    """limits.commands_per_second and burst."""

    def setUp(self) -> None:
        self.rig = Rig(commands_per_second=10, burst=20)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def frames(self, first: int, count: int) -> list[bytes]:
        return [send_frame(BOB, f"{number}") for number in range(first, first + count)]

    def test_commands_over_the_limit_are_refused(self) -> None:
        """429 for what is over the burst; the rest is served; nobody is closed."""
        self.alice.read(*self.frames(0, 23))
        self.rig.turn()
        self.assertEqual(self.alice.accepted, [str(number) for number in range(20)])
        self.assertEqual(self.alice.refused, [("20", 429), ("21", 429), ("22", 429)])
        self.assertEqual((self.rig.metrics.sends_refused["flood"], self.alice.link.closed), (3, None))

    def test_allowance_grows_with_time_up_to_the_burst(self) -> None:
        """Ten more after a second; never more than twenty at once."""
        self.alice.read(*self.frames(0, 20))
        self.rig.advance(1)
        self.alice.read(*self.frames(20, 11))
        self.rig.turn()
        self.assertEqual(self.alice.refused, [("30", 429)])
        self.rig.advance(60)
        self.alice.read(*self.frames(40, 21))
        self.rig.turn()
        self.assertEqual(self.alice.refused, [("30", 429), ("60", 429)])

    def test_flood_is_closed(self) -> None:
        """4008 at ten times the limit."""
        self.alice.read(*self.frames(0, 200))
        self.assertIsNone(self.alice.link.closed)
        self.alice.send(BOB, "one more")
        self.assertEqual(self.alice.link.closed, 4008)

    def test_what_was_accepted_of_a_flood_is_delivered(self) -> None:
        """He does not hear of it any more, but it is durable."""
        self.alice.read(*self.frames(0, 201))
        self.rig.turn()
        self.assertEqual((self.alice.link.closed, len(self.bob.shown)), (4008, 20))

    def test_steady_rate_never_ends_in_a_close(self) -> None:
        """Who sends twice what he may is told 429 for half of it, for ever."""
        for number in range(100):
            self.alice.read(*self.frames(number * 20, 20))
            self.rig.advance(1)
        self.assertIsNone(self.alice.link.closed)

    def test_empty_frames_count(self) -> None:
        """Keep-alives are commands too, though they have no answer."""
        self.alice.read(*[b""] * 20)
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual((self.alice.got, self.alice.refused), (self.alice.replies, [("hello", 429)]))


class PendingTests(TestCase):
    """limits.pending_commands: reading pauses, nobody is closed."""

    def setUp(self) -> None:
        self.rig = Rig(commit_delay=1.0, pending_commands=10)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def test_reading_pauses_while_too_many_wait(self) -> None:
        """At more than the limit; it goes on when half of them are answered."""
        for number in range(10):
            self.alice.send(BOB, f"{number}")
        self.assertFalse(self.alice.link.paused)
        self.alice.send(BOB, "10")
        self.assertTrue(self.alice.link.paused)
        self.rig.advance(1)
        self.assertEqual((self.alice.link.paused, len(self.alice.accepted)), (False, 11))

    def test_what_one_read_brings_is_taken(self) -> None:
        """One read is the slack; it is answered whole."""
        self.alice.read(*(send_frame(BOB, f"{number}") for number in range(100)))
        self.assertTrue(self.alice.link.paused)
        self.rig.advance(1)
        self.assertEqual((self.alice.link.paused, len(self.alice.accepted)), (False, 100))

    def test_reading_goes_on_when_the_commit_fails(self) -> None:
        """A refusal is an answer."""
        self.alice.read(*(send_frame(BOB, f"{number}") for number in range(20)))
        self.rig.outbox.fail_appends = True
        self.rig.advance(1)
        self.assertEqual((self.alice.link.paused, len(self.alice.refused)), (False, 20))

    def test_look_ups_count(self) -> None:
        """A question to the store is a request that waits."""
        rig = Rig(store_delay=2.0, pending_commands=3)
        bob = rig.sign_in(BOB)
        rig.advance(6)
        unknown = (rig.now_ms() - rig.settings.profile.epoch) << 22
        for number in range(4):
            bob.ack(unknown + number)
        self.assertTrue(bob.link.paused)
        rig.advance(3)
        self.assertFalse(bob.link.paused)
        self.assertEqual(bob.session.pending, 0)


class OutboxBoundTests(TestCase):
    """outbox.max_events while the queue takes nothing."""

    def setUp(self) -> None:
        self.rig = Rig(outbox_max_events=4)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        self.rig.business.held = True

    def fill(self) -> None:
        for number in range(4):
            self.alice.send(BOB, f"{number}")
        self.rig.turn()

    def test_sends_are_refused(self) -> None:
        """503 at the bound; the node says so to whoever asks."""
        self.fill()
        self.assertFalse(self.rig.node.room_for_sends())
        self.alice.send(BOB, "too much")
        self.rig.turn()
        self.assertEqual((len(self.alice.accepted), self.alice.refused), (4, [("too much", 503)]))
        self.assertEqual(self.rig.node.backlog, 4)

    def test_what_is_still_being_decided_counts(self) -> None:
        """One read does not slip past the bound."""
        self.alice.read(*(send_frame(BOB, f"{number}") for number in range(9)))
        self.rig.turn()
        self.assertEqual((len(self.alice.accepted), len(self.alice.refused)), (4, 5))

    def test_repeats_are_still_answered(self) -> None:
        """They write nothing."""
        self.fill()
        self.alice.send(BOB, "2")
        self.rig.turn()
        self.assertEqual((self.alice.accepted[4:], self.alice.refused), (["2"], []))

    def test_acks_are_taken_up_to_twice_the_bound(self) -> None:
        """Then they are ignored and counted; the next push asks again."""
        self.fill()
        for number in range(4):
            self.bob.ack(f"{number}")
        self.rig.turn()
        self.assertEqual((len(self.alice.receipts), self.rig.node.backlog), (4, 8))
        self.bob.ack("0", 4)
        self.rig.turn()
        self.assertEqual((len(self.alice.receipts), self.rig.metrics.acks_ignored["outbox_full"]), (4, 1))

    def test_withdrawals_are_taken_up_to_twice_the_bound(self) -> None:
        """Then they are refused."""
        self.fill()
        for number in range(4):
            self.alice.withdraw(f"{number}")
        self.rig.turn()
        self.rig.business.held = False
        carol = self.rig.sign_in(CAROL)
        self.assertEqual([code for _, code in self.alice.withdrawals], [0, 0, 0, 0])
        self.rig.business.held = True
        self.assertFalse(self.rig.node.room_for_ends())
        self.alice.withdraw("3")
        carol.read(encode_get_msg_ids())
        self.rig.turn()
        self.assertEqual([code for _, code in self.alice.withdrawals[4:]], [0])  # a repeat: nothing to write
        self.assertIsInstance(carol.got[0], IdsReply)

    def test_withdrawal_over_twice_the_bound_is_refused(self) -> None:
        """503, and it may be tried again."""
        self.fill()
        for number in range(4):
            self.bob.ack(f"{number}")
        self.rig.turn()
        self.alice.withdraw("0")
        self.rig.turn()
        self.assertEqual(self.alice.withdrawals, [("0", 503)])
        self.rig.business.go_on()
        self.rig.advance(1)
        self.alice.withdraw("0")
        self.rig.turn()
        self.assertEqual(self.alice.withdrawals, [("0", 503), ("0", 0)])

    def test_offlinings_over_twice_the_bound_stay_due(self) -> None:
        """They are written as soon as there is room, in order."""
        self.fill()
        for number in range(3):
            self.bob.ack(f"{number}")
        self.rig.turn()
        for number in range(3):
            self.bob.ack(f"{number}", 4)
        self.rig.turn()
        self.bob.leave()
        self.rig.advance(5)
        self.assertEqual((self.rig.node.delivery.due, self.rig.log.count("offline 3")), (1, 0))
        self.rig.business.go_on()
        self.rig.advance(5)
        self.assertEqual((self.rig.node.delivery.due, self.rig.log.count("offline 3")), (0, 1))

    def test_room_comes_back_with_the_queue(self) -> None:
        """Sends are taken again without a restart."""
        self.fill()
        self.rig.business.go_on()
        self.rig.advance(1)
        self.alice.send(BOB, "again")
        self.rig.turn()
        self.assertEqual((self.alice.accepted[4:], self.rig.node.backlog), (["again"], 0))


class BugTests(TestCase):
    """Anything else that is raised is a bug: logged once, and only the one whose request it was is closed."""

    def test_handler_that_raises_ends_its_session(self) -> None:
        """1011; the other frames of the read are left; everybody else goes on."""
        rig = Rig(fits=lambda message: 1 // (message.content != "poison") == 1)
        alice, bob, carol = rig.sign_in(ALICE), rig.sign_in(BOB), rig.sign_in(CAROL)
        alice.read(send_frame(BOB, "one"), send_frame(BOB, "poison"), send_frame(BOB, "two"))
        carol.send(BOB, "three")
        rig.turn()
        self.assertEqual((alice.link.closed, carol.link.closed), (1011, None))
        self.assertEqual(bob.shown, ["one", "three"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_look_up_that_raises_ends_its_session(self) -> None:
        """A store with a bug is not waited for by the client for ever."""
        rig = Rig()
        alice = rig.sign_in(ALICE)

        def broken(_: int) -> None:
            raise ValueError("a bug")

        self.patch(rig.pending, "find", broken)
        alice.withdraw((rig.now_ms() - rig.settings.profile.epoch) << 22)
        rig.turn()
        self.assertEqual(alice.link.closed, 1011)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_consequence_that_raises_ends_the_session_that_asked(self) -> None:
        """The rest of the batch acts, and each event keeps its own number."""
        rig = Rig()
        alice, bob, carol = rig.sign_in(ALICE), rig.sign_in(BOB), rig.sign_in(CAROL)
        deliver = rig.node.delivery.deliver

        def broken(message: object) -> None:
            if "poison" in str(message):
                raise ValueError("a bug")
            deliver(message)  # type: ignore[arg-type]

        self.patch(rig.node.delivery, "deliver", broken)
        alice.send(BOB, "poison")
        carol.send(BOB, "fine")
        rig.turn()
        self.assertEqual((alice.link.closed, bob.shown, carol.accepted), (1011, ["fine"], ["fine"]))
        self.assertEqual([row.number for row in rig.node.recent], [1, 2])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_frame_that_does_not_parse_closes(self) -> None:
        """1007; what came before it in the read is served."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.read(send_frame(BOB, "one"), b"\xff\xff", send_frame(BOB, "two"))
        rig.turn()
        self.assertEqual((alice.link.closed, bob.shown), (1007, ["one"]))
        self.assertEqual([one for one in alice.got if isinstance(one, SendReply)], [])
