"""To people on other nodes: one lane per node with one call under way, in the order in which things were put.

Who takes a message runs its clock from then on. A node that does not answer in time is left alone for a moment, and
what was meant for it takes the offline path: nothing waits for a node.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from imconnect.core.background import Background, sleep, within
from imconnect.core.ports import Peer
from imconnect.core.routes import Routes
from imconnect.errors import Unavailable
from imconnect.model import Applied, End, Handed, Kick, Message, Parcel, Receipt, Withdrawal

_log = Logger()

#: Things per call.
BATCH = 500
#: Things that may wait for one node, or for routes; messages over that go offline, the rest is dropped and counted.
WAITING = 20_000
#: Seconds that a call may take, and for which a node that did not answer is left alone.
DEADLINE, DOWN = 1.0, 1.0
#: Seconds between two looks whether everything has been answered.
LOOK = 0.02
#: How often ends and kicks are tried at a node that takes nothing.
ATTEMPTS = 5


class Flight:
    """A message on its way to the nodes of its receiver."""

    __slots__ = ("afresh", "here", "late", "message", "out", "taken")

    def __init__(self, message: Message, here: bool, late: bool) -> None:
        self.message = message
        #: This node has taken it for sessions of its own; another node has.
        self.here = here
        self.taken = False
        self.late = late
        #: Nodes that have not answered yet.
        self.out = 0
        #: Its route was read afresh already.
        self.afresh = False


class Hint(NamedTuple):
    """This user may have something new to fetch from the database."""

    user: int


Item = Flight | End | Kick | Receipt | Withdrawal | Hint


class Lane:
    """One node: what waits for it."""

    __slots__ = ("down_until", "failures", "flying", "items")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.flying = False
        self.down_until = 0.0
        #: Calls in a row that it did not take.
        self.failures = 0


class Forward:
    """Carries messages, ends and kicks to other nodes."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        peer: Peer,
        routes: Routes,
        background: Background,
        passed: Callable[[Message], None],
        nobody: Callable[[Message], None],
    ) -> None:
        """`passed`: another node has taken this message; `nobody`: no node has it, this one included."""
        self._clock = clock
        self._peer = peer
        self._routes = routes
        self._background = background
        self._passed = passed
        self._nobody = nobody
        self._lanes: defaultdict[int, Lane] = defaultdict(Lane)
        #: Things to users whose route is being asked for, in order.
        self._routing: dict[int, list[Item]] = {}
        self._to_ask: list[int] = []
        #: Things under way or waiting: the bound of what waits for routes.
        self.waiting = 0
        #: Calls that a node did not take, by node; things dropped because too many waited.
        self.failed: defaultdict[int, int] = defaultdict(int)
        self.dropped = 0

    def may_be_elsewhere(self, user: int) -> bool:
        """False: this user is known to be on no other node."""
        nodes = self._known(user)
        return nodes is None or bool(nodes)

    def deliver(self, message: Message, here: bool, late: bool = False) -> bool:
        """Bring a message to wherever else its receiver is; `here`: this node has taken it too. False: nowhere else.

        Of what it took in hand and what then nobody took, `nobody` hears.
        """
        if not self.may_be_elsewhere(message.receiver):
            return False
        if self.waiting >= WAITING:
            self.dropped += 1
            return False
        self._to(message.receiver, Flight(message, here, late))
        return True

    def end(self, end: End) -> None:
        """A message has ended: nobody pushes it any more, and its sender is told where he is."""
        for user in {end.receiver, end.sender}:
            self._best_effort(user, end)

    def tell(self, applied: Applied) -> None:
        """What business in this process has to tell people on other nodes."""
        for receipt in applied.receipts:
            self._best_effort(receipt.sender, receipt)
        for withdrawal in applied.withdrawals:
            for user in {withdrawal.sender, withdrawal.receiver}:
                self._best_effort(user, withdrawal)
        for user in applied.hints:
            self._best_effort(user, Hint(user))

    def kick(self, kick: Kick, nodes: frozenset[int]) -> None:
        """Older sessions of this device end, on these nodes."""
        for node in nodes:
            self._put(node, kick)

    async def idle(self) -> None:
        """Until everything that was put is answered; of a node that does not answer, its messages have gone offline."""
        deadline = self._clock.seconds() + DEADLINE + DOWN
        while (self._routing or any(lane.flying for lane in self._lanes.values())) and self._clock.seconds() < deadline:
            await sleep(self._clock, LOOK)

    def _best_effort(self, user: int, item: Item) -> None:
        if self.waiting >= WAITING:
            self.dropped += 1
        else:
            self._to(user, item)

    def _known(self, user: int) -> frozenset[int] | None:
        return None if user in self._routing else self._routes.known(user)

    def _to(self, user: int, item: Item) -> None:
        nodes = self._known(user)
        if nodes is None:
            self.waiting += 1
            self._routing.setdefault(user, []).append(item)
            if len(self._routing[user]) == 1:
                self._ask(user)
        else:
            self._spread(nodes, item)

    def _ask(self, user: int) -> None:
        if not self._to_ask:
            # Everybody whom this reactor turn is about, in one question.
            self._clock.callLater(0, self._ask_all)
        self._to_ask.append(user)

    def _ask_all(self) -> None:
        users, self._to_ask = self._to_ask, []
        self._background.run(self._route(users), "routes")

    async def _route(self, users: Sequence[int]) -> None:
        routes = await self._routes.ask(users)
        for user in users:
            for item in self._routing.pop(user):
                self.waiting -= 1
                self._spread(routes[user], item)

    def _spread(self, nodes: frozenset[int], item: Item) -> None:
        if isinstance(item, Flight):
            # Before the first of them can answer.
            item.out = len(nodes)
            if not nodes:
                self._landed(item, afresh=False)
        for node in nodes:
            self._put(node, item)

    def _put(self, node: int, item: Item) -> None:
        lane = self._lanes[node]
        if isinstance(item, Flight) and self._clock.seconds() < lane.down_until:
            self._answered(item, False, afresh=False)
            return
        lane.items.append(item)
        self.waiting += 1
        if not lane.flying:
            lane.flying = True
            self._background.run(self._carry(node, lane), "forward")

    async def _carry(self, node: int, lane: Lane) -> None:
        try:
            # Together with what else this reactor turn brings.
            await sleep(self._clock, 0)
            while lane.items:
                items = [lane.items.popleft() for _ in range(min(BATCH, len(lane.items)))]
                self.waiting -= len(items)
                await self._hand(node, lane, items)
        finally:
            lane.flying = False

    async def _hand(self, node: int, lane: Lane, items: Sequence[Item]) -> None:
        flights = [item for item in items if isinstance(item, Flight)]
        try:
            answers = await within(self._peer.hand(node, _parcel(items)), DEADLINE, self._clock)
            if len(answers) != len(flights):
                raise Unavailable(f"{len(answers)} answers to {len(flights)} messages")
        except Unavailable as error:
            await self._is_down(node, lane, items, str(error))
        except CancelledError:
            raise
        else:
            self._is_up(node, lane)
            for flight, taken in zip(flights, answers, strict=True):
                self._answered(flight, taken, afresh=True)

    def _is_up(self, node: int, lane: Lane) -> None:
        if lane.failures:
            _log.info("node {node} takes things again", node=node)
        lane.failures = 0

    async def _is_down(self, node: int, lane: Lane, items: Sequence[Item], why: str) -> None:
        self.failed[node] += 1
        lane.failures += 1
        if lane.failures == 1:
            _log.warn("node {node} takes nothing, what is for its people goes offline: {why}", node=node, why=why)
        lane.down_until = self._clock.seconds() + DOWN
        # Behind a message that goes offline none may go on: its receiver would be shown the later one first.
        items = [*items, *lane.items]
        self.waiting -= len(lane.items)
        lane.items.clear()
        for item in items:
            if isinstance(item, Flight):
                self._answered(item, False, afresh=False)
            elif lane.failures < ATTEMPTS:
                lane.items.append(item)
                self.waiting += 1
            else:
                self.dropped += 1
        await sleep(self._clock, DOWN)

    def _answered(self, flight: Flight, taken: bool, afresh: bool) -> None:
        flight.taken = flight.taken or taken
        flight.out -= 1
        if flight.out <= 0:
            self._landed(flight, afresh)

    def _landed(self, flight: Flight, afresh: bool) -> None:
        message = flight.message
        if flight.late or flight.here:
            # Whoever is not shown it now finds it in the store; or this node runs its clock.
            return
        if flight.taken:
            self._passed(message)
        elif afresh and not flight.afresh:
            flight.afresh = True
            self._routes.forget(message.receiver)
            self._to(message.receiver, flight)
        else:
            self._nobody(message)


def _parcel(items: Sequence[Item]) -> Parcel:
    applied = Applied(
        receipts=tuple(item for item in items if isinstance(item, Receipt)),
        withdrawals=tuple(item for item in items if isinstance(item, Withdrawal)),
        hints=tuple(item.user for item in items if isinstance(item, Hint)),
    )
    return Parcel(
        messages=tuple(Handed(item.message, item.late) for item in items if isinstance(item, Flight)),
        ends=tuple(item for item in items if isinstance(item, End)),
        kicks=tuple(item for item in items if isinstance(item, Kick)),
        applied=applied,
    )
