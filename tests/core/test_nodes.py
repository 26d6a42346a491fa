"""Two nodes, one user on each, or on both: they talk as if there were one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail

from imconnect.backends.peer_memory import Doors, MemoryPeer
from imconnect.backends.presence_memory import MemoryPresence, Registry
from imconnect.backends.sent_memory import Index, MemorySentIndex
from imconnect.core.forward import DEADLINE, DOWN
from imconnect.core.others import Between
from imconnect.errors import Unavailable
from imconnect.model import Applied, Parcel, Receipt, Status, Withdrawal
from tests.core.rig import ALICE, BOB, CAROL, Client, Rig
from tests.support import TestCase


class Way(MemoryPeer):
    """Between the nodes: can be cut, and can lose answers."""

    def __init__(self, doors: Doors) -> None:
        super().__init__(doors)
        self.cut = False
        self.deaf = False
        self.parcels: list[Parcel] = []

    def hand(self, node: int, parcel: Parcel) -> Deferred[Sequence[bool]]:
        if self.cut:
            return fail(Unavailable("cut"))
        self.parcels.append(parcel)
        handed = super().hand(node, parcel)
        return Deferred() if self.deaf else handed


class NodesTestCase(TestCase):
    """Alice is on the first node, Bob on the second."""

    def setUp(self) -> None:
        super().setUp()
        self.registry, self.index = Registry(), Index()
        self.doors: dict[int, Callable[[Parcel], Sequence[bool]]] = {}
        self.ways: dict[int, Way] = {}
        self.presences: dict[int, MemoryPresence] = {}
        self.one = self.node(1)
        self.two = self.node(2, self.one)

    def node(self, number: int, neighbour: Rig | None = None, **settings: Any) -> Rig:
        presence = self.presences[number] = MemoryPresence(self.registry, number)
        way = self.ways[number] = Way(self.doors)
        between = Between(presence=presence, peer=way, index=MemorySentIndex(self.index))
        rig = Rig(node_id=number, neighbour=neighbour, between=lambda _: between, **settings)
        self.successResultOf(presence.open())
        assert rig.node.others is not None
        self.doors[number] = rig.node.others.take
        return rig

    def settle(self) -> None:
        """Everything that needs no time, on both nodes."""
        for _ in range(10):
            self.one.turn()

    def meet(self) -> tuple[Client, Client]:
        alice, bob = self.one.sign_in(ALICE), self.two.sign_in(BOB)
        self.settle()
        return alice, bob


class TalkTests(NodesTestCase):
    def test_a_message_goes_to_the_node_of_its_receiver(self) -> None:
        """Pushed there, in order, and offline nowhere."""
        alice, bob = self.meet()
        for text in ("a", "b", "c"):
            alice.send(BOB, text)
        self.settle()
        self.assertEqual((["a", "b", "c"], ["a", "b", "c"]), (alice.accepted, bob.shown))
        self.assertEqual(["sent a", "sent b", "sent c"], self.one.log)
        self.assertEqual(3, self.two.metrics.pushes["forwarded"])

    def test_receipts_come_back(self) -> None:
        """The sender is told on his node, once per status, and the first node's row has ended."""
        alice, bob = self.meet()
        alice.send(BOB, "a")
        self.settle()
        a = self.one.id_of("a")
        for status in (Status.DELIVERED, Status.READ, Status.READ):
            bob.ack(a, status)
            self.settle()
        self.assertEqual([("a", 3), ("a", 4)], alice.receipts)
        self.assertTrue(self.one.node.recent.ended(a))

    def test_the_node_that_pushed_runs_the_clock(self) -> None:
        """Retries and giving up happen where the receiver is; the first node writes nothing more."""
        alice, bob = self.meet()
        alice.send(BOB, "a")
        self.settle()
        self.one.advance(400)
        self.assertEqual(["a"] * 4, bob.shown)
        self.assertEqual((["sent a"], ["offline a"]), (self.one.log, self.two.log))

    def test_nobody_there_any_more(self) -> None:
        """A route that was stale when the message came: read afresh once, then offline."""
        alice, _ = self.meet()
        alice.send(BOB, "a")
        self.settle()
        self.doors[2] = lambda parcel: [False] * len(parcel.messages)
        alice.send(BOB, "b")
        self.settle()
        self.assertEqual(["sent a", "sent b", "offline b"], self.one.log)

    def test_withdrawn_elsewhere(self) -> None:
        """A withdrawal on the sender's node ends the retries of the receiver's."""
        alice, bob = self.meet()
        alice.send(BOB, "a")
        self.settle()
        alice.withdraw("a")
        self.settle()
        self.one.advance(400)
        self.assertEqual((["a"], ["a"]), (bob.shown, bob.notices))
        self.assertEqual([], self.two.log)

    def test_leaving_waits_for_what_is_under_way(self) -> None:
        """The drain ends when the other node has answered; what that does not answer is offline by then."""
        alice, _ = self.meet()
        self.ways[1].deaf = True
        alice.send(BOB, "a")
        self.one.turn()
        drained = Deferred.fromCoroutine(self.one.node.drain())
        self.settle()
        self.assertNoResult(drained)
        self.one.advance(DEADLINE + DOWN + 0.1)
        self.successResultOf(drained)
        self.assertEqual(["sent a", "offline a"], self.one.log)

    def test_business_of_one_node_tells_people_of_the_other(self) -> None:
        """A receipt that only business could tell, and a hint, find their way."""
        alice, bob = self.meet()
        self.one.node.tell_everywhere(
            Applied(receipts=(Receipt(7, b"", BOB, ALICE, 3),), withdrawals=(Withdrawal(9, BOB, ALICE),), hints=(BOB,))
        )
        self.settle()
        self.assertEqual([("7", 3)], bob.receipts)
        self.assertEqual((["9"], ["9"], 1), (alice.notices, bob.notices, self.two.metrics.hints))

    def test_several_nodes_of_one_user(self) -> None:
        """Both get it; an ACK on one silences the other, and the sender is told once."""
        alice, bob = self.meet()
        at_home = self.one.sign_in(BOB)
        self.settle()
        alice.send(BOB, "a")
        self.settle()
        self.assertEqual((["a"], ["a"]), (bob.shown, at_home.shown))
        at_home.ack("a")
        bob.ack(self.one.id_of("a"))
        self.settle()
        self.one.advance(400)
        self.assertEqual((["a"], ["a"], [("a", 3)]), (bob.shown, at_home.shown, alice.receipts))


class FaultTests(NodesTestCase):
    def test_a_node_that_cannot_be_reached(self) -> None:
        """Offline at once; the watch of the receiver's node brings it."""
        alice, bob = self.meet()
        self.ways[1].cut = True
        alice.send(BOB, "a")
        self.settle()
        self.assertEqual((["sent a", "offline a"], []), (self.one.log, bob.shown))
        self.one.advance(12)
        self.assertEqual(["a"], bob.shown)

    def test_what_went_offline_travels_ahead(self) -> None:
        """The next message takes it along, so the receiver is shown both in order."""
        alice, bob = self.meet()
        self.ways[1].cut = True
        alice.send(BOB, "a")
        self.settle()
        self.ways[1].cut = False
        self.one.advance(DOWN)
        alice.send(BOB, "b")
        self.settle()
        self.assertEqual(["a", "b"], bob.shown)

    def test_an_answer_that_was_lost(self) -> None:
        """Taken, but nobody knows: offline too, shown once."""
        alice, bob = self.meet()
        self.ways[1].deaf = True
        alice.send(BOB, "a")
        self.settle()
        self.one.advance(DEADLINE)
        self.ways[1].deaf = False
        self.assertEqual((["sent a", "offline a"], ["a"]), (self.one.log, bob.shown))
        bob.ack(self.one.id_of("a"))
        alice.send(BOB, "b")
        self.settle()
        self.one.advance(DOWN)
        alice.send(BOB, "c")
        self.settle()
        self.one.advance(4)
        self.assertEqual(["a", "b", "c"], bob.shown)

    def test_what_one_of_two_nodes_missed_travels_ahead(self) -> None:
        """He is here too and has it; where he could not be reached he is shown both in order."""
        alice, bob = self.meet()
        at_home = self.one.sign_in(BOB)
        self.settle()
        self.ways[1].cut = True
        alice.send(BOB, "a")
        self.settle()
        self.ways[1].cut = False
        self.one.advance(DOWN)
        alice.send(BOB, "b")
        self.settle()
        self.assertEqual((["a", "b"], ["a", "b"]), (at_home.shown, bob.shown))

    def test_what_went_offline_travels_ahead_before_that_is_durable(self) -> None:
        """The disk is slower than the next message."""
        alice, bob = self.meet()
        self.one.business.held = True
        at_home = self.one.sign_in(BOB)
        self.ways[1].cut = True
        self.settle()
        alice.send(BOB, "a")
        self.settle()
        self.ways[1].cut = False
        self.one.advance(DOWN)
        self.one.outbox.fail_appends = True
        at_home.leave()
        self.settle()
        self.one.outbox.fail_appends = False
        alice.send(BOB, "b")
        self.settle()
        self.assertEqual(["a", "b"], bob.shown)

    def test_what_he_has_acknowledged_does_not_travel(self) -> None:
        """Given up, then acknowledged: nobody is handed it any more, nor shown it where the store does not answer."""
        self.two.business.held = self.one.business.held = True
        alice, bob = self.one.sign_in(ALICE), self.one.sign_in(BOB)
        self.settle()
        alice.send(BOB, "a")
        self.settle()
        self.one.advance(370)
        bob.ack("a")
        self.settle()
        moved = self.two.sign_in(BOB)
        self.settle()
        self.one.store.away = "gone"
        alice.send(BOB, "b")
        self.settle()
        self.one.advance(3)
        self.assertEqual(["b"], moved.shown)

    def test_presence_is_away(self) -> None:
        """People sign in and talk; who is elsewhere is shown it by the watch."""
        self.registry.reachable = False
        alice, bob = self.meet()
        alice.send(BOB, "a")
        self.settle()
        self.assertEqual(["a"], alice.accepted)
        self.one.advance(12)
        self.assertEqual(["a"], bob.shown)


class DeviceTests(NodesTestCase):
    def test_the_newer_login_ends_the_older(self) -> None:
        """A device that comes on another node is replaced on the first."""
        old = self.one.sign_in(BOB, "phone")
        new = self.two.sign_in(BOB, "phone")
        self.settle()
        self.assertEqual((4001, None), (old.link.closed, new.link.closed))

    def test_other_devices_stay(self) -> None:
        """A kick is about one device."""
        pad, nameless = self.one.sign_in(BOB, "pad"), self.one.sign_in(BOB)
        self.two.sign_in(BOB, "phone")
        self.settle()
        self.assertEqual((None, None), (pad.link.closed, nameless.link.closed))

    def test_a_late_kick_does_not_end_a_newer_login(self) -> None:
        """Of three logins the last one stays, in whatever order the kicks arrive."""
        self.one.sign_in(BOB, "phone")
        self.settle()
        self.ways[2].cut = True
        second = self.two.sign_in(BOB, "phone")
        self.settle()
        third = self.one.sign_in(BOB, "phone")
        self.settle()
        self.ways[2].cut = False
        self.one.advance(2 * DOWN)
        self.assertEqual((4001, None), (second.link.closed, third.link.closed))


    def test_who_has_left_replaces_nobody(self) -> None:
        """His login is answered when he is gone: whom it would have replaced stays."""
        answers: list[Deferred[Any]] = []
        enter = self.presences[1].enter

        def late(user: int, device: str) -> Deferred[Any]:
            answers.append(Deferred())
            return answers[0]

        self.patch(self.presences[1], "enter", late)
        gone = self.one.sign_in(BOB, "phone")
        stays = self.two.sign_in(BOB, "phone")
        self.settle()
        gone.leave()
        enter(BOB, "phone").chainDeferred(answers[0])
        self.settle()
        self.assertIsNone(stays.link.closed)


class RepeatTests(NodesTestCase):
    def test_a_repeat_through_another_node(self) -> None:
        """The same clientMsgId gets the same msgId, and the receiver is shown one message."""
        alice, bob = self.meet()
        alice.send(BOB, "a")
        self.settle()
        moved = self.two.sign_in(ALICE)
        moved.send(BOB, "a")
        self.settle()
        self.assertEqual([reply.msg_id for reply in alice.replies], [reply.msg_id for reply in moved.replies])
        self.assertEqual((["a"], []), (bob.shown, self.two.log))

    def test_other_content(self) -> None:
        """409 by its digest, and what is repeated behind it hears the same."""
        alice, bob = self.meet()
        alice.send(BOB, "a")
        self.settle()
        moved = self.two.sign_in(ALICE)
        moved.send(BOB, "b", client_msg_id=b"a".ljust(16, b"\0"))
        moved.send(BOB, "b", client_msg_id=b"a".ljust(16, b"\0"))
        self.settle()
        self.assertEqual([("a", 409), ("a", 409)], moved.refused)
        self.assertEqual((["a"], []), (bob.shown, self.two.log))

    def test_a_claim_whose_fate_is_not_known(self) -> None:
        """Durable here too, under the claimed id, offline, and pushed to nobody."""
        alice, bob = self.meet()
        self.one.outbox._delay = 3.0
        alice.send(BOB, "a")
        self.settle()
        moved = self.two.sign_in(ALICE)
        self.settle()
        moved.send(BOB, "a")
        self.settle()
        self.assertEqual((["sent a", "offline a"], ["a"]), (self.two.log, moved.accepted))
        claimed = moved.replies[0].msg_id
        self.one.advance(3.5)
        self.assertEqual([claimed], [reply.msg_id for reply in alice.replies])
        self.assertEqual({"a": 2}, self.one.stored)
        self.assertEqual(1, bob.shown.count("a"))

    def test_a_commit_that_failed_gives_the_claim_back(self) -> None:
        """Then the send through the other node is the first."""
        alice, bob = self.meet()
        self.one.outbox.fail_appends = True
        alice.send(BOB, "a")
        self.settle()
        self.assertEqual([("a", 503)], alice.refused)
        moved = self.two.sign_in(ALICE)
        moved.send(BOB, "a")
        self.settle()
        self.assertEqual((["a"], ["sent a"], ["a"]), (moved.accepted, self.two.log, bob.shown))

    def test_refused_under_a_claim_leaves_no_trace(self) -> None:
        """The offlining that goes with it is refused with it."""
        alice, _ = self.meet()
        self.one.outbox._delay = 30.0
        alice.send(BOB, "a")
        self.settle()
        moved = self.two.sign_in(ALICE)
        self.settle()
        self.two.outbox.fail_appends = True
        moved.send(BOB, "a")
        self.settle()
        self.two.outbox.fail_appends = False
        self.one.advance(5)
        self.assertEqual(([("a", 503)], []), (moved.refused, self.two.log))
        self.assertEqual(1, len(self.index.claims), "the claim of the first node was given back")

    def test_the_index_is_away(self) -> None:
        """Accepted, and counted as what it is: the risk of a double."""
        alice, _ = self.meet()
        self.index.reachable = False
        alice.send(BOB, "a")
        self.settle()
        self.assertEqual((["a"], 1), (alice.accepted, self.one.metrics.sends_unclaimed))


class LoginTests(NodesTestCase):
    def test_what_ended_elsewhere_is_not_shown(self) -> None:
        """Business lags: the store still owes it, the index knows that it was acknowledged on the other node."""
        alice, bob = self.meet()
        alice.send(BOB, "a")
        self.settle()
        self.two.business.held = True
        bob.ack(self.one.id_of("a"))
        self.settle()
        moved = self.one.sign_in(BOB)
        self.settle()
        self.assertEqual([], moved.shown)

    def test_what_the_index_has_seen_end_is_not_asked_for_again(self) -> None:
        """He was pushed it here, and acknowledged it where this node could not be told."""
        alice, bob = self.meet()
        alice.send(BOB, "a")
        self.settle()
        self.successResultOf(MemorySentIndex(self.index).settle([], [(BOB, self.one.id_of("a"))]))
        self.two.node.backfill.hint(BOB)
        self.settle()
        self.one.advance(400)
        self.assertEqual(["a"], bob.shown)

    def test_what_was_handed_over_is_shown_to_the_next_session(self) -> None:
        """Business lags, the node that has it did not accept it, and there is nobody else to show it."""
        alice, _ = self.meet()
        self.one.business.held = self.two.business.held = True
        alice.send(BOB, "a")
        self.settle()
        second = self.two.sign_in(BOB)
        self.settle()
        self.assertEqual(["a"], second.shown)

    def test_log_lets_go_of_what_ended_elsewhere(self) -> None:
        """A start finds it open, and the index says that it is over."""
        alice, bob = self.meet()
        alice.send(BOB, "a")
        self.settle()
        bob.ack(self.one.id_of("a"))
        self.settle()
        self.registry.expire(1)
        self.one.crash()
        self.assertEqual([], [row for row in self.one.node.recent if row.waits])

    def test_restart_asks_what_has_ended(self) -> None:
        """What was acknowledged on another node is not turned offline at a start."""
        alice = self.one.sign_in(ALICE)
        carol = self.two.sign_in(CAROL)
        bob = self.two.sign_in(BOB)
        self.settle()
        alice.send(BOB, "a")
        alice.send(CAROL, "b")
        self.settle()
        bob.ack(self.one.id_of("a"))
        self.settle()
        carol.leave()
        self.settle()
        self.registry.expire(1)
        self.one.crash()
        self.assertEqual(["sent a", "sent b", "offline b"], self.one.log)
