"""To people on other nodes: in order, one call per node under way, nothing waits for a node."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from imconnect.backends.presence_memory import MemoryPresence, Registry
from imconnect.core import forward as forward_module
from imconnect.core.background import Background
from imconnect.core.forward import ATTEMPTS, DEADLINE, DOWN, Forward
from imconnect.core.routes import Routes
from imconnect.errors import Unavailable
from imconnect.model import End, Handed, Kick, Message, Parcel
from tests.support import TestCase

HERE, THERE, YONDER = 1, 2, 3
ALICE, BOB = 1001, 1002


def message(number: int, to: int = BOB) -> Message:
    return Message(number, b"", ALICE, to, 1, str(number), 0, 0)


class Calls:
    """The port Peer: keeps what it was given; answers as the test says."""

    def __init__(self) -> None:
        self.parcels: list[tuple[int, Parcel]] = []
        self.answers: dict[int, bool | Exception] = {}
        self.held: list[Deferred[Sequence[bool]]] | None = None

    def hand(self, node: int, parcel: Parcel) -> Deferred[Sequence[bool]]:
        self.parcels.append((node, parcel))
        if self.held is not None:
            self.held.append(Deferred())
            return self.held[-1]
        answer = self.answers.get(node, True)
        return fail(answer) if isinstance(answer, Exception) else succeed([answer] * len(parcel.messages))

    def close(self) -> Deferred[None]:
        return succeed(None)


class ForwardTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        registry = Registry()
        presence = MemoryPresence(registry, HERE)
        self.elsewhere = {node: MemoryPresence(registry, node) for node in (THERE, YONDER)}
        for each in (presence, *self.elsewhere.values()):
            self.successResultOf(each.open())
        self.peer = Calls()
        self.passed: list[int] = []
        self.nobody: list[int] = []
        self.missed: list[int] = []
        self.unsettled: list[Message] = []
        self.forward = Forward(
            clock=self.clock,
            peer=self.peer,
            routes=Routes(self.clock, presence),
            background=Background(self.clock),
            passed=lambda message: self.passed.append(message.msg_id),
            nobody=lambda message: self.nobody.append(message.msg_id),
            missed=lambda message: self.missed.append(message.msg_id),
            unsettled=lambda user: self.unsettled,
        )

    def enter(self, user: int, *nodes: int) -> None:
        for node in nodes:
            self.successResultOf(self.elsewhere[node].enter(user, ""))

    def turn(self) -> None:
        """The reactor turns until nothing is left to do at once."""
        for _ in range(5):
            self.clock.advance(0)

    def texts(self, node: int) -> list[list[int]]:
        return [[handed.message.msg_id for handed in parcel.messages] for to, parcel in self.peer.parcels if to == node]

    def test_to_the_node_of_the_receiver(self) -> None:
        """One call carries what one turn brought, in order; who takes it has passed it."""
        self.enter(BOB, THERE)
        for number in (1, 2, 3):
            self.assertTrue(self.forward.deliver(message(number), here=False))
        self.turn()
        self.assertEqual([[1, 2, 3]], self.texts(THERE))
        self.assertEqual(([1, 2, 3], []), (self.passed, self.nobody))
        self.assertEqual(0, self.forward.waiting)

    def test_nowhere(self) -> None:
        """A user without a route: said at once where that is known, else as soon as it is."""
        self.assertTrue(self.forward.deliver(message(1), here=False))
        self.turn()
        self.assertEqual([1], self.nobody)
        self.assertFalse(self.forward.deliver(message(2), here=False))
        self.assertEqual([], self.peer.parcels)

    def test_on_several_nodes(self) -> None:
        """Each node gets it; one that takes it is enough."""
        self.enter(BOB, THERE, YONDER)
        self.peer.answers[THERE] = False
        self.forward.deliver(message(1), here=False)
        self.turn()
        self.assertEqual(([[1]], [[1]]), (self.texts(THERE), self.texts(YONDER)))
        self.assertEqual(([1], []), (self.passed, self.nobody))

    def test_also_here(self) -> None:
        """What this node has taken too stays its own, whatever the others say."""
        self.enter(BOB, THERE)
        self.forward.deliver(message(1), here=True)
        self.turn()
        self.assertEqual([[1]], self.texts(THERE))
        self.assertEqual(([], []), (self.passed, self.nobody))

    def test_not_here_asks_once_more(self) -> None:
        """A stale route: read afresh once, and then nobody has it."""
        self.enter(BOB, THERE)
        self.peer.answers[THERE] = False
        self.forward.deliver(message(1), here=False)
        self.turn()
        self.assertEqual([[1], [1]], self.texts(THERE))
        self.assertEqual([1], self.nobody)

    def test_he_has_moved(self) -> None:
        """The node that the fresh route names takes what the stale one did not."""
        self.enter(BOB, THERE)
        self.forward.deliver(message(1), here=False)
        self.turn()
        self.peer.answers[THERE] = False
        self.elsewhere[THERE].watch(lambda user: None, lambda: None)
        self.enter(BOB, YONDER)
        self.elsewhere[THERE].leave(BOB)
        self.forward.deliver(message(2), here=False)
        self.turn()
        self.assertEqual([[2]], self.texts(YONDER))
        self.assertEqual([1, 2], self.passed)

    def test_what_follows_does_not_pass_what_looks_for_another_way(self) -> None:
        """He has moved while calls were under way: at his new node everything arrives in order."""
        self.enter(BOB, THERE)
        self.peer.held = []
        for number in (1, 2):
            self.forward.deliver(message(number), here=False)
            self.turn()
        self.enter(BOB, YONDER)
        self.elsewhere[THERE].leave(BOB)
        self.peer.held[0].callback([False])
        self.forward.deliver(message(3), here=False)
        self.turn()
        self.assertEqual([], self.texts(YONDER))
        self.peer.held[1].callback([False])
        self.turn()
        self.assertEqual([[1, 2, 3]], self.texts(YONDER))

    def test_a_new_route_waits_for_the_old_one(self) -> None:
        """What is under way to the node that he has left is answered before the next goes where he is now."""
        self.enter(BOB, THERE)
        self.peer.held = []
        self.forward.deliver(message(1), here=False)
        self.turn()
        self.enter(BOB, YONDER)
        self.forward.deliver(message(2), here=False)
        self.turn()
        self.assertEqual(([[1]], []), (self.texts(THERE), self.texts(YONDER)))
        self.peer.held[0].callback([True])
        self.turn()
        self.assertEqual(([[1], [2]], [[2]]), (self.texts(THERE), self.texts(YONDER)))

    def test_missed_by_one_of_several(self) -> None:
        """Somebody has it, and somebody has not: that one gets it ahead of the next."""
        self.enter(BOB, THERE, YONDER)
        self.peer.answers[THERE] = Unavailable("away")
        self.forward.deliver(message(1), here=False)
        self.forward.deliver(message(2), here=True)
        self.turn()
        self.assertEqual(([1], [1, 2], []), (self.passed, self.missed, self.nobody))

    def test_what_is_unsettled_goes_first(self) -> None:
        """A route that was asked for may lead somewhere new: what is not over goes there too, marked; once."""
        self.enter(BOB, THERE)
        self.unsettled = [message(1), message(2)]
        self.forward.deliver(message(2), here=False)
        self.turn()
        self.forward.deliver(message(3), here=False)
        self.turn()
        self.assertEqual([[1, 2], [3]], self.texts(THERE))
        self.assertEqual([True, False], [handed.late for handed in self.peer.parcels[0][1].messages])

    def test_what_is_unsettled_goes_first_also_where_the_route_was_known(self) -> None:
        """It was asked for because of a receipt: the first message brings along the rest all the same."""
        self.enter(BOB, THERE)
        self.forward.end(End(9, b"", BOB, ALICE, 3))
        self.turn()
        self.unsettled = [message(1)]
        self.forward.deliver(message(2), here=False)
        self.turn()
        self.forward.deliver(message(3), here=False)
        self.turn()
        self.assertEqual([[], [1, 2], [3]], self.texts(THERE))

    def test_order_while_a_route_is_asked_for(self) -> None:
        """What comes while the route is unknown goes behind what waits for it."""
        self.enter(BOB, THERE)
        self.forward.deliver(message(1), here=False)
        self.forward.deliver(message(2), here=False)
        self.forward.end(End(9, b"", BOB, ALICE, 3))
        self.turn()
        self.assertEqual([[1, 2]], self.texts(THERE))
        self.assertEqual([9], [end.msg_id for _, parcel in self.peer.parcels for end in parcel.ends])

    def test_one_call_under_way(self) -> None:
        """What comes meanwhile waits and goes together."""
        self.enter(BOB, THERE)
        self.peer.held = []
        for number in (1, 2, 3):
            self.forward.deliver(message(number), here=False)
            self.turn()
        self.assertEqual([[1]], self.texts(THERE))
        self.peer.held[0].callback([True])
        self.turn()
        self.assertEqual([[1], [2, 3]], self.texts(THERE))

    def test_a_node_that_does_not_answer(self) -> None:
        """What is for its people goes offline, in order, and nothing waits for it until it has had a rest."""
        self.enter(BOB, THERE)
        self.peer.held = []
        self.forward.deliver(message(1), here=False)
        self.turn()
        self.forward.deliver(message(2), here=False)
        self.clock.advance(DEADLINE)
        self.assertEqual([1, 2], self.nobody)
        self.forward.deliver(message(3), here=False)
        self.assertEqual([1, 2, 3], self.nobody)
        self.peer.held = None
        self.clock.advance(DOWN)
        self.forward.deliver(message(4), here=False)
        self.turn()
        self.assertEqual([[1], [4]], self.texts(THERE))
        self.assertEqual([4], self.passed)

    def test_ends_are_tried_again(self) -> None:
        """An end that a node did not take is told when it is back; not for ever."""
        self.enter(ALICE, THERE)
        self.peer.answers[THERE] = Unavailable("away")
        self.forward.end(End(9, b"", ALICE, BOB, 4))
        self.turn()
        self.peer.answers[THERE] = True
        self.clock.advance(DOWN)
        self.turn()
        self.assertEqual([(9, 4)] * 2, [(e.msg_id, e.status) for _, parcel in self.peer.parcels for e in parcel.ends])
        self.peer.answers[THERE] = Unavailable("away")
        self.forward.end(End(10, b"", ALICE, BOB, 4))
        for _ in range(2 * ATTEMPTS):
            self.clock.advance(DOWN)
            self.turn()
        self.assertEqual((ATTEMPTS, 1), (len(self.peer.parcels) - 2, self.forward.dropped))
        self.assertEqual(0, self.forward.waiting)

    def test_a_lie(self) -> None:
        """A peer that answers for another number of messages has answered for none."""
        self.enter(BOB, THERE)
        self.peer.held = []
        self.forward.deliver(message(1), here=False)
        self.turn()
        self.peer.held[0].callback([True, True])
        self.assertEqual([1], self.nobody)

    def test_late_ones_travel_ahead(self) -> None:
        """They are marked, and nobody minds where they do not land: they are in the store."""
        self.enter(BOB, THERE)
        self.peer.answers[THERE] = False
        self.forward.deliver(message(1), here=False, late=True)
        self.turn()
        self.assertEqual((Handed(message(1), late=True),), self.peer.parcels[0][1].messages)
        self.assertEqual(([], [], [1]), (self.passed, self.nobody, self.missed))

    def test_kicks(self) -> None:
        """A kick goes to the nodes that presence named at the login."""
        self.forward.kick(Kick(BOB, "phone", 7), frozenset({THERE}))
        self.turn()
        self.assertEqual([(THERE, Parcel(kicks=(Kick(BOB, "phone", 7),)))], self.peer.parcels)

    def test_bounded(self) -> None:
        """Over the bound messages are not taken in hand and the rest is dropped and counted."""
        self.patch(forward_module, "WAITING", 1)
        self.enter(BOB, THERE)
        self.peer.held = []
        self.assertTrue(self.forward.deliver(message(1), here=False))
        self.assertFalse(self.forward.deliver(message(2), here=False))
        self.forward.end(End(9, b"", BOB, ALICE, 3))
        self.assertEqual(3, self.forward.dropped)
