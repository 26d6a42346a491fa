"""Decide, commit, act: nothing is seen outside before it is durable, and what is seen comes in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from imconnect.backends.outbox_memory import MemoryOutbox
from imconnect.core import pipeline
from imconnect.core.outcome import Outcome
from imconnect.core.pipeline import Pipeline
from imconnect.errors import Unavailable
from imconnect.events.values import Event, Sent
from imconnect.model import Message
from imconnect.observe.metrics import Metrics
from imconnect.wire.client_codec import (
    IdsReply,
    Pushed,
    ReceiptReply,
    SendReply,
    StatesReply,
    encode_get_msg_ids,
    encode_state_query,
)
from tests.core.rig import ALICE, BOB, CAROL, Rig, client_id, send_frame
from tests.support import TestCase


class PromptOutbox(MemoryOutbox):
    """Its Deferreds have fired when it returns them."""

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        if delay:
            super()._later(delay, call)
        else:
            call()


class DurableFirstTests(TestCase):
    """Nothing is acknowledged, pushed or told before it is on disk."""

    def setUp(self) -> None:
        self.rig = Rig(commit_delay=1.0)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def test_send_is_answered_and_pushed_once_it_is_durable(self) -> None:
        """Neither the sender nor the receiver hears of a message that a crash could still lose."""
        self.alice.send(BOB, "hello")
        self.rig.advance(0.9)
        self.assertEqual((self.alice.got, self.bob.got, self.rig.log), ([], [], []))
        self.rig.advance(0.1)
        self.assertEqual((self.alice.accepted, self.bob.shown, self.rig.log), (["hello"], ["hello"], ["sent hello"]))

    def test_receipt_is_told_once_it_is_durable(self) -> None:
        """The sender does not see a tick that a crash could take back."""
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.bob.ack("hello")
        self.rig.advance(0.9)
        self.assertEqual(self.alice.receipts, [])
        self.rig.advance(0.1)
        self.assertEqual(self.alice.receipts, [("hello", 3)])

    def test_ids_are_given_out_once_they_are_reserved(self) -> None:
        """No id leaves that a restart could give out again."""
        self.alice.read(encode_get_msg_ids())
        self.rig.advance(0.9)
        self.assertEqual(self.alice.got, [])
        self.rig.advance(0.1)
        [reply] = self.alice.got
        assert isinstance(reply, IdsReply)
        self.assertEqual(len(set(reply.ids)), 100)

    def test_crash_before_the_commit_forgets_what_nobody_was_promised(self) -> None:
        """A send without an answer may be repeated after a crash, and is one message then."""
        self.alice.send(BOB, "hello")
        self.rig.advance(0.9)
        self.rig.crash()
        alice, bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        self.rig.advance(2)
        self.assertEqual(self.rig.log, [])
        alice.send(BOB, "hello")
        self.rig.advance(1)
        self.assertEqual((alice.accepted, bob.shown, self.rig.log), (["hello"], ["hello"], ["sent hello"]))


class FailedCommitTests(TestCase):
    """The disk takes nothing."""

    def setUp(self) -> None:
        self.rig = Rig(commit_delay=1.0)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def test_send_is_refused(self) -> None:
        """503, msgId 0, and the receiver never sees it."""
        self.rig.outbox.fail_appends = True
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.assertEqual((self.alice.refused, self.alice.replies[0].msg_id), ([("hello", 503)], 0))
        self.rig.outbox.fail_appends = False
        self.rig.advance(400)
        self.assertEqual((self.bob.shown, self.rig.stored), ([], {}))
        self.assertEqual(self.rig.metrics.sends_refused["unavailable"], 1)

    def test_repeat_of_what_is_not_durable_shares_its_refusal(self) -> None:
        """Also when its own batch goes through: there is no message that it could be a repeat of."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.alice.send(BOB, "hello")
        self.rig.outbox.fail_appends = True
        self.rig.advance(1)
        self.assertEqual(self.alice.refused, [("hello", 503), ("hello", 503)])
        self.assertEqual(self.rig.metrics.sends_duplicate, 0)

    def test_repeat_in_a_batch_that_fails_is_answered_when_the_first_is_durable(self) -> None:
        """The first message is accepted, whatever becomes of the batch that carries the repeat."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.alice.read(send_frame(BOB, "hello"), send_frame(BOB, "other"))
        self.rig.advance(1)
        self.rig.outbox.fail_appends = True
        self.rig.advance(1)
        self.assertEqual((self.alice.accepted, self.alice.refused), (["hello", "hello"], [("other", 503)]))
        self.assertEqual(self.alice.replies[0].msg_id, self.alice.replies[1].msg_id)

    def test_refused_send_may_be_sent_again(self) -> None:
        """The same clientMsgId is a new message then, also with another content."""
        self.rig.outbox.fail_appends = True
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.rig.outbox.fail_appends = False
        self.alice.send(BOB, "hello again", client_id("hello"))
        self.rig.advance(1)
        self.assertEqual((self.alice.accepted, self.bob.shown), (["hello"], ["hello again"]))

    def test_ack_is_dropped_and_asked_for_again(self) -> None:
        """Nobody was told, so the next push gives the receiver the occasion."""
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.rig.outbox.fail_appends = True
        self.bob.ack("hello")
        self.rig.advance(1)
        self.rig.outbox.fail_appends = False
        self.assertEqual(self.alice.receipts, [])
        self.rig.advance(9.5)
        self.assertEqual(self.bob.shown, ["hello", "hello"])
        self.bob.ack("hello")
        self.rig.advance(1)
        self.assertEqual(self.alice.receipts, [("hello", 3)])

    def test_withdrawal_is_refused(self) -> None:
        """The sender is told that it did not work, and the message stays."""
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.rig.outbox.fail_appends = True
        self.alice.withdraw("hello")
        self.rig.advance(1)
        self.assertEqual((self.alice.withdrawals, self.bob.notices), ([("hello", 503)], []))
        self.assertEqual(self.rig.metrics.sends_refused["unavailable"], 0)

    def test_ids_are_refused(self) -> None:
        """A batch that cannot be written gives no ids."""
        self.rig.outbox.fail_appends = True
        self.alice.read(encode_get_msg_ids(), send_frame(BOB, "hello"))
        self.rig.advance(2)
        self.assertEqual([getattr(reply, "code", None) for reply in self.alice.got], [503, 503])

    def test_offlining_stays_due(self) -> None:
        """The receiver is away and the disk is full: the message is turned offline when it can be, once."""
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.rig.outbox.fail_appends = True
        self.bob.leave()
        self.rig.advance(10)
        self.assertEqual((self.rig.log, self.rig.metrics.offline), (["sent hello"], {}))
        self.rig.outbox.fail_appends = False
        self.rig.advance(60)
        self.assertEqual((self.rig.log, self.rig.node.delivery.due), (["sent hello", "offline hello"], 0))
        self.assertEqual(sum(self.rig.metrics.offline.values()), 1)

    def test_offlining_that_is_due_is_not_needed_after_an_ack(self) -> None:
        """He came back and acknowledged it meanwhile."""
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.rig.outbox.fail_appends = True
        self.bob.leave()
        self.rig.advance(1.5)
        self.rig.outbox.fail_appends = False
        bob = self.rig.sign_in(BOB)
        self.rig.outbox.fail_appends = True
        self.rig.advance(2)
        bob.ack("hello")
        self.rig.turn()
        self.rig.outbox.fail_appends = False
        self.rig.advance(60)
        self.assertIn("ack 3 hello", self.rig.log)
        self.assertLessEqual(self.rig.log.count("offline hello"), 1)

    def test_log_that_takes_writes_again_is_noticed_without_a_send(self) -> None:
        """A probe finds out, so that nobody's message has to."""
        self.rig.outbox.fail_appends = True
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.assertFalse(self.rig.node.pipeline.healthy)
        self.rig.outbox.fail_appends = False
        self.rig.advance(3)
        self.assertTrue(self.rig.node.pipeline.healthy)

    def test_probe_does_not_forget_the_reserved_ids(self) -> None:
        """A probe writes to the log, but nothing that would let a restart give out an id again."""
        self.alice.read(encode_get_msg_ids())
        self.rig.advance(1)
        [before] = self.alice.got
        self.rig.outbox.fail_appends = True
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.rig.outbox.fail_appends = False
        self.rig.advance(3)
        self.rig.skew_ms -= 3_600_000
        self.rig.crash()
        alice = self.rig.sign_in(ALICE)
        alice.read(encode_get_msg_ids())
        self.rig.advance(1)
        [after] = alice.got
        assert isinstance(before, IdsReply) and isinstance(after, IdsReply)
        self.assertGreater(min(after.ids), max(before.ids))


class SlowDiskTests(TestCase):
    """A commit that takes longer than outbox.commit_timeout."""

    def setUp(self) -> None:
        self.rig = Rig(commit_delay=20.0, commit_timeout=5.0, delays=(500.0,))
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        self.alice.send(BOB, "slow")
        self.rig.advance(4.9)

    def test_sends_are_refused_at_once_and_what_was_taken_stays_safe(self) -> None:
        """The refusal does not wait for the disk; nothing of it was written. Afterwards sends are taken again."""
        self.alice.send(BOB, "waits")
        self.rig.advance(0.2)
        self.assertEqual((self.alice.got, self.rig.node.refusing()), ([], "the outbox is too slow, sends are refused"))
        self.alice.send(BOB, "refused")
        self.alice.send(BOB, "slow")
        self.rig.turn()
        self.assertEqual((self.alice.accepted, self.alice.refused), ([], [("refused", 503)]))
        self.rig.advance(15)
        self.assertEqual((self.alice.accepted, self.bob.shown, self.rig.node.refusing()), (["slow"], ["slow"], ""))
        self.rig.advance(20)
        self.assertEqual((self.alice.accepted, self.bob.shown), (["slow", "waits", "slow"], ["slow", "waits"]))
        self.assertEqual((self.rig.log, self.alice.session.pending), (["sent slow", "sent waits"], 0))

    def test_questions_and_ids_wait_for_it(self) -> None:
        """What depends on the log is not answered around it."""
        self.rig.advance(1)
        self.alice.read(encode_get_msg_ids(), encode_state_query([client_id("slow")]))
        self.rig.advance(10)
        self.assertEqual(self.alice.got, [])
        self.rig.advance(60)
        self.assertEqual([type(one) for one in self.alice.got], [SendReply, IdsReply, StatesReply])


class RepeatTests(TestCase):
    """The same clientMsgId again."""

    def setUp(self) -> None:
        self.rig = Rig(commit_delay=1.0)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def test_repeat_gets_the_same_answer(self) -> None:
        """The same msgId, the receiver sees one message, the log holds one."""
        for _ in range(2):
            self.alice.send(BOB, "hello")
            self.rig.advance(1)
        first, second = self.alice.replies
        self.assertEqual((first, self.bob.shown, self.rig.log), (second, ["hello"], ["sent hello"]))
        self.assertEqual((self.rig.metrics.sends_accepted, self.rig.metrics.sends_duplicate), (1, 1))

    def test_two_copies_in_one_read_are_one_message(self) -> None:
        """A client that writes twice what it is not sure of gets one message and two equal answers."""
        self.alice.read(send_frame(BOB, "hello"), send_frame(BOB, "hello"))
        self.rig.advance(1)
        first, second = self.alice.replies
        self.assertEqual((first, self.bob.shown, self.rig.log), (second, ["hello"], ["sent hello"]))

    def test_repeat_is_not_answered_before_the_first_is_durable(self) -> None:
        """It arrives while the first is being written."""
        self.alice.send(BOB, "hello")
        self.rig.advance(0.5)
        self.alice.send(BOB, "hello")
        self.rig.advance(0.4)
        self.assertEqual(self.alice.replies, [])
        self.rig.advance(0.1)
        self.assertEqual(self.alice.accepted, ["hello", "hello"])

    def test_repeat_after_a_crash_gets_the_same_id(self) -> None:
        """The answer was lost with the process; the log knows it."""
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        [before] = self.alice.replies
        self.rig.crash()
        alice = self.rig.sign_in(ALICE)
        alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual((alice.replies, self.rig.log), ([before], ["sent hello", "offline hello"]))

    def test_other_content_is_a_conflict(self) -> None:
        """409 where text, receiver or format differ, also after a crash; the first message stays as it is."""
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        for _ in range(2):
            self.alice.forget()
            same = client_id("hello")
            self.alice.read(
                send_frame(BOB, "hullo", same), send_frame(CAROL, "hello"), send_frame(BOB, "hello", format=2)
            )
            self.rig.advance(1)
            self.assertEqual(self.alice.refused, [("hello", 409)] * 3)
            self.rig.crash()
            self.rig.advance(2)
            self.alice = self.rig.sign_in(ALICE)
        self.assertEqual(self.rig.stored, {"hello": 2})

    def test_same_client_id_of_another_user_is_another_message(self) -> None:
        """clientMsgIds are the sender's own."""
        carol = self.rig.sign_in(CAROL)
        self.alice.send(BOB, "hello")
        carol.send(BOB, "hello")
        self.rig.advance(1)
        self.assertEqual(self.bob.shown, ["hello", "hello"])
        self.assertNotEqual(self.alice.replies[0].msg_id, carol.replies[0].msg_id)

    def test_window_ends(self) -> None:
        """After limits.dedupe_window a clientMsgId may be used again."""
        rig = Rig(dedupe_window=100.0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "hello")
        rig.advance(102)
        alice.send(BOB, "other", client_id("hello"))
        rig.turn()
        self.assertEqual(alice.accepted, ["hello", "hello"])


class BatchTests(TestCase):
    """Batches form by themselves and act in order."""

    def setUp(self) -> None:
        self.rig = Rig(commit_delay=1.0)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def batches(self) -> list[float]:
        """How many commits there were of how many events, as the metric has them."""
        histogram = self.rig.metrics.commit_events
        return [histogram.count, histogram.sum]

    def test_what_arrives_during_a_commit_is_the_next_batch(self) -> None:
        """The price of a disk write is paid per batch, not per message."""
        self.alice.send(BOB, "one")
        self.rig.advance(0.2)
        for text in ("two", "three", "four"):
            self.alice.send(BOB, text)
            self.rig.advance(0.2)
        self.rig.advance(0.2)
        self.assertEqual((self.bob.shown, self.batches()), (["one"], [1, 1]))
        self.rig.advance(1)
        self.assertEqual((self.bob.shown, self.batches()), (["one", "two", "three", "four"], [2, 4]))

    def test_what_arrives_in_one_turn_is_one_batch(self) -> None:
        """Sends of different people too."""
        self.alice.send(BOB, "one")
        self.bob.send(ALICE, "two")
        self.rig.advance(1)
        self.assertEqual(self.batches(), [1, 2])

    def test_answers_without_events_wait_for_their_turn(self) -> None:
        """A refusal does not overtake the answer to the send before it."""
        self.alice.send(BOB, "one")
        self.rig.turn()
        self.alice.send(BOB, "")
        self.alice.send(BOB, "two")
        self.rig.advance(0.9)
        self.assertEqual(self.alice.got, [])
        self.rig.advance(2)
        self.assertEqual([(reply.status, reply.code) for reply in self.alice.replies], [(1, 0), (-1, 400), (1, 0)])

    def test_only_answers_need_no_disk(self) -> None:
        """A refusal with nothing before it comes at once."""
        self.alice.send(BOB, "")
        self.rig.turn()
        self.assertEqual(self.alice.refused, [("", 400)])

    def test_one_write_per_connection_and_batch(self) -> None:
        """Answers, receipts and pushes of one batch leave together."""
        self.alice.send(BOB, "one")
        self.rig.advance(1)
        self.alice.forget()
        self.alice.read(*(send_frame(BOB, f"{number}") for number in range(20)))
        self.bob.ack("one")
        self.bob.send(ALICE, "you too")
        self.rig.advance(1)
        [write] = self.alice.link.writes
        self.assertEqual(
            [sum(isinstance(one, kind) for one in write) for kind in (SendReply, ReceiptReply, Pushed)], [20, 1, 1]
        )
        self.assertEqual([len(write) for write in self.bob.link.writes], [1, 21])

    def test_outbox_that_answers_at_once(self) -> None:
        """Order and answers are the same where the commit returns before the call does."""
        rig = Rig(outbox=lambda rig: PromptOutbox(rig.clock))
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.read(send_frame(BOB, "one"), send_frame(BOB, ""), send_frame(BOB, "two"), encode_get_msg_ids())
        rig.turn()
        alice.send(BOB, "three")
        rig.turn()
        self.assertEqual(bob.shown, ["one", "two", "three"])
        self.assertEqual([getattr(one, "status", "ids") for one in alice.got], [1, -1, 1, "ids", 1])


class PipelineTests(TestCase):
    """What can be seen only from close by."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.acted: list[str] = []

    def make(self, outbox: Any) -> Pipeline:
        return Pipeline(self.clock, outbox, Metrics(), self.act, self.fail_, 5.0)

    def act(self, batch: Sequence[Outcome], first: int) -> None:
        self.acted += [outcome.reply.decode() for outcome in batch]

    def fail_(self, batch: Sequence[Outcome]) -> None:
        self.acted += [f"not {outcome.reply.decode()}" for outcome in batch]

    def test_flood_is_written_in_pieces(self) -> None:
        """One reactor turn never takes more than a bounded batch; order stays."""
        self.patch(pipeline, "BATCH", 3)
        outbox = PromptOutbox(self.clock)
        self.successResultOf(outbox.open())
        line = self.make(outbox)
        for number in range(8):
            line.put(Outcome(reply=str(number).encode(), events=[] if number in (3, 4, 5) else [sent(number)]))
        self.clock.advance(0)
        self.assertEqual(self.acted, list("01234567"))
        self.assertEqual((line.last, line.events), (5, 0))

    def test_idle_fires_when_everything_has_acted(self) -> None:
        """Drain waits for what was taken in, and for nothing else."""
        outbox = MemoryOutbox(self.clock, 1.0)
        self.successResultOf(outbox.open())
        line = self.make(outbox)
        self.successResultOf(line.idle())
        line.put(Outcome(reply=b"a", events=[sent(1)]))
        idle = line.idle()
        self.clock.advance(0)
        line.put(Outcome(reply=b"b"))
        self.clock.advance(0.9)
        self.assertNoResult(idle)
        self.clock.advance(0.1)
        self.successResultOf(idle)
        self.assertEqual(self.acted, ["a", "b"])

    def test_outbox_that_raises_does_not_stop_the_line(self) -> None:
        """A bug below is logged, refuses its batch, and the next one goes through."""

        class Broken:
            broken = True

            def append(self, events: Sequence[Event]) -> Deferred[int]:
                if self.broken:
                    raise ValueError("a bug")
                return succeed(1)

        outbox = Broken()
        line = self.make(outbox)
        line.put(Outcome(reply=b"a", events=[sent(1)]))
        self.clock.advance(0)
        outbox.broken = False
        line.put(Outcome(reply=b"b", events=[sent(2)]))
        self.clock.advance(0)
        self.assertEqual(self.acted, ["not a", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_act_that_raises_does_not_stop_the_line(self) -> None:
        """A bug in one batch's consequences leaves the next batch alone."""

        def act(batch: Sequence[Outcome], first: int) -> None:
            if batch[0].reply == b"a":
                raise ValueError("a bug")
            self.act(batch, first)

        outbox = PromptOutbox(self.clock)
        self.successResultOf(outbox.open())
        line = Pipeline(self.clock, outbox, Metrics(), act, self.fail_, 5.0)
        self.patch(pipeline, "BATCH", 1)
        line.put(Outcome(reply=b"a", events=[sent(1)]))
        line.put(Outcome(reply=b"b", events=[sent(2)]))
        self.clock.advance(0)
        self.assertEqual(self.acted, ["b"])
        self.successResultOf(line.idle())
        self.assertEqual(line.last, 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_probe_that_fails_leaves_it_unhealthy(self) -> None:
        """The disk is still full."""

        class Full:
            def append(self, events: Sequence[Event]) -> Deferred[int]:
                return fail(Unavailable("full"))

            def reserve(self, until_ms: int) -> Deferred[None]:
                return fail(Unavailable("full"))

        line = self.make(Full())
        line.put(Outcome(reply=b"a", events=[sent(1)]))
        self.clock.advance(0)
        line.probe()
        self.assertFalse(line.healthy)
        self.assertEqual(self.acted, ["not a"])


def sent(number: int) -> Sent:
    return Sent(Message(number, number.to_bytes(16, "big"), ALICE, BOB, 1, "text", 1, 1))
