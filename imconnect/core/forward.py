"""To people on other nodes: one lane per node with one call under way, in the order in which things were put.

Who takes a message runs its clock from then on. A node that does not answer in time is left alone for a moment, and
what was meant for it takes the offline path: nothing waits for a node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from imconnect.core.background import Background, sleep, within
from imconnect.core.flights import Course, Flight, Hint, Item, Lane, parcel_of, place
from imconnect.core.ports import Peer
from imconnect.core.routes import Routes
from imconnect.errors import Unavailable
from imconnect.model import Applied, End, Kick, Message

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
        missed: Callable[[Message], None],
        unsettled: Callable[[int], Sequence[Message]],
    ) -> None:
        """`passed`: another node has taken this message; `nobody`: no node has it, this one included; `missed`: one of
        several nodes does not have it, or one that goes ahead of others did not arrive; `unsettled`: what was accepted
        for this user a moment ago and has not ended, in order."""
        self._clock = clock
        self._peer = peer
        self._routes = routes
        self._background = background
        self._passed = passed
        self._nobody = nobody
        self._missed = missed
        self._unsettled = unsettled
        self._lanes: defaultdict[int, Lane] = defaultdict(Lane)
        #: Things to users whose route is being asked for, or has changed while others are on the old one.
        self._routing: dict[int, list[Item]] = {}
        self._courses: dict[int, Course] = {}
        #: Users whose route was asked for when no message was on its way to them: the next one brings along the rest.
        self._unvisited: set[int] = set()
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

    def is_down(self, user: int) -> bool:
        """Whether every node on which this user is has just not answered."""
        nodes, now = self._known(user), self._clock.seconds()
        return bool(nodes) and all(now < self._lanes[node].down_until for node in nodes or ())

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
        nodes, course = self._known(user), self._courses.get(user)
        # On another way it could pass those that are under way.
        turns = isinstance(item, Flight) and course is not None and course.nodes != nodes
        if nodes is not None and not turns:
            if isinstance(item, Flight) and user in self._unvisited:
                for flight in sorted((*self._ahead(user, [item]), item), key=place):
                    self._spread(user, nodes, flight)
            else:
                self._spread(user, nodes, item)
            return
        self.waiting += 1
        self._routing.setdefault(user, []).append(item)
        if len(self._routing[user]) == 1 and course is None:
            self._ask(user)

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
            # In the order of the chats, also where some have been on their way before.
            items = self._routing.pop(user)
            self.waiting -= len(items)
            for item in sorted((*self._first(user, items), *items), key=place):
                self._spread(user, routes[user], item)

    def _first(self, user: int, items: Sequence[Item]) -> Sequence[Flight]:
        """A route was asked for: he may be somewhere new, where what this node has not brought to an end is not known
        if business lags. It goes ahead of the next message."""
        flights = [item for item in items if isinstance(item, Flight)]
        if not flights and len(self._unvisited) < WAITING:
            self._unvisited.add(user)
        return () if all(flight.late for flight in flights) else self._ahead(user, flights)

    def _ahead(self, user: int, flights: Sequence[Flight]) -> Sequence[Flight]:
        self._unvisited.discard(user)
        there = {flight.message.msg_id for flight in flights}
        return [
            Flight(message, here=False, late=True) for message in self._unsettled(user) if message.msg_id not in there
        ]

    def _spread(self, user: int, nodes: frozenset[int], item: Item) -> None:
        if isinstance(item, Flight):
            course = self._courses.setdefault(user, Course(nodes))
            course.out += 1
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
            answers = await within(self._peer.hand(node, parcel_of(items)), DEADLINE, self._clock)
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
        flight.missed = flight.missed or not taken
        flight.out -= 1
        if flight.out <= 0:
            self._landed(flight, afresh)

    def _landed(self, flight: Flight, afresh: bool) -> None:
        user = flight.message.receiver
        if afresh and not (flight.taken or flight.afresh):
            flight.afresh, flight.missed = True, False
            self._routes.forget(user)
            self.waiting += 1
            self._routing.setdefault(user, []).append(flight)
        else:
            self._ended(flight, flight.message)
        course = self._courses[user]
        course.out -= 1
        if not course.out:
            del self._courses[user]
            if user in self._routing:
                self._ask(user)

    def _ended(self, flight: Flight, message: Message) -> None:
        if flight.taken and not (flight.here or flight.late):
            self._passed(message)
        elif not (flight.taken or flight.here or flight.late):
            self._nobody(message)
        if flight.missed or (flight.late and not flight.taken):
            self._missed(message)
