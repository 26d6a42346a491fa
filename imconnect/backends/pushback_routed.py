"""What business has to tell people, told to the gateways that Redis names. Where Redis does not answer: to all that are
known, as without it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from imconnect.backends.grpc_channel import Credentials
from imconnect.backends.presence_store import Card, Directory
from imconnect.backends.pushback_grpc import GrpcPushback
from imconnect.backends.redis_calls import RedisCalls
from imconnect.core.background import Background
from imconnect.errors import Unavailable
from imconnect.model import Applied

_log = Logger()

#: Seconds between two looks at who lives.
EVERY = 3.0


class RoutedPushback(GrpcPushback):
    """The same towards the gateways that live, each told what concerns its people. One round trip to Redis per batch;
    `tell` never waits. `addresses`: gateways that are told everything, whatever Redis says."""

    def __init__(
        self,
        reactor: Any,
        calls: RedisCalls,
        addresses: Sequence[str],
        node: str,
        *,
        credentials: Credentials | None = None,
    ) -> None:
        super().__init__(reactor, addresses, node, credentials=credentials)
        self._addresses = addresses
        self._redis = calls
        self._directory = Directory(calls.client)
        self._background = Background(reactor)
        self._alive: Mapping[int, Card] = {}
        self._looking = False
        #: Why Redis did not answer last time; empty if it did.
        self.trouble = ""

    def start(self) -> None:
        self._redis.start()
        super().start()
        self._look_again()
        self._background.every(EVERY, self._look_again, "gateways")

    def stop(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._background.stop()
        await super().stop()
        await self._redis.stop()

    @property
    def away(self) -> list[str]:
        return [*super().away, *(["redis"] if self.trouble else [])]

    def tell(self, applied: Applied) -> None:
        if applied != Applied():
            # One thread asks, in order: so people are told in the order in which business applied it.
            self._background.run(self._tell(applied), "telling the gateways")

    async def _tell(self, applied: Applied) -> None:
        users = {receipt.sender for receipt in applied.receipts}.union(applied.hints)
        for withdrawal in applied.withdrawals:
            users.update((withdrawal.sender, withdrawal.receiver))
        try:
            routes = await self._redis.run(self._directory.routes, users)
        except Unavailable as error:
            self._is_away(error)
            super().tell(applied)
            return
        for address in self._addresses:
            self.tell_one(address, applied)
        for node, part in split(applied, routes).items():
            if node not in self._alive:
                await self._look()
            card = self._alive.get(node)
            if card is not None and card.address not in self._addresses:
                self.tell_one(card.address, part)

    def _look_again(self) -> None:
        if not self._looking:
            self._background.run(self._look(), "gateways")

    async def _look(self) -> None:
        self._looking = True
        try:
            self._alive, _ = await self._redis.run(self._directory.lives)
        except Unavailable as error:
            self._is_away(error)
        else:
            if self.trouble:
                _log.info("Redis answers again: gateways are told what concerns them")
            self.trouble = ""
            self.meet([*self._addresses, *(card.address for card in self._alive.values())])
        finally:
            self._looking = False

    def _is_away(self, error: Unavailable) -> None:
        if not self.trouble:
            _log.warn("Redis does not answer, every known gateway is told everything: {why}", why=str(error))
        self.trouble = str(error)


def split(applied: Applied, routes: Mapping[int, frozenset[int]]) -> dict[int, Applied]:
    """What concerns the people of each node."""
    parts: defaultdict[int, tuple[list[Any], dict[Any, None], list[int]]] = defaultdict(lambda: ([], {}, []))
    for receipt in applied.receipts:
        for node in routes[receipt.sender]:
            parts[node][0].append(receipt)
    for withdrawal in applied.withdrawals:
        for node in routes[withdrawal.sender] | routes[withdrawal.receiver]:
            parts[node][1][withdrawal] = None
    for user in applied.hints:
        for node in routes[user]:
            parts[node][2].append(user)
    return {
        node: Applied(tuple(receipts), tuple(withdrawals), tuple(hints))
        for node, (receipts, withdrawals, hints) in parts.items()
    }
