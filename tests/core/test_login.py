"""What a user sees when he signs in, and while the store catches up with him."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred

from imconnect.business.service import BusinessRules
from imconnect.core.session import Stage
from imconnect.events.values import Offlined
from imconnect.model import Message
from imconnect.wire.client_codec import WithdrawNotice
from tests.core.rig import ALICE, BOB, CAROL, RecordingLink, Rig, client_id, send_frame
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


class HintTests(TestCase):
    """Business says that somebody is owed something new."""

    def test_hint_during_a_backfill_makes_it_read_once_more(self) -> None:
        """A message that the first reading had passed by comes all the same."""
        rig = Rig(store_delay=1.0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "old")
        rig.turn()
        bob = rig.sign_in(BOB)
        rig.advance(2.5)
        self.assertEqual(bob.shown, [])
        elsewhere(rig, "from another node")
        rig.node.backfill.hint(BOB)
        rig.advance(4.9)
        self.assertEqual(bob.shown, ["old", "from another node"])
        self.assertTrue(bob.live)

    def test_older_message_that_a_hint_brings_comes_before_what_the_store_does_not_know(self) -> None:
        """The rows of this node wait until nothing older is left in the store."""
        rig = Rig(store_delay=1.0, page=1)
        alice = rig.sign_in(ALICE)
        rig.business.held = True
        long_ago = rig.now_ms()
        rig.advance(0.1)
        elsewhere(rig, "page")
        alice.send(BOB, "young")
        rig.turn()
        bob = rig.sign_in(BOB)
        rig.advance(3.5)
        elsewhere(rig, "old", created=long_ago)
        rig.node.backfill.hint(BOB)
        bob.ack("page")
        rig.advance(4.9)
        self.assertEqual(bob.shown, ["page", "old", "young"])

    def test_hint_while_unknown_messages_are_being_shown(self) -> None:
        """The client takes them slowly; what the hint is about comes all the same."""
        rig = Rig(page=2)
        alice = rig.sign_in(ALICE)
        rig.business.held = True
        for text in ("1", "2", "3", "4"):
            alice.send(BOB, text)
        rig.turn()
        link = Choking()
        bob = rig.sign_in(BOB, link=link)
        self.assertEqual(bob.shown, ["1", "2"])
        elsewhere(rig, "from another node")
        rig.node.backfill.hint(BOB)
        for _ in range(4):
            link.slow = False
            rig.advance(0.1)
        self.assertEqual((bob.shown, bob.live), (["1", "2", "3", "4", "from another node"], True))

    def test_hint_to_a_live_session(self) -> None:
        """Shown at once; what comes meanwhile waits its turn."""
        rig = Rig(store_delay=1.0)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        rig.advance(5)
        elsewhere(rig, "from another node")
        rig.node.backfill.hint(BOB)
        rig.advance(0.1)
        alice.send(BOB, "new")
        rig.advance(4)
        self.assertEqual(bob.shown, ["from another node", "new"])

    def test_hint_shows_nothing_that_the_session_has_had(self) -> None:
        """Its own messages are turned offline one after the other, he sees each once."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.turn()
        rig.node.backfill.hint(BOB)
        rig.advance(1)
        self.assertEqual(bob.shown, ["hello"])


class FullSessionTests(TestCase):
    """A client that takes messages and never acknowledges."""

    def setUp(self) -> None:
        self.rig = Rig(unacknowledged=4)
        self.alice = self.rig.sign_in(ALICE)

    def send(self, *texts: str) -> None:
        for text in texts:
            self.alice.send(BOB, text)
            self.rig.turn()

    def test_rest_waits_in_the_store_until_half_is_acknowledged(self) -> None:
        """It gets no more than limits.unacknowledged, then exactly what it has not had, in order."""
        bob = self.rig.sign_in(BOB)
        self.send("1", "2", "3", "4", "5", "6")
        self.assertEqual((bob.shown, bob.session.stage), (["1", "2", "3", "4"], Stage.FULL))
        self.assertEqual(self.rig.owed(BOB), ["1", "2", "3", "4", "5", "6"])
        bob.ack("3")
        self.rig.turn()
        self.assertEqual(len(bob.shown), 4)
        bob.ack("1")
        self.rig.turn()
        self.assertEqual(bob.shown, ["1", "2", "3", "4", "5", "6"])
        bob.read(*(bob.ack_frame(text) for text in ("2", "4", "5", "6")))
        self.rig.turn()
        self.assertEqual((bob.live, self.rig.owed(BOB)), (True, []))
        self.send("7")
        self.assertEqual(bob.shown[6:], ["7"])

    def test_login_stops_at_the_limit(self) -> None:
        """Also where the limit lies inside a page."""
        self.send("1", "2", "3", "4", "5", "6")
        bob = self.rig.sign_in(BOB)
        self.assertEqual((bob.shown, bob.session.stage), (["1", "2", "3", "4"], Stage.FULL))
        for text in ("1", "2", "3", "4"):
            bob.ack(text)
            self.rig.turn()
        self.assertEqual((bob.shown[4:], bob.live), (["5", "6"], True))

    def test_retry_still_reaches_it(self) -> None:
        """What it has open is asked for again; nothing new slips in by that way."""
        bob = self.rig.sign_in(BOB)
        self.send("1", "2", "3", "4", "5")
        bob.forget()
        self.rig.advance(5.3)
        self.assertEqual(bob.shown, ["1", "2", "3", "4"])

    def test_hint_and_watch_leave_it_alone(self) -> None:
        """It has enough to do: the store is not even asked."""
        bob = self.rig.sign_in(BOB)
        self.send("1", "2", "3", "4", "5")
        asked: list[int] = []
        self.patch(self.rig.pending, "owed", recorded(self.rig.pending.owed, lambda user, *_: asked.append(user)))
        self.rig.node.backfill.hint(BOB)
        self.rig.advance(20)
        self.assertEqual((asked, bob.shown.count("5"), bob.session.stage), ([], 0, Stage.FULL))

    def test_ack_on_another_connection_counts(self) -> None:
        """Acknowledgement is per user, so both recover."""
        phone, laptop = self.rig.sign_in(BOB), self.rig.sign_in(BOB)
        self.send("1", "2", "3", "4", "5")
        for text in ("1", "2"):
            laptop.ack(text)
            self.rig.turn()
        self.assertEqual((phone.shown, laptop.shown), (["1", "2", "3", "4", "5"],) * 2)

    def test_withdrawal_makes_room_too(self) -> None:
        """A withdrawn message is owed to nobody."""
        bob = self.rig.sign_in(BOB)
        self.send("1", "2", "3", "4", "5")
        for text in ("1", "2"):
            self.alice.withdraw(text)
            self.rig.turn()
        self.assertEqual(bob.shown, ["1", "2", "3", "4", "5"])

    def test_other_connection_that_keeps_up_is_not_held_back(self) -> None:
        """The phone sleeps, the laptop is live."""
        self.rig.sign_in(BOB)
        self.send("1", "2", "3")
        laptop = self.rig.sign_in(BOB)
        for text in ("1", "2", "3"):
            laptop.ack(text)
        self.send("4", "5", "6", "7", "8")
        self.assertEqual(laptop.shown, ["1", "2", "3", "4", "5", "6", "7"])


class QueueTests(TestCase):
    """What waits for a session that is behind."""

    def test_what_does_not_fit_is_turned_offline_and_comes_by_the_store(self) -> None:
        """limits.outgoing_bytes bounds the queue; nothing is lost, nothing comes twice."""
        rig = Rig(store_delay=1.0, outgoing_bytes=300)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        texts = [f"message {number}" for number in range(8)]
        for text in texts:
            alice.send(BOB, text)
            rig.turn()
        offline = [line for line in rig.log if line.startswith("offline")]
        self.assertEqual(offline, [f"offline message {number}" for number in range(4, 8)])
        self.assertEqual(rig.metrics.offline["behind"], 4)
        rig.advance(9)
        self.assertEqual((list(dict.fromkeys(bob.shown)), bob.live), (texts, True))

    def test_small_message_does_not_pass_a_large_one_that_did_not_fit(self) -> None:
        """The large one comes by the store or from the log's last batches, and the small one after it."""
        for lags in (False, True):
            rig = Rig(store_delay=0.5, outgoing_bytes=300)
            rig.business.held = lags
            alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
            for text in ("large " * 60, "small"):
                alice.send(BOB, text)
                rig.turn()
            rig.advance(4)
            self.assertEqual((bob.shown, bob.live), (["large " * 60, "small"], True))

    def test_session_goes_live_though_messages_never_stop(self) -> None:
        """What has been shown makes room in the queue."""
        rig = Rig(store_delay=0.2, outgoing_bytes=500)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        texts = [f"{number}" for number in range(40)]
        for text in texts[:20]:
            alice.send(BOB, text)
        rig.turn()
        for text in texts[20:]:
            rig.advance(0.1)
            alice.send(BOB, text)
        rig.turn()
        self.assertTrue(bob.live)
        self.assertEqual(bob.shown, texts)

    def test_what_waited_does_not_come_when_it_was_acknowledged_meanwhile(self) -> None:
        """The phone had it live; the laptop was still behind."""
        rig = Rig(store_delay=1.0)
        alice, phone = rig.sign_in(ALICE), rig.sign_in(BOB)
        rig.advance(5)
        laptop = rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.turn()
        phone.ack("hello")
        rig.turn()
        rig.advance(5)
        self.assertEqual((phone.shown, laptop.shown), (["hello"], []))

    def test_queue_of_a_connection_that_ends_is_not_lost_while_another_lives(self) -> None:
        """Only the one behind had taken it: offline, and to the other one by the hint."""
        rig = Rig(unacknowledged=2)
        alice, phone = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.read(send_frame(BOB, "1"), send_frame(BOB, "2"))
        rig.turn()
        self.assertEqual(phone.session.stage, Stage.FULL)
        rig.pending._delay = 1.0
        laptop = rig.sign_in(BOB)
        alice.send(BOB, "3")
        rig.turn()
        laptop.leave()
        rig.turn()
        self.assertEqual(rig.log[-1], "offline 3")
        phone.read(phone.ack_frame("1"), phone.ack_frame("2"))
        rig.advance(4)
        self.assertEqual(phone.shown, ["1", "2", "3"])


class WatchTests(TestCase):
    """The safety net under everything."""

    def test_watch_brings_what_a_session_has_not_had(self) -> None:
        """A message that another node stored and nobody told us about, older than five seconds."""
        rig = Rig()
        bob = rig.sign_in(BOB)
        elsewhere(rig, "lost hint")
        rig.advance(4.5)
        self.assertEqual(bob.shown, [])
        rig.advance(6)
        self.assertEqual(bob.shown, ["lost hint"])

    def test_watch_ignores_what_it_had(self) -> None:
        """A client that does not acknowledge is not read to from the start every five seconds."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.advance(4.9)
        bob.forget()
        asked: list[int] = []
        owed = rig.pending.owed
        self.patch(rig.pending, "owed", recorded(owed, lambda user, *_: asked.append(user)))
        rig.advance(500)
        # Once: for the hint of its OFFLINE event.
        self.assertEqual((asked.count(BOB), len(bob.shown)), (1, 3))

    def test_oldest_message_that_is_owed_to_somebody_online(self) -> None:
        """The promise's own health: when it was accepted; nothing where nobody online is owed anything."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(CAROL, "for somebody away")
        rig.advance(20)
        self.assertIsNone(rig.node.backfill.oldest_owed)
        sent = rig.now_ms()
        alice.send(BOB, "hello")
        rig.advance(5)
        alice.send(BOB, "again")
        rig.advance(10)
        self.assertEqual(rig.node.backfill.oldest_owed, sent)
        bob.read(bob.ack_frame("hello"), bob.ack_frame("again"))
        rig.advance(6)
        self.assertIsNone(rig.node.backfill.oldest_owed)

    def test_many_users_are_asked_about_in_pieces(self) -> None:
        """500 users per question; all of them are looked after."""
        rig = Rig()
        clients = [rig.sign_in(5000 + number) for number in range(1100)]
        asked: list[int] = []
        overdue = rig.pending.overdue
        self.patch(rig.pending, "overdue", recorded(overdue, lambda users, *_: asked.append(len(users))))
        elsewhere(rig, "for the last one", clients[-1].user)
        rig.advance(11)
        self.assertEqual(asked[:3], [500, 500, 100])
        self.assertEqual(clients[-1].shown, ["for the last one"])

    def test_watch_survives_a_store_that_is_away(self) -> None:
        """It asks again in the next round."""
        rig = Rig()
        bob = rig.sign_in(BOB)
        rig.store.away = "gone"
        rig.advance(20)
        rig.store.away = ""
        elsewhere(rig, "hello")
        rig.advance(11)
        self.assertEqual(bob.shown, ["hello"])

    def test_slow_question_is_not_asked_twice_at_once(self) -> None:
        """A store that needs longer than the interval is not asked again meanwhile."""
        rig = Rig(store_delay=4.9, watch_interval=2.0)
        rig.sign_in(BOB)
        asked: list[float] = []
        overdue = rig.pending.overdue
        self.patch(rig.pending, "overdue", recorded(overdue, lambda *_: asked.append(rig.clock.seconds())))
        rig.advance(20)
        self.assertTrue(all(later - one >= 4.9 for one, later in pairwise(asked)), asked)


class Choking(RecordingLink):
    """Each write fills it."""

    def write(self, payloads: Sequence[bytes]) -> bool:
        self.slow = True
        return super().write(payloads)


def elsewhere(rig: Rig, text: str, user: int = BOB, created: int = 0) -> None:
    """Another node of the same database has accepted this message and turned it offline; nobody tells this one."""
    created = created or rig.now_ms()
    msg_id = (created - rig.settings.profile.epoch) << 22 | 7 << 12
    rules = BusinessRules(rig.store, rig.now_ms)
    rules.apply([Offlined(Message(msg_id, client_id(text), CAROL, user, 1, text, created, created))])


def recorded(function: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    """The same function, and each call is noted."""

    def call(*args: Any) -> Any:
        note(*args)
        return function(*args)

    return call
