"""Sessions that are behind, full, or have missed something; and the watch over them."""

from __future__ import annotations

from itertools import pairwise

from imconnect.core.session import Stage
from tests.core.rig import ALICE, BOB, CAROL, Choking, Rig, recorded, send_frame
from tests.support import TestCase


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
        rig.elsewhere("from another node")
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
        rig.elsewhere("page")
        alice.send(BOB, "young")
        rig.turn()
        bob = rig.sign_in(BOB)
        rig.advance(3.5)
        rig.elsewhere("old", created=long_ago)
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
        rig.elsewhere("from another node")
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
        rig.elsewhere("from another node")
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
        """It has enough to do: a hint does not even ask the store, the watch only whether it is still full."""
        bob = self.rig.sign_in(BOB)
        self.send("1", "2", "3", "4", "5")
        asked: list[int] = []
        self.patch(self.rig.pending, "owed", recorded(self.rig.pending.owed, lambda user, *_: asked.append(user)))
        self.rig.node.backfill.hint(BOB)
        self.rig.turn()
        self.assertEqual(asked, [])
        self.rig.advance(20)
        self.assertEqual((bob.shown.count("5"), bob.session.stage), (0, Stage.FULL))

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
        rig.elsewhere("lost hint")
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
        rig.elsewhere("for the last one", clients[-1].user)
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
        rig.elsewhere("hello")
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
