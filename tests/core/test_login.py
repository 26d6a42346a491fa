"""What a user sees when he signs in, and while the store catches up with him."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from imconnect.core.session import Stage
from imconnect.wire.client_codec import WithdrawNotice
from tests.core.rig import ALICE, BOB, Choking, RecordingLink, Rig, send_frame
from tests.support import TestCase


class OrderTests(TestCase):
    """First what is old, then what is new, nothing twice."""

    def test_everything_comes_in_order(self) -> None:
        """Withdrawals, the store's pages, what the store does not know yet, what came meanwhile."""
        rig = Rig(store_delay=1.0, page=2)
        alice = rig.sign_in(ALICE)
        for text in ("taken back", "one", "two", "three"):
            alice.send(BOB, text)
        rig.turn()
        alice.withdraw("taken back")
        rig.turn()
        rig.business.held = True
        alice.read(send_frame(BOB, "four"), send_frame(BOB, "five"))
        rig.turn()
        bob = rig.sign_in(BOB)
        rig.advance(2.5)
        alice.send(BOB, "six")
        rig.turn()
        self.assertEqual(bob.shown, [])
        rig.advance(4)
        self.assertEqual(bob.notices, ["taken back"])
        self.assertIsInstance(bob.got[0], WithdrawNotice)
        self.assertEqual(bob.shown, ["one", "two", "three", "four", "five", "six"])
        self.assertTrue(bob.live)
        rig.business.go_on()
        rig.advance(1)
        self.assertEqual(len(bob.shown), 6)

    def test_pages_meet_without_gap_or_repeat(self) -> None:
        """Exactly a page, one less, one more."""
        for count in (0, 1, 2, 3, 4, 5, 6, 7):
            rig = Rig(page=3)
            alice = rig.sign_in(ALICE)
            texts = [f"{number} of {count}" for number in range(count)]
            for text in texts:
                alice.send(BOB, text)
            rig.turn()
            bob = rig.sign_in(BOB)
            self.assertEqual((bob.shown, bob.live), (texts, True))

    def test_live_messages_wait_behind_the_page(self) -> None:
        """A message that arrives while the page is read comes after it, once, though the page may hold it too."""
        rig = Rig(store_delay=1.0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "old")
        rig.turn()
        bob = rig.sign_in(BOB)
        rig.advance(0.1)
        alice.send(BOB, "new")
        rig.advance(10)
        self.assertEqual(bob.shown[:2], ["old", "new"])
        self.assertEqual(bob.shown.count("new"), len([1 for push in bob.shown if push == "old"]))

    def test_message_known_by_the_time_the_page_is_read_comes_once(self) -> None:
        """The store learns of it between the question what it knows and the page."""
        rig = Rig(store_delay=1.0)
        alice = rig.sign_in(ALICE)
        rig.business.held = True
        alice.send(BOB, "hello")
        rig.turn()
        bob = rig.sign_in(BOB)
        rig.advance(2.0)
        rig.business.go_on()
        rig.advance(5.5)
        self.assertEqual((bob.shown, bob.live), (["hello"], True))

    def test_first_login_of_somebody_who_is_owed_nothing(self) -> None:
        """Live at once, told nothing."""
        rig = Rig()
        bob = rig.sign_in(BOB)
        self.assertEqual((bob.got, bob.live), ([], True))

    def test_what_one_connection_acknowledged_is_not_shown_to_the_next(self) -> None:
        """Acknowledgement is per user."""
        rig = Rig()
        alice, phone = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.turn()
        phone.ack("hello")
        rig.turn()
        self.assertEqual(rig.sign_in(BOB).shown, [])

    def test_connection_that_goes_while_it_is_brought_up_to_date(self) -> None:
        """Nothing is written to it, nothing is lost, nothing is logged as an error."""
        rig = Rig(store_delay=1.0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "old")
        rig.turn()
        bob = rig.sign_in(BOB)
        rig.advance(0.5)
        alice.send(BOB, "new")
        rig.turn()
        bob.leave()
        rig.advance(10)
        self.assertEqual((bob.got, rig.log[-1]), ([], "offline new"))
        again = rig.sign_in(BOB)
        rig.advance(4.9)
        self.assertEqual(again.shown, ["old", "new"])


class LaggingBusinessTests(TestCase):
    """Business has not stored yet what the node has accepted."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.alice = self.rig.sign_in(ALICE)
        self.rig.business.held = True

    def test_what_the_store_does_not_know_is_shown(self) -> None:
        """Turned offline a moment ago, its receiver signs in now."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual((self.rig.sign_in(BOB).shown, self.rig.stored), (["hello"], {}))

    def test_also_after_a_crash(self) -> None:
        """The log is all that is left of it."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.rig.crash()
        self.assertEqual((self.rig.sign_in(BOB).shown, self.rig.stored), (["hello"], {}))

    def test_what_another_connection_has_open_is_shown(self) -> None:
        """Pushed to the phone, not acknowledged; the laptop signs in."""
        self.rig.sign_in(BOB)
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual(self.rig.sign_in(BOB).shown, ["hello"])

    def test_acknowledged_is_not_shown_again(self) -> None:
        """Neither where the store still owes it nor where it does not know it, on any connection, after a crash too."""
        self.rig.business.go_on()
        phone = self.rig.sign_in(BOB)
        self.alice.send(BOB, "known")
        self.rig.turn()
        self.rig.business.held = True
        self.alice.send(BOB, "unknown")
        self.rig.turn()
        phone.read(phone.ack_frame("known"), phone.ack_frame("unknown"))
        self.rig.turn()
        self.assertEqual(self.rig.owed(BOB), ["known"])
        self.assertEqual(self.rig.sign_in(BOB).shown, [])
        self.rig.advance(20)
        self.rig.crash()
        bob = self.rig.sign_in(BOB)
        self.rig.advance(20)
        self.assertEqual(bob.shown, [])

    def test_older_than_business_lag_is_shown_when_business_has_it(self) -> None:
        """limits.business_lag bounds what the node keeps of them."""
        rig = Rig(business_lag=100.0)
        alice = rig.sign_in(ALICE)
        rig.business.held = True
        alice.send(BOB, "old")
        rig.advance(60)
        alice.send(BOB, "young")
        rig.advance(60)
        bob = rig.sign_in(BOB)
        self.assertEqual(bob.shown, ["young"])
        rig.business.go_on()
        rig.advance(1)
        self.assertEqual(bob.shown, ["young", "old"])

    def test_many_unknown_messages_do_not_overrun_the_client(self) -> None:
        """They come at the pace of the pages: nobody is called a slow reader for what he was never asked to take."""
        for number in range(250):
            self.alice.send(BOB, f"{number}")
        self.rig.turn()
        link = RecordingLink()
        link.slow = True
        bob = self.rig.sign_in(BOB, link=link)
        self.assertEqual(bob.shown, [])
        link.slow = False
        self.rig.advance(0.05)
        self.assertEqual(bob.shown, [str(number) for number in range(250)])
        self.assertLessEqual(max(len(write) for write in link.writes), 100)

    def test_many_unknown_messages_fill_a_session_like_known_ones(self) -> None:
        """limits.unacknowledged holds for them too."""
        rig = Rig(unacknowledged=10)
        alice = rig.sign_in(ALICE)
        rig.business.held = True
        for number in range(25):
            alice.send(BOB, f"{number}")
        rig.turn()
        bob = rig.sign_in(BOB)
        self.assertEqual((len(bob.shown), bob.session.stage), (10, Stage.FULL))
        for number in range(25):
            bob.ack(f"{number}")
            rig.turn()
        self.assertEqual((bob.shown, bob.live), ([str(number) for number in range(25)], True))


class CongestedTests(TestCase):
    """A client that takes its pages slowly."""

    def test_next_page_waits_until_the_last_is_taken(self) -> None:
        """Pages are not piled up in memory."""
        rig = Rig(page=2)
        alice = rig.sign_in(ALICE)
        for text in ("one", "two", "three"):
            alice.send(BOB, text)
        rig.turn()
        link = Choking()
        bob = rig.sign_in(BOB, link=link)
        rig.advance(1)
        self.assertEqual(bob.shown, ["one", "two"])
        link.slow = False
        rig.advance(0.1)
        self.assertEqual(bob.shown, ["one", "two", "three"])

    def test_client_that_never_takes_its_page_is_a_slow_reader(self) -> None:
        """4003 after backfill_timeout; everything stays owed."""
        rig = Rig(page=1)
        alice = rig.sign_in(ALICE)
        alice.read(send_frame(BOB, "one"), send_frame(BOB, "two"))
        rig.turn()
        bob = rig.sign_in(BOB)
        bob.leave()
        link = RecordingLink()
        link.slow = True
        bob = rig.sign_in(BOB, link=link)
        rig.advance(6)
        self.assertEqual((link.closed, rig.owed(BOB)), (4003, ["one", "two"]))


class StoreAwayTests(TestCase):
    """The database does not answer."""

    def test_login_goes_live_without_the_page(self) -> None:
        """Away at once: what is sent now arrives, what is owed comes with the watch when the store is back."""
        rig = Rig()
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "old")
        rig.turn()
        rig.store.away = "gone"
        bob = rig.sign_in(BOB)
        alice.send(BOB, "new")
        rig.turn()
        self.assertEqual((bob.shown, bob.live), (["new"], True))
        bob.ack("new")
        rig.advance(60)
        self.assertEqual((bob.shown, rig.node.backfill.store_answers), (["new"], False))
        rig.store.away = ""
        rig.advance(5)
        self.assertEqual((bob.shown, rig.node.backfill.store_answers), (["new", "old"], True))

    def test_store_is_away_while_nobody_is_here(self) -> None:
        """It counts as away until it answers, not until nobody asks."""
        rig = Rig()
        bob = rig.sign_in(BOB)
        rig.store.away = "gone"
        rig.advance(10)
        bob.leave()
        rig.advance(20)
        self.assertFalse(rig.node.backfill.store_answers)
        rig.store.away = ""
        rig.advance(10)
        self.assertTrue(rig.node.backfill.store_answers)

    def test_store_that_hangs_costs_backfill_timeout(self) -> None:
        """What waited is written then, in order."""
        rig = Rig(store_delay=1000.0)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "one")
        rig.advance(4.9)
        alice.send(BOB, "two")
        rig.turn()
        self.assertEqual(bob.shown, [])
        rig.advance(0.2)
        self.assertEqual((bob.shown, bob.live), (["one", "two"], True))

    def test_store_that_fails_between_two_pages(self) -> None:
        """What was shown is shown, the rest comes with the watch, nothing twice."""
        rig = Rig(page=2, store_delay=0.1)
        alice = rig.sign_in(ALICE)
        rig.advance(1)
        for number in range(5):
            alice.send(BOB, f"{number}")
        rig.turn()
        bob = rig.sign_in(BOB)
        while not bob.shown:
            rig.advance(0.05)
        rig.store.away = "gone"
        rig.advance(1)
        self.assertEqual((bob.shown, bob.live), (["0", "1"], True))
        rig.store.away = ""
        rig.advance(9)
        self.assertEqual(list(dict.fromkeys(bob.shown)), ["0", "1", "2", "3", "4"])
        self.assertEqual((bob.shown.count("0"), bob.shown.count("4")), (2, 1))  # one retry of what was shown first

    def test_store_with_a_bug_ends_the_session(self) -> None:
        """Logged once as a failure, closed as an internal error."""
        rig = Rig()

        def broken(*_: object) -> Deferred[None]:
            raise ValueError("a bug")

        self.patch(rig.pending, "owed", broken)
        bob = rig.sign_in(BOB)
        self.assertEqual(bob.link.closed, 1011)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_node_that_stops_meanwhile_logs_no_error(self) -> None:
        """A login that is cut off by the stop is nobody's fault."""
        rig = Rig(store_delay=3.0)
        bob = rig.sign_in(BOB)
        stopped = Deferred.fromCoroutine(rig.node.stop())
        rig.advance(10)
        self.successResultOf(stopped)
        self.assertEqual((bob.got, bob.link.closed), ([], None))
