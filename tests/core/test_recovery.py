"""kill -9 and a new start; and what the node tidies up while it runs."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from imconnect.core import recovery
from imconnect.core.node import Node
from imconnect.errors import Unavailable
from imconnect.wire.client_codec import IdsReply, encode_get_msg_ids
from tests.core.rig import ALICE, BOB, CAROL, Rig, client_id, send_frame
from tests.support import TestCase


class RestartTests(TestCase):
    """Every accepted message ends in an ACK, a withdrawal or an OFFLINE event, also after a crash."""

    def setUp(self) -> None:
        self.rig = Rig(commit_delay=0.1)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def send(self, *texts: str) -> None:
        self.alice.read(*(send_frame(BOB, text) for text in texts))
        self.rig.advance(0.2)

    def test_open_messages_are_turned_offline_in_order(self) -> None:
        """What was acknowledged, withdrawn or offline already is left alone."""
        self.send("one", "two", "three", "four", "five")
        self.bob.ack("two")
        self.alice.withdraw("four")
        self.rig.advance(0.2)
        before = len(self.rig.log)
        self.rig.crash()
        self.assertEqual(self.rig.log[before:], ["offline one", "offline three", "offline five"])
        self.rig.crash()
        self.assertEqual(len(self.rig.log), before + 3)
        self.assertEqual(self.rig.metrics.offline["restart"], 0)

    def test_many_open_messages_take_several_batches(self) -> None:
        """In order all the same, each once."""
        self.patch(recovery, "BATCH", 2)
        self.send("1", "2", "3", "4", "5")
        self.rig.crash()
        self.assertEqual(self.rig.log[5:], [f"offline {number}" for number in range(1, 6)])
        self.assertEqual([row.number for row in self.rig.node.recent], [1, 2, 3, 4, 5])
        self.assertEqual(self.rig.node.pipeline.last, 10)

    def test_receiver_who_signs_in_at_once_sees_everything_once(self) -> None:
        """Business has not even begun to read; nothing is pushed twice when it has."""
        self.rig.business.held = True
        self.send("one", "two")
        self.rig.crash()
        bob = self.rig.sign_in(BOB)
        self.rig.turn()
        self.assertEqual(bob.shown, ["one", "two"])
        self.rig.business.go_on()
        self.rig.advance(3)
        self.assertEqual((bob.shown, self.rig.owed(BOB)), (["one", "two"], ["one", "two"]))

    def test_recovery_comes_before_everything_else(self) -> None:
        """The offlinings of the old life are in the log before the first event of the new one."""
        self.send("old")
        self.rig.crash()
        alice = self.rig.sign_in(ALICE)
        alice.send(BOB, "new")
        self.rig.advance(0.5)
        self.assertEqual(self.rig.log, ["sent old", "offline old", "sent new", "offline new"])

    def test_ack_of_a_message_of_the_old_life(self) -> None:
        """The receiver shows it still and acknowledges it now; the sender gets his tick."""
        self.send("hello")
        self.rig.crash()
        alice, bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        bob.ack("hello")
        self.rig.advance(0.2)
        self.assertEqual((alice.receipts, self.rig.owed(BOB)), ([("hello", 3)], []))

    def test_receipt_is_not_told_again_after_a_crash(self) -> None:
        """The same ACK repeated in the next life is a repeat."""
        self.send("hello")
        self.bob.ack("hello")
        self.rig.advance(0.2)
        self.rig.crash()
        alice, bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        bob.ack("hello")
        bob.ack("hello", 4)
        self.rig.advance(0.2)
        self.assertEqual(alice.receipts, [("hello", 4)])

    def test_crash_while_recovering(self) -> None:
        """A start that is killed is started again."""
        self.send("one", "two")
        self.rig.outbox = self.rig.outbox.restart()
        self.rig._begin()
        self.rig.crash()
        self.assertEqual(self.rig.log, ["sent one", "sent two", "offline one", "offline two"])

    def test_disk_that_is_full_at_the_start_stops_it(self) -> None:
        """No listener opens over messages that nobody would ever be shown."""
        self.send("one")
        self.rig.outbox = self.rig.outbox.restart()
        self.rig.outbox.fail_appends = True
        self.rig._begin()
        self.rig.advance(1)
        self.failureResultOf(self.rig.recovery, Unavailable)

    def test_crash_between_business_and_the_position(self) -> None:
        """Business gets the same events again and keeps one of each."""
        self.send("one", "two")
        self.bob.ack("one", 4)
        self.rig.advance(0.15)
        self.rig.crash()
        self.rig.advance(1)
        self.assertEqual(self.rig.stored, {"one": 4, "two": 2})
        self.assertEqual(self.rig.owed(BOB), ["two"])


class IdTests(TestCase):
    """An id is never given out twice."""

    def ids(self, rig: Rig) -> tuple[int, ...]:
        alice = rig.sign_in(ALICE)
        alice.read(encode_get_msg_ids())
        rig.turn()
        [reply] = alice.got
        assert isinstance(reply, IdsReply)
        return reply.ids

    def test_clock_that_steps_back_over_a_restart(self) -> None:
        """Batch ids of the next life lie above those of the last, though the clock is an hour behind."""
        rig = Rig()
        before = self.ids(rig)
        rig.skew_ms -= 3_600_000
        rig.crash()
        after = self.ids(rig)
        self.assertGreater(min(after), max(before))

    def test_messages_too(self) -> None:
        """The log knows their ids without any reservation."""
        rig = Rig()
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "before")
        rig.turn()
        rig.skew_ms -= 3_600_000
        rig.crash()
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "after")
        rig.turn()
        self.assertGreater(rig.id_of("after"), rig.id_of("before"))

    def test_ids_that_have_left_the_log(self) -> None:
        """What was accepted and forgotten was reserved before."""
        rig = Rig(dedupe_window=5.0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "before")
        rig.turn()
        msg_id = rig.id_of("before")
        rig.advance(30)
        self.assertEqual(rig.log, [])
        rig.skew_ms -= 3_600_000
        rig.crash()
        self.assertGreater(min(self.ids(rig)), msg_id)

    def test_smaller_reservation_does_not_undo_a_larger_one(self) -> None:
        """A batch that waited for the disk reserves less than the node has done meanwhile."""
        rig = Rig(commit_delay=3.0, dedupe_window=5.0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "first")
        rig.advance(8.9)
        alice.send(BOB, "second")
        rig.turn()
        alice.read(encode_get_msg_ids())
        rig.advance(0.05)
        alice.send(BOB, "third")
        rig.advance(20)
        third = rig.id_of("third")
        rig.advance(5)
        rig.skew_ms -= 3_600_000
        rig.crash()
        alice = rig.sign_in(ALICE)
        alice.read(encode_get_msg_ids())
        rig.advance(4)
        [reply] = [one for one in alice.got if isinstance(one, IdsReply)]
        self.assertGreater(min(reply.ids), third)

    def test_reservation_that_fails_is_tried_again(self) -> None:
        """A full disk for a moment does not leave ids unreserved for good."""
        rig = Rig(dedupe_window=2.0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "before")
        rig.turn()
        msg_id = rig.id_of("before")
        reserve = rig.outbox.reserve
        failing = [True]

        def sometimes(until_ms: int) -> Deferred[None]:
            if failing:
                failing.pop()
                return Deferred.fromCoroutine(unavailable())
            return reserve(until_ms)

        async def unavailable() -> None:
            raise Unavailable("full")

        self.patch(rig.outbox, "reserve", sometimes)
        rig.advance(40)
        self.assertEqual(failing, [])
        rig.skew_ms -= 3_600_000
        rig.crash()
        self.assertGreater(min(self.ids(rig)), msg_id)


class ForgettingTests(TestCase):
    """recent and the log are bounded."""

    def test_oldest_rows_leave_recent_and_the_log(self) -> None:
        """limits.recent_rows; what is relayed and out of recent leaves the log, the rest is found after a crash."""
        rig = Rig(recent_rows=2)
        alice = rig.sign_in(ALICE)
        for text in ("one", "two", "three"):
            alice.send(BOB, text)
            rig.turn()
        rig.advance(2)
        self.assertEqual(len(rig.node.recent), 2)
        self.assertEqual(rig.log, ["sent two", "offline two", "sent three", "offline three"])
        rig.crash()
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "other", client_id("two"))
        alice.send(BOB, "other", client_id("one"))
        rig.turn()
        self.assertEqual((alice.refused, alice.accepted), ([("two", 409)], ["one"]))

    def test_dedupe_window_ends_rows_too(self) -> None:
        """And says how far back it really reaches."""
        rig = Rig(dedupe_window=60.0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "old")
        rig.advance(40)
        self.assertEqual(rig.node.recent.window_seconds(), 40)
        alice.send(BOB, "young")
        rig.advance(22)
        self.assertEqual((len(rig.node.recent), rig.node.recent.window_seconds()), (1, 22))
        rig.advance(60)
        self.assertEqual((len(rig.node.recent), rig.log, rig.node.recent.window_seconds()), (0, [], 0.0))

    def test_open_message_is_never_forgotten(self) -> None:
        """However small the bounds: a crash must find it."""
        rig = Rig(recent_rows=1, dedupe_window=1.0, business_lag=1.0, delays=(500.0,))
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        for text in ("one", "two", "three"):
            alice.send(BOB, text)
        rig.turn()
        rig.advance(60)
        self.assertEqual(len(rig.node.recent), 3)
        bob.ack("two")
        rig.turn()
        rig.crash()
        self.assertEqual(rig.log[-2:], ["offline one", "offline three"])

    def test_what_the_queue_has_not_taken_stays_in_the_log(self) -> None:
        """Whatever recent has forgotten."""
        rig = Rig(recent_rows=1, dedupe_window=1.0)
        alice = rig.sign_in(ALICE)
        rig.business.held = True
        for text in ("one", "two", "three"):
            alice.send(BOB, text)
        rig.advance(60)
        self.assertEqual(len(rig.node.recent), 0)
        self.assertEqual(rig.log[:3], ["sent one", "sent two", "sent three"])
        rig.crash()
        rig.business.go_on()
        rig.advance(1)
        self.assertEqual(rig.stored, {"one": 2, "two": 2, "three": 2})

    def test_memory_is_given_back(self) -> None:
        """After everything has ended and aged nothing is left in any index."""
        rig = Rig(dedupe_window=10.0, business_lag=5.0)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        for number in range(20):
            alice.send(BOB, f"{number}")
            alice.send(CAROL, f"for carol {number}")
        rig.turn()
        for number in range(20):
            bob.ack(f"{number}")
        bob.ack(((rig.now_ms() - rig.settings.profile.epoch) << 22) - 1)
        rig.advance(30)
        recent = rig.node.recent
        self.assertEqual((recent._by_id, recent._by_client, recent._owed), ({}, {}, {}))
        self.assertEqual((len(recent._order), len(recent._contents), len(rig.node.resend)), (0, 0, 0))


class DrainTests(TestCase):
    """A stop asks everybody to leave."""

    def people(self, rig: Rig, count: int) -> list[int | None]:
        self.clients = [rig.sign_in(5000 + number) for number in range(count)]
        return [client.link.closed for client in self.clients]

    def left(self) -> int:
        return sum(client.link.closed == 4005 for client in self.clients)

    def test_clients_are_told_at_the_rate(self) -> None:
        """drain.rate per second, with a jittered hint when to come back."""
        rig = Rig(drain_rate=10.0, drain_deadline=100.0)
        self.people(rig, 30)
        drained = Deferred.fromCoroutine(rig.node.drain())
        rig.advance(1)
        self.assertIn(self.left(), range(9, 13))
        rig.advance(2.1)
        self.assertEqual(self.left(), 30)
        self.successResultOf(drained)
        for client in self.clients:
            self.assertRegex(client.link.reason, r"^leaving; retry_after_ms=\d+$")
            self.assertIn(int(client.link.reason.split("=")[1]), range(500, 2001))

    def test_everybody_is_told_before_the_deadline(self) -> None:
        """The rate rises as needed."""
        rig = Rig(drain_rate=1.0, drain_deadline=10.0)
        self.people(rig, 100)
        drained = Deferred.fromCoroutine(rig.node.drain())
        rig.advance(4)
        self.assertLess(self.left(), 100)
        rig.advance(5)
        self.assertEqual(self.left(), 100)
        self.successResultOf(drained)

    def test_unacknowledged_messages_are_offline_before_it_ends(self) -> None:
        """Each one's as he is told; the drain waits until they are on disk."""
        rig = Rig(commit_delay=1.0)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.advance(1)
        alice.send(BOB, "just now")
        drained = Deferred.fromCoroutine(rig.node.drain())
        rig.advance(0.5)
        self.assertNoResult(drained)
        rig.advance(3)
        self.successResultOf(drained)
        self.assertEqual(rig.log, ["sent hello", "sent just now", "offline hello", "offline just now"])
        self.assertEqual(bob.link.closed, 4005)

    def test_frames_of_those_who_were_told_are_not_taken(self) -> None:
        """They have left; what they send has no answer and is not accepted."""
        rig = Rig()
        alice = rig.sign_in(ALICE)
        drained = Deferred.fromCoroutine(rig.node.drain())
        rig.advance(1)
        self.successResultOf(drained)
        alice.send(BOB, "late")
        rig.turn()
        self.assertEqual((alice.got, rig.log), ([], []))

    def test_nobody_there(self) -> None:
        """An empty node is drained at once."""
        self.successResultOf(Deferred.fromCoroutine(Rig().node.drain()))

    def test_stop_closes_the_log_and_leaves_nothing_running(self) -> None:
        """What the queue has not taken stays for the next start."""
        rig = Rig()
        alice = rig.sign_in(ALICE)
        rig.business.held = True
        alice.send(BOB, "hello")
        rig.turn()
        self.successResultOf(Deferred.fromCoroutine(self.stopped(rig.node)))
        rig.advance(20)
        self.assertEqual(rig.clock.getDelayedCalls(), [])
        rig.crash()
        rig.business.go_on()
        rig.advance(1)
        self.assertEqual(rig.stored, {"hello": 2})

    async def stopped(self, node: Node) -> None:
        await node.stop()


class BackgroundTests(TestCase):
    """What runs beside the messages does not stop in silence."""

    def test_round_that_fails_is_logged_and_the_next_one_runs(self) -> None:
        """A bug in the retries costs one round, not the retries."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.advance(1)
        due = rig.node.resend.due
        rounds = [0]

        def sometimes(now: float) -> object:
            rounds[0] += 1
            if rounds[0] == 2:
                raise ValueError("a bug")
            return due(now)

        self.patch(rig.node.resend, "due", sometimes)
        rig.advance(5)
        self.assertEqual(bob.shown, ["hello", "hello"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_watch_that_fails_is_logged_and_the_next_one_runs(self) -> None:
        """A bug in one question to the store."""
        rig = Rig()
        rig.sign_in(BOB)
        asked: list[int] = []

        def broken(*_: object) -> None:
            asked.append(1)
            raise ValueError("a bug")

        self.patch(rig.pending, "overdue", broken)
        rig.advance(11)
        self.assertEqual(len(asked), 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
