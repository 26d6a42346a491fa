"""Where users are signed in elsewhere: asked once, remembered, forgotten when it changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from imconnect.backends.presence_memory import MemoryPresence, Registry
from imconnect.core import routes as routes_module
from imconnect.core.routes import AWAY, DEADLINE, NOWHERE, Routes
from tests.support import TestCase

HERE, THERE, YONDER = 1, 2, 3
BOB = 1002


class Slow(MemoryPresence):
    """Answers a question only when the test says so; counts them."""

    def __init__(self, registry: Registry, node: int) -> None:
        super().__init__(registry, node)
        self.asked: list[list[int]] = []
        self.held: list[Callable[[], None]] = []
        self.hold = False

    def routes(self, users: Collection[int]) -> Deferred[Mapping[int, frozenset[int]]]:
        self.asked.append(sorted(users))
        answer = super().routes(users)
        if not self.hold:
            return answer
        later: Deferred[Mapping[int, frozenset[int]]] = Deferred()
        self.held.append(lambda: answer.chainDeferred(later))
        return later


class RoutesTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry = Registry()
        self.presence = Slow(self.registry, HERE)
        self.there = MemoryPresence(self.registry, THERE)
        self.clock = Clock()
        self.routes = Routes(self.clock, self.presence)
        self.successResultOf(self.presence.open())
        self.successResultOf(self.there.open())

    def ask(self, *users: int) -> Deferred[Mapping[int, frozenset[int]]]:
        return Deferred.fromCoroutine(self.routes.ask(users))

    def test_asked_once(self) -> None:
        """What presence said is remembered, also that somebody is nowhere."""
        self.successResultOf(self.there.enter(BOB, ""))
        self.assertIsNone(self.routes.known(BOB))
        self.assertEqual({BOB: frozenset({THERE}), 1: NOWHERE}, self.successResultOf(self.ask(BOB, 1)))
        self.assertEqual((frozenset({THERE}), NOWHERE), (self.routes.known(BOB), self.routes.known(1)))

    def test_told_of_changes(self) -> None:
        """Who comes or goes elsewhere is asked about again."""
        self.successResultOf(self.ask(BOB))
        self.successResultOf(self.there.enter(BOB, ""))
        self.assertIsNone(self.routes.known(BOB))

    def test_change_overtakes_the_answer(self) -> None:
        """An answer that may be older than a change is used once and not remembered."""
        self.presence.hold = True
        asking = self.ask(BOB)
        self.successResultOf(self.there.enter(BOB, ""))
        self.presence.held.pop()()
        self.assertEqual({BOB: NOWHERE}, self.successResultOf(asking))
        self.assertIsNone(self.routes.known(BOB))

    def test_a_node_died(self) -> None:
        """After something may have been missed nothing is believed any more."""
        self.successResultOf(self.there.enter(BOB, ""))
        self.successResultOf(self.ask(BOB))
        self.registry.expire(THERE)
        self.assertIsNone(self.routes.known(BOB))
        self.assertEqual({BOB: NOWHERE}, self.successResultOf(self.ask(BOB)))

    def test_presence_is_away(self) -> None:
        """Nobody is anywhere then, and nobody asks for a moment; nothing of it is remembered."""
        self.successResultOf(self.there.enter(BOB, ""))
        self.registry.reachable = False
        self.assertEqual({BOB: NOWHERE}, self.successResultOf(self.ask(BOB)))
        self.assertEqual(NOWHERE, self.routes.known(1))
        self.registry.reachable = True
        self.clock.advance(AWAY)
        self.assertIsNone(self.routes.known(BOB))

    def test_presence_hangs(self) -> None:
        """An answer that takes too long is none."""
        self.presence.hold = True
        asking = self.ask(BOB)
        self.clock.advance(DEADLINE)
        self.assertEqual({BOB: NOWHERE}, self.successResultOf(asking))

    def test_bounded(self) -> None:
        """The oldest routes are forgotten, not all of them."""
        self.patch(routes_module, "REMEMBERED", 2)
        for user in (1, 2, 3):
            self.routes.learn(user, NOWHERE)
        self.assertEqual([None, NOWHERE, NOWHERE], [self.routes.known(user) for user in (1, 2, 3)])
