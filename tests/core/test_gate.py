"""`outbox.ack_after: broker`: nothing is told before the broker has it; what was committed is never refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from imconnect.core.outcome import Outcome
from imconnect.core.pipeline import FAILED
from imconnect.core.ports import Answer, Entry, Producer
from imconnect.errors import Unavailable
from imconnect.events.values import Event, Offlined, Sent
from imconnect.model import Status
from imconnect.wire.client_codec import (
    IdsReply,
    SendReply,
    StatesReply,
    encode_get_msg_ids,
    encode_state_query,
)
from tests.core.rig import ALICE, BOB, CAROL, Rig, client_id, send_frame
from tests.core.test_nodes import NodesTestCase
from tests.support import TestCase

#: `rocketmq.producer.send_timeout` here, seconds.
TIMEOUT = 10.0


class Broker:
    """A queue with two lanes, by the receiver's parity: `core.ports.Producer`."""

    def __init__(self, rig: Rig) -> None:
        self.stored: list[Event] = []
        self.dead: set[int] = set()
        #: Texts that are refused for good.
        self.poison: set[str] = set()

    def open(self) -> Deferred[None]:
        return succeed(None)

    def lane(self, event: Event) -> int:
        return event.message.receiver % 2 if isinstance(event, Sent | Offlined) else 0

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        if lane in self.dead:
            return fail(Unavailable(f"queue {lane} is dead"))
        answers = []
        for number, event in entries:
            if isinstance(event, Sent) and event.message.content in self.poison:
                answers.append(Answer(number, False, "too large"))
            else:
                self.stored.append(event)
                answers.append(Answer(number, True))
        return succeed(answers)

    def close(self) -> Deferred[None]:
        return succeed(None)


class BrokerAwayTestCase(TestCase):
    """Alice and Bob on a node whose broker does not answer until it is told to (`business.go_on`)."""

    def setUp(self) -> None:
        self.rig = Rig(ack_after_broker=True, broker_timeout=TIMEOUT, delays=(50.0,))
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def away(self) -> None:
        self.rig.business.held = True

    def back(self) -> None:
        self.rig.business.go_on()
        self.rig.advance(1)


class WaitingTests(BrokerAwayTestCase):
    """Replies, pushes and receipts wait for the broker, in the order of the batches."""

    def test_send_is_answered_and_pushed_when_the_broker_has_it(self) -> None:
        """Durable here is not enough; the answer comes however late."""
        self.away()
        self.alice.send(BOB, "hello")
        self.rig.advance(60)
        self.assertEqual((self.rig.log, self.alice.got, self.bob.got), (["sent hello"], [], []))
        gate = self.rig.node.gate
        assert gate is not None
        self.assertEqual((self.rig.metrics.sends_accepted, gate.waiting), (0, 1))
        self.back()
        self.assertEqual(gate.waiting, 0)
        self.assertEqual((self.alice.accepted, self.bob.shown), (["hello"], ["hello"]))
        self.assertEqual(self.rig.metrics.sends_accepted, 1)

    def test_receipt_and_withdrawal_wait(self) -> None:
        """Nobody is told of an end that only this machine knows."""
        for text in ("one", "two"):
            self.alice.send(BOB, text)
        self.rig.advance(1)
        self.away()
        self.bob.ack("one")
        self.rig.turn()
        self.alice.withdraw("two")
        self.rig.advance(1)
        self.assertEqual((self.alice.receipts, self.alice.withdrawals), ([], []))
        self.back()
        self.assertEqual((self.alice.receipts, self.alice.withdrawals), ([("one", 3)], [("two", 0)]))

    def test_ack_that_is_given_again_meanwhile_is_told_once(self) -> None:
        """The retry clock runs; two events, one receipt."""
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.away()
        self.bob.ack("hello")
        self.rig.advance(56)
        self.assertEqual(self.bob.shown, ["hello", "hello"])
        self.bob.ack("hello")
        self.rig.advance(1)
        self.back()
        self.assertEqual(self.alice.receipts, [("hello", 3)])
        self.rig.advance(400)
        self.assertEqual((self.bob.shown, self.rig.stored), (["hello", "hello"], {"hello": 3}))

    def test_absent_receiver_is_turned_offline_when_the_broker_has_it(self) -> None:
        """And finds it at his next login."""
        self.bob.leave()
        self.away()
        self.alice.send(BOB, "hello")
        self.rig.advance(60)
        self.assertEqual(self.rig.log, ["sent hello"])
        self.back()
        self.assertEqual((self.rig.log, self.alice.accepted), (["sent hello", "offline hello"], ["hello"]))
        self.assertEqual(self.rig.sign_in(BOB).shown, ["hello"])

    def test_repeat_waits_with_its_original(self) -> None:
        """Same answer, same moment, one message. Once that is told, a repeat is answered at once, broker or not."""
        self.away()
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.alice.send(BOB, "hello")
        self.rig.advance(60)
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.assertEqual((self.alice.got, self.rig.log), ([], ["sent hello"]))
        self.back()
        self.assertEqual((self.alice.accepted, len({reply.msg_id for reply in self.alice.replies})), (["hello"] * 3, 1))
        self.assertEqual(self.bob.shown, ["hello"])
        self.away()
        self.alice.send(BOB, "other")
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual(self.alice.accepted, ["hello"] * 4)

    def test_question_for_states_waits_for_what_was_sent_before(self) -> None:
        """'Stored' is not said of what only this machine has, and 'unknown' not of what was committed."""
        self.away()
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.alice.read(encode_state_query([client_id("hello")]))
        self.rig.advance(1)
        self.assertEqual(self.alice.got, [])
        self.back()
        [states] = [one for one in self.alice.got if isinstance(one, StatesReply)]
        self.assertEqual([state.state for state in states.states], [Status.STORED])

    def test_what_depends_on_no_event_does_not_wait(self) -> None:
        """A mistake is told and ids are given out while the broker is away."""
        self.away()
        self.alice.read(send_frame(BOB, "hello"), send_frame(BOB, ""), encode_get_msg_ids())
        self.rig.advance(1)
        refusal, ids = self.alice.got
        assert isinstance(refusal, SendReply) and isinstance(ids, IdsReply)
        self.assertEqual((refusal.code, len(ids.ids)), (400, 100))

    def test_waiting_for_the_broker_does_not_pause_reading(self) -> None:
        """limits.pending_commands counts what waits for its commit: his own outage must not look like silence."""
        rig = Rig(ack_after_broker=True, pending_commands=3)
        alice = rig.sign_in(ALICE)
        rig.business.held = True
        alice.read(*(send_frame(BOB, f"{number}") for number in range(9)))
        self.assertTrue(alice.link.paused)
        rig.turn()
        self.assertEqual((alice.link.paused, alice.session.pending, alice.got), (False, 0, []))

    def test_stop_does_not_wait_for_a_broker_that_is_away(self) -> None:
        """What was committed is the next process's."""
        self.away()
        self.alice.send(BOB, "hello")
        self.rig.turn()
        drained = Deferred.fromCoroutine(self.rig.node.drain())
        self.rig.advance(2)
        self.successResultOf(drained)


class DoorTests(BrokerAwayTestCase):
    """While the broker takes nothing, sends are refused before they are committed."""

    def setUp(self) -> None:
        super().setUp()
        self.alice.send(BOB, "before")
        self.rig.advance(1)
        self.away()

    def test_refused_after_the_timeout_and_only_then(self) -> None:
        """Told at once, not in the log; what was committed before is answered when the broker is back."""
        self.alice.send(BOB, "committed")
        self.rig.advance(TIMEOUT - 0.1)
        self.alice.send(BOB, "in time")
        self.rig.advance(0.2)
        self.alice.send(BOB, "refused")
        self.rig.turn()
        self.assertEqual((self.alice.accepted, self.alice.refused), (["before"], [("refused", 503)]))
        self.assertEqual(self.rig.log, ["sent before", "sent committed", "sent in time"])
        self.assertEqual(self.rig.metrics.sends_refused["unavailable"], 1)
        self.assertIn("broker", self.rig.node.refusing())
        self.back()
        self.assertEqual(self.alice.accepted, ["before", "committed", "in time"])
        self.assertEqual((self.bob.shown, self.rig.node.refusing()), (["before", "committed", "in time"], ""))
        self.alice.send(BOB, "refused")
        self.rig.advance(1)
        self.assertEqual(self.bob.shown[3:], ["refused"])

    def test_quiet_hours_are_not_an_outage(self) -> None:
        """Nothing waits, so nobody can know: the first send is taken, and the clock runs from there."""
        self.rig.business.go_on()
        self.bob.ack("before")
        self.rig.advance(1)
        self.away()
        self.rig.advance(3600)
        self.alice.send(BOB, "first")
        self.rig.advance(TIMEOUT - 0.1)
        self.assertEqual((self.rig.node.refusing(), self.alice.refused), ("", []))
        self.rig.advance(0.2)
        self.assertNotEqual(self.rig.node.refusing(), "")

    def test_repeats_and_ends_are_taken_while_sends_are_refused(self) -> None:
        """What was committed is never refused, and an ACK is worth its place."""
        self.alice.send(BOB, "committed")
        self.rig.advance(60)
        self.alice.send(BOB, "committed")
        self.bob.ack("before")
        self.rig.turn()
        self.assertEqual(self.alice.refused, [])
        self.back()
        self.assertEqual(self.alice.accepted, ["before", "committed", "committed"])
        self.assertEqual(self.alice.receipts, [("before", 3)])


class FailedCommitTests(TestCase):
    """The disk takes nothing while earlier batches wait for the broker."""

    def test_refused_at_once_but_not_the_repeat_of_what_waits(self) -> None:
        """The repeat shares its original's fate, not that of the batch it came in."""
        rig = Rig(ack_after_broker=True, commit_delay=1.0)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        rig.business.held = True
        alice.send(BOB, "waits")
        rig.advance(1)
        rig.outbox.fail_appends = True
        alice.read(send_frame(BOB, "waits"), send_frame(BOB, "lost"))
        rig.advance(1)
        self.assertEqual((alice.accepted, alice.refused), ([], [("lost", 503)]))
        rig.outbox.fail_appends = False
        rig.business.go_on()
        rig.advance(3)
        self.assertEqual((alice.accepted, bob.shown), (["waits", "waits"], ["waits"]))


class AfterTests(BrokerAwayTestCase):
    """What other nodes must know before people here are told, such as the claims of what was sent."""

    def setUp(self) -> None:
        super().setUp()
        self.told: list[tuple[int, int]] = []
        self.answers: list[Deferred[None]] = []
        gate = self.rig.node.gate
        assert gate is not None
        gate.after.append(self.after)

    def after(self, batch: Sequence[Outcome], first: int) -> Deferred[None]:
        self.told.append((sum(len(outcome.events) for outcome in batch), first))
        self.answers.append(Deferred())
        return self.answers[-1]

    def test_told_when_the_broker_has_it_and_batches_still_act_in_order(self) -> None:
        """A claim is settled only when its message is as safe as was asked for."""
        self.away()
        for text in ("one", "two"):
            self.alice.send(BOB, text)
            self.rig.turn()
        self.assertEqual(self.told, [])
        self.back()
        self.assertEqual(self.told, [(1, 1), (1, 2)])
        self.answers[1].callback(None)
        self.assertEqual(self.alice.accepted, [])
        self.answers[0].callback(None)
        self.assertEqual((self.alice.accepted, self.bob.shown), (["one", "two"], ["one", "two"]))

    def test_told_at_once_of_what_was_not_committed(self) -> None:
        """And the refusal waits for nobody."""
        self.rig.outbox.fail_appends = True
        self.alice.send(BOB, "refused")
        self.rig.turn()
        self.assertEqual((self.told, self.alice.refused), ([(1, FAILED)], [("refused", 503)]))


class NeighbourTests(NodesTestCase):
    """A repeat through another node."""

    def node(self, number: int, neighbour: Rig | None = None, **settings: Any) -> Rig:
        return super().node(number, neighbour, ack_after_broker=True, **settings)

    def test_waits_for_the_broker_as_well(self) -> None:
        """The first node's claim is not settled before its broker has the message, so nobody is answered from it."""
        alice, _ = self.meet()
        for rig in (self.one, self.two):
            rig.business.held = True
        alice.send(BOB, "hello")
        self.settle()
        other = self.two.sign_in(ALICE)
        other.send(BOB, "hello")
        self.settle()
        self.assertEqual((alice.accepted, other.accepted), ([], []))
        for rig in (self.one, self.two):
            rig.business.go_on()
        self.settle()
        self.assertEqual((alice.accepted, other.accepted), (["hello"], ["hello"]))
        self.assertEqual(alice.replies[0].msg_id, other.replies[0].msg_id)


class CrashTests(BrokerAwayTestCase):
    """The process dies while what was committed waits for the broker."""

    def setUp(self) -> None:
        super().setUp()
        self.away()
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.rig.crash()
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def test_it_is_shown_and_a_repeat_answered_when_the_broker_has_it(self) -> None:
        """Until then nothing is known of it outside; then it comes without a second login, once."""
        self.alice.send(BOB, "hello")
        self.rig.advance(1)
        self.assertEqual((self.alice.got, self.bob.got), ([], []))
        self.back()
        self.assertEqual((self.alice.accepted, self.bob.shown, self.rig.stored), (["hello"], ["hello"], {"hello": 2}))

    def test_it_is_shown_before_what_was_sent_after_it(self) -> None:
        """Order is kept over the crash."""
        self.alice.send(BOB, "later")
        self.rig.advance(1)
        self.back()
        self.assertEqual(self.bob.shown, ["hello", "later"])


class LaggingBusinessTests(TestCase):
    """The same where business is not there to hint at anything."""

    def test_it_is_shown_before_what_was_sent_after_it(self) -> None:
        """When the broker has it, whoever is here is shown it, from the node's own memory."""
        dead = {0, 1}

        def broker(rig: Rig) -> Producer:
            made = Broker(rig)
            made.dead = dead
            return made

        rig = Rig(ack_after_broker=True, producer=broker, delays=(50.0,))
        rig.sign_in(ALICE).send(BOB, "hello")
        rig.advance(1)
        rig.crash()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "later")
        rig.advance(1)
        self.assertEqual(bob.shown, [])
        dead.clear()
        rig.advance(6)
        self.assertEqual((bob.shown, alice.accepted), (["hello", "later"], ["later"]))


class LaneTests(TestCase):
    """Two queues, of which one is dead."""

    def setUp(self) -> None:
        self.rig = Rig(ack_after_broker=True, broker_timeout=TIMEOUT, producer=Broker, delays=(50.0,))
        broker: Producer = self.rig.node.relay._producer
        assert isinstance(broker, Broker)
        self.broker = broker
        self.alice, self.bob, self.carol = (self.rig.sign_in(user) for user in (ALICE, BOB, CAROL))

    def test_batches_act_in_order(self) -> None:
        """A later batch that the broker has waits for an earlier one that it has not; then nothing more is taken."""
        self.broker.dead = {CAROL % 2}
        self.alice.send(CAROL, "stuck")
        self.rig.turn()
        self.alice.send(BOB, "stored")
        self.rig.advance(TIMEOUT)
        self.assertEqual([event.message.content for event in self.broker.stored if isinstance(event, Sent)], ["stored"])
        self.assertEqual((self.alice.got, self.bob.got), ([], []))
        self.alice.send(BOB, "refused")
        self.rig.turn()
        self.assertEqual(self.alice.refused, [("refused", 503)])
        self.broker.dead = set()
        self.rig.advance(6)
        self.assertEqual(
            (self.alice.accepted, self.carol.shown, self.bob.shown), (["stuck", "stored"], ["stuck"], ["stored"])
        )

    def test_what_the_broker_refuses_for_good_counts_as_settled(self) -> None:
        """It is parked, its sender is told that it was accepted, its receiver gets it, and nobody waits for it."""
        self.broker.poison = {"poison"}
        self.alice.send(BOB, "poison")
        self.rig.turn()
        self.alice.send(BOB, "fine")
        self.rig.advance(1)
        self.assertEqual((self.alice.accepted, self.bob.shown), (["poison", "fine"], ["poison", "fine"]))
        self.assertEqual(self.rig.node.relay.parked, 1)
