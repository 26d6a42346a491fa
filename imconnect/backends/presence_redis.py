"""Presence in Redis: routes of users and leases of nodes, renewed in bulk; what was missed while it was away is written
again when it is back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import islice

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.backends.presence_feed import Feed
from imconnect.backends.presence_store import CHUNK, ROUTE_SECONDS, Card, PresenceStore, Round
from imconnect.backends.redis_calls import RedisCalls
from imconnect.core.background import Background
from imconnect.errors import ConfigError, Unavailable
from imconnect.model import Entered

_log = Logger()

#: Seconds between two renewals, and for which a lease runs without one.
RENEW, LEASE = 3.0, 12.0


class RedisPresence:
    """`core.ports.Presence` and the registry of nodes. `open` starts it."""

    def __init__(
        self,
        reactor: IReactorTime,
        calls: RedisCalls,
        feed: Feed,
        card: Card,
        owner: str,
        *,
        taken: Callable[[str], None],
    ) -> None:
        """`taken`: called when it turns out later that another process has this node id: this one must end."""
        self._calls = calls
        self._feed = feed
        self._card = card
        self._store = PresenceStore(calls.client, card, owner, LEASE)
        self._background = Background(reactor)
        self._clock = reactor
        self._taken = taken
        #: Who is here, and who left while Redis was away.
        self._here: dict[int, None] = {}
        self._gone: dict[int, None] = {}
        #: Something could not be written: everybody's route is written again when it can.
        self._behind = False
        self._written_at = 0.0
        self._renewing = False
        self._alive: Mapping[int, Card] = {}
        self._changed: Callable[[int], None] = lambda user: None
        self._lost: Callable[[], None] = lambda: None
        #: Why Redis did not answer last time; empty if it did.
        self.trouble = ""

    # -- the port

    async def _open(self) -> None:
        self._calls.start()
        try:
            found = await self._calls.run(self._store.renew)
        except Unavailable as error:
            self._is_away(error)
        else:
            if found.taken_by:
                raise ConfigError("node.id", f"expected another one: {self._card.node} is in use by {found.taken_by}")
            self._learn(found)
        self._written_at = self._clock.seconds()
        self._feed.start(self._changed_elsewhere, lambda: self._lost())
        self._background.every(RENEW, self._renew_soon, "presence")

    def open(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._open())

    def enter(self, user: int, device: str) -> Deferred[Entered]:
        self._here[user] = None
        self._gone.pop(user, None)
        entered = self._calls.run(self._store.enter, user)
        return entered.addErrback(self._missed)

    def leave(self, user: int) -> None:
        self._here.pop(user, None)
        self._gone[user] = None

        def left(_: None) -> None:
            if user not in self._here:
                self._gone.pop(user, None)

        self._calls.run(self._store.leave, (user,)).addCallbacks(left, self._not_left)

    def routes(self, users: Collection[int]) -> Deferred[Mapping[int, frozenset[int]]]:
        return Deferred.fromCoroutine(self._routes(tuple(users)))

    def watch(self, changed: Callable[[int], None], lost: Callable[[], None]) -> None:
        self._changed, self._lost = changed, lost

    def away(self) -> bool:
        return bool(self.trouble)

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    # -- the registry

    def others(self) -> Mapping[int, Card]:
        """The other nodes that live, as of the last renewal."""
        return {node: card for node, card in self._alive.items() if node != self._card.node}

    def address(self, node: int) -> str | None:
        """Where the gRPC port of a node is; None where it does not live."""
        card = self._alive.get(node)
        return card.address if card else None

    async def _routes(self, users: Collection[int]) -> Mapping[int, frozenset[int]]:
        found = await self._calls.run(self._store.routes, users)
        if not self._alive.keys() >= frozenset[int]().union(*found.values()):
            # A node that came since the last renewal: without its address nobody could reach its people.
            self._alive, _ = await self._calls.run(self._store.lives)
        return found

    async def _close(self) -> None:
        self._feed.stop()
        await self._background.stop()
        try:
            await self._in_chunks(self._store.leave, {**self._here, **self._gone})
            await self._calls.run(self._store.unregister)
        except Unavailable as error:
            _log.warn("routes to this node stay until its lease ends: {why}", why=str(error))
        await self._calls.stop()

    # -- renewal

    def _renew_soon(self) -> None:
        # One at a time: a server that hangs must not find a queue of them when it goes on.
        if not self._renewing:
            self._renewing = True
            self._background.run(self._renew(), "presence")

    async def _renew(self) -> None:
        try:
            found = await self._calls.run(self._store.renew)
            if found.taken_by:
                self._taken(found.taken_by)
                return
            self._is_back()
            self._learn(found)
            if found.new or self._behind or self._clock.seconds() - self._written_at > ROUTE_SECONDS / 3:
                await self._write_again()
            for card in found.dead:
                await self._calls.run(self._store.tidy, card)
                _log.info("node {node} has died: its routes are gone", node=card.node)
        except Unavailable as error:
            self._is_away(error)
        finally:
            self._renewing = False

    async def _write_again(self) -> None:
        self._behind = False
        try:
            await self._in_chunks(self._store.leave, self._gone)
            self._gone.clear()
            await self._in_chunks(self._store.write, self._here)
            await self._calls.run(self._store.publish_all)
        except Unavailable:
            self._behind = True
            raise
        self._written_at = self._clock.seconds()

    async def _in_chunks(self, call: Callable[[list[int]], None], users: Mapping[int, None]) -> None:
        rest = iter(list(users))
        while part := list(islice(rest, CHUNK)):
            # Whoever came or went meanwhile has been seen to, behind what was written here.
            await self._calls.run(call, [user for user in part if user in users])

    def _learn(self, found: Round) -> None:
        boots = {node: card.boot for node, card in found.alive.items()}
        before = {node: card.boot for node, card in self._alive.items()}
        self._alive = found.alive
        if any(boots.get(node) != boot for node, boot in before.items()):
            self._lost()

    def _changed_elsewhere(self, user: int, node: int) -> None:
        if node != self._card.node:
            self._changed(user)

    # -- away and back

    def _missed(self, failure: Failure) -> Failure:
        self._behind = True
        return failure

    def _not_left(self, failure: Failure) -> None:
        failure.trap(Unavailable)
        self._behind = True

    def _is_away(self, error: Unavailable) -> None:
        if not self.trouble:
            _log.warn("presence is away, this node is alone for now: {why}", why=str(error))
        self.trouble = str(error)
        self._behind = True

    def _is_back(self) -> None:
        if self.trouble:
            _log.info("presence is back")
            self.trouble = ""
            self._lost()
