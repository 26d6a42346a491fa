"""What the nodes share beside the database: a server that says who is where and whose a clientMsgId is.

It may be away, slow, and come back without anything of what it held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, execute, succeed
from twisted.python.failure import Failure

from imconnect.backends.presence_memory import MemoryPresence, Registry
from imconnect.backends.sent_memory import Index, MemorySentIndex
from imconnect.errors import Unavailable
from imconnect.model import Claim, Claimed, Entered
from tests.simulation.across import Across
from tests.simulation.clock import Life, Timeline
from tests.simulation.faults import Faults
from tests.simulation.lines import Feed, Line

_T = TypeVar("_T")

#: Seconds between two renewals of a lease, and for which it runs.
RENEW, LEASE = 1.5, 4.0
#: Seconds that the server may take for one call.
PRESENCE, SENT = 0.5, 0.2


class Shared:
    """The server, and the leases that run out in it."""

    def __init__(self, timeline: Timeline, faults: Faults, across: Across) -> None:
        self.registry, self.index = Registry(), Index()
        self.faults = faults
        self.across = across
        self.network = Life(timeline)
        self.feeds: dict[int, Feed] = {}
        self._until: dict[int, float] = {}

    def renewed(self, node: int) -> None:
        """This node's lease runs for so long from now."""
        self._until[node] = self.network.seconds() + LEASE
        self.network.callLater(LEASE, self._look, node)

    def _look(self, node: int) -> None:
        if node in self.registry.alive and self.network.seconds() >= self._until[node]:
            feed = self.registry.watchers.get(node)
            self.registry.expire(node)
            if feed is not None:
                # Its connection lives, if it does.
                self.registry.watchers[node] = feed

    def take_away(self, forget: bool) -> None:
        """`forget`: everything is gone when it comes back."""
        self.registry.reachable = self.index.reachable = False
        if forget:
            self.registry.alive.clear()
            self.registry.routes.clear()
            self.index.claims.clear()
            self.index.ended.clear()
            self.across.forgot()
        for feed in self.feeds.values():
            feed.cut()

    def bring_back(self) -> None:
        self.registry.reachable = self.index.reachable = True


class SharedPresence:
    """`core.ports.Presence` of one life of a node, with the renewals of `backends.presence_redis`."""

    def __init__(self, shared: Shared, life: Life, number: int) -> None:
        self._shared = shared
        self._life = life
        self._number = number
        self._memory = MemoryPresence(shared.registry, number)
        self._line = Line(shared, life, "presence", PRESENCE)
        self._here: dict[int, None] = {}
        self._gone: dict[int, None] = {}
        self._behind = False
        self._trouble = False
        self._closed = False

    def open(self) -> Deferred[None]:
        """The node id is its owner's: it takes over from an earlier life of his at once."""
        registry = self._shared.registry
        registry.alive.pop(self._number, None)
        opened = self._memory.open()
        if registry.reachable:
            self._shared.renewed(self._number)
            for node, (_, lost) in registry.watchers.items():
                if node != self._number:
                    lost()
        else:
            del registry.alive[self._number]
        self._life.callLater(RENEW, self._renew)
        return opened

    def enter(self, user: int, device: str) -> Deferred[Entered]:
        self._here[user] = None
        self._gone.pop(user, None)
        return self._line.run(lambda: self._memory.enter(user, device)).addErrback(self._missed)

    def leave(self, user: int) -> None:
        self._here.pop(user, None)
        self._gone[user] = None
        self._line.run(lambda: execute(self._memory.leave, user)).addErrback(self._missed).addErrback(lambda _: None)

    def routes(self, users: Collection[int]) -> Deferred[Mapping[int, frozenset[int]]]:
        wanted = list(users)

        def failed(failure: Failure) -> Failure:
            self._shared.across.lost_sight(self._life)
            return failure

        return self._line.run(lambda: self._memory.routes(wanted)).addErrback(failed)

    def watch(self, changed: Callable[[int], None], lost: Callable[[], None]) -> None:
        self._lost = lost
        feed = self._shared.feeds[self._number] = Feed(self._shared, self._life, changed, lost)
        self._memory.watch(feed.changed, feed.lost)

    def away(self) -> bool:
        return self._trouble

    def close(self) -> Deferred[None]:
        self._closed = True
        return self._memory.close() if self._shared.registry.reachable else succeed(None)

    def _missed(self, failure: Failure) -> Failure:
        self._behind = True
        return failure

    def _renew(self) -> None:
        if not self._closed:
            self._line.run(self._renewed).addCallbacks(self._is_back, self._is_away)
            self._life.callLater(RENEW, self._renew)

    def _renewed(self) -> Deferred[None]:
        alive = self._shared.registry.alive
        new = self._number not in alive
        if self._closed or not self._life.alive:
            return succeed(None)
        if new or self._behind:
            self._behind = False
            for user in tuple(self._gone):
                self._memory.leave(user)
            self._gone.clear()
            self._memory.renew()
            for user in tuple(self._here):
                self._memory.enter(user, "")
        self._shared.renewed(self._number)
        return succeed(None)

    def _is_away(self, failure: Failure) -> None:
        failure.trap(Unavailable)
        self._trouble = self._behind = True

    def _is_back(self, _: None) -> None:
        if self._trouble:
            self._trouble = False
            self._lost()


class SharedIndex:
    """`core.ports.SentIndex` of one life of a node."""

    def __init__(self, shared: Shared, life: Life, number: int) -> None:
        self._memory = MemorySentIndex(shared.index)
        self._across = shared.across
        self._number = number
        self._line = Line(shared, life, "index", SENT)

    def claim(self, claims: Sequence[Claim]) -> Deferred[Sequence[Claimed | None]]:
        asked = list(claims)
        answer = self._run(lambda: self._memory.claim(asked))

        def answered(there: Sequence[Claimed | None]) -> Sequence[Claimed | None]:
            self._across.claimed(self._number, asked, there)
            return there

        return answer.addCallback(answered)

    def settle(self, claims: Sequence[Claim], ended: Sequence[tuple[int, int]]) -> Deferred[None]:
        settled, over = list(claims), list(ended)

        def work() -> Deferred[None]:
            self._across.index_has(over)
            return self._memory.settle(settled, over)

        return self._run(work)

    def release(self, claims: Sequence[Claim]) -> Deferred[None]:
        released = list(claims)
        return self._run(lambda: self._memory.release(released))

    def ended(self, user: int, msg_ids: Collection[int]) -> Deferred[set[int]]:
        wanted = list(msg_ids)
        return self._run(lambda: self._memory.ended(user, wanted))

    def _run(self, work: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        def failed(failure: Failure) -> Failure:
            self._across.index_failed(self._number)
            return failure

        return self._line.run(work).addErrback(failed)
