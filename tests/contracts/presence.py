"""What every Presence does, between two nodes and two lives of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from imconnect.core.ports import Presence
from imconnect.errors import ConfigError, Unavailable
from tests.support import ReactorTestCase

if TYPE_CHECKING:
    _Base = ReactorTestCase
else:
    _Base = object

ONE, TWO, THREE = 1, 2, 3
ALICE, BOB = 1001, 2**63 - 1
NOWHERE: frozenset[int] = frozenset()


class PresenceContract(_Base):
    """Mix into a ReactorTestCase; give it what makes nodes and takes the server away."""

    def node(self, number: int, owner: str = "") -> Presence:
        """A node of this world that was not opened yet; `owner`: whose node id it is, another one each time if empty."""
        raise NotImplementedError

    def die(self, node: Presence) -> Deferred[None]:
        """kill -9 of a node, and its lease has run out. Fires when the others have noticed."""
        raise NotImplementedError

    def take_away(self) -> Deferred[None]:
        """The server is gone."""
        raise NotImplementedError

    def bring_back(self, *nodes: Presence) -> Deferred[None]:
        """The server is back, with nothing of what it held, and these nodes have noticed."""
        raise NotImplementedError

    def heard(self) -> Deferred[None]:
        """What was published by now has been heard."""
        raise NotImplementedError

    async def pair(self) -> tuple[Presence, Presence]:
        one, two = self.node(ONE), self.node(TWO)
        await one.open()
        await two.open()
        return one, two

    async def test_routes(self) -> None:
        """A user is where he entered, seen from elsewhere; nobody sees himself."""
        one, two = await self.pair()
        await one.enter(ALICE, "")
        await two.enter(BOB, "")
        self.assertEqual({ALICE: {ONE}, BOB: NOWHERE, 5: NOWHERE}, await two.routes([ALICE, BOB, 5]))
        self.assertEqual({ALICE: NOWHERE, BOB: {TWO}}, await one.routes([ALICE, BOB]))

    async def test_several_nodes(self) -> None:
        """One user on several nodes; a login says which others there are, and turns grow."""
        one, two = await self.pair()
        three = self.node(THREE)
        await three.open()
        first, second = await one.enter(ALICE, "phone"), await two.enter(ALICE, "phone")
        self.assertEqual((NOWHERE, {ONE}), (first.nodes, second.nodes))
        self.assertGreater(second.turn, first.turn)
        self.assertEqual({ALICE: {ONE, TWO}}, await three.routes([ALICE]))

    async def test_leave(self) -> None:
        """Who left is nowhere; a second login of the same node is there as long as nobody leaves it."""
        one, two = await self.pair()
        await one.enter(ALICE, "")
        one.leave(ALICE)
        await one.routes([])
        self.assertEqual({ALICE: NOWHERE}, await two.routes([ALICE]))
        await one.enter(ALICE, "")
        self.assertEqual({ALICE: {ONE}}, await two.routes([ALICE]))

    async def test_a_node_that_died(self) -> None:
        """Its users stop being there by themselves, and the others hear that routes are worth nothing."""
        one, two = await self.pair()
        lost: list[bool] = []
        two.watch(lambda user: None, lambda: lost.append(True))
        await one.enter(ALICE, "")
        await self.die(one)
        self.assertEqual({ALICE: NOWHERE}, await two.routes([ALICE]))
        self.assertTrue(lost)

    async def test_a_late_logout_is_fenced(self) -> None:
        """What an earlier life of a node still wants removed does not touch the route of the next one."""
        old, two = self.node(ONE, "mine"), self.node(TWO)
        await old.open()
        await two.open()
        await old.enter(ALICE, "")
        await self.die(old)
        new = self.node(ONE, "mine")
        await new.open()
        await new.enter(ALICE, "")
        old.leave(ALICE)
        await old.routes([ALICE])
        self.assertEqual({ALICE: {ONE}}, await two.routes([ALICE]))

    async def test_same_node_id(self) -> None:
        """A second process with the node id of a live one refuses to start."""
        one, _ = await self.pair()
        await one.enter(ALICE, "")
        try:
            await self.node(ONE).open()
        except ConfigError as error:
            self.assertEqual("node.id", error.key)
        else:
            self.fail("it started")

    async def test_told_of_changes(self) -> None:
        """Others hear who came and who went."""
        one, two = await self.pair()
        changed: list[int] = []
        two.watch(changed.append, lambda: None)
        await self.heard()
        await one.enter(ALICE, "")
        one.leave(ALICE)
        await one.routes([])
        await self.heard()
        self.assertEqual([ALICE, ALICE], changed)

    async def test_away_and_back(self) -> None:
        """Nothing is answered while the server is away; afterwards everybody who is there is there again."""
        one, two = await self.pair()
        await one.enter(ALICE, "")
        await one.enter(5, "")
        await self.take_away()
        try:
            await one.enter(BOB, "")
        except Unavailable:
            pass
        else:
            self.fail("it answered")
        one.leave(5)
        await self.bring_back(one, two)
        self.assertEqual({ALICE: {ONE}, BOB: {ONE}, 5: NOWHERE}, await two.routes([ALICE, BOB, 5]))

    async def test_close(self) -> None:
        """A node that ends properly takes its routes along, and its id is free."""
        one, two = await self.pair()
        await one.enter(ALICE, "")
        await one.close()
        self.assertEqual({ALICE: NOWHERE}, await two.routes([ALICE]))
        await self.node(ONE).open()
