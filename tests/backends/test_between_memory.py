"""The memory twins of what is between nodes keep the contracts that the real ones keep."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from imconnect.backends.presence_memory import MemoryPresence, Registry
from imconnect.backends.sent_memory import Index, MemorySentIndex
from imconnect.core.ports import Presence
from tests.contracts.presence import PresenceContract
from tests.contracts.sent_index import SentIndexContract
from tests.support import ReactorTestCase


class MemoryPresenceTests(PresenceContract, ReactorTestCase):
    def setUp(self) -> None:
        self.registry = Registry()

    def node(self, number: int, owner: str = "") -> Presence:
        return MemoryPresence(self.registry, number)

    def die(self, node: Presence) -> Deferred[None]:
        assert isinstance(node, MemoryPresence)
        self.registry.expire(node.number)
        return succeed(None)

    def take_away(self) -> Deferred[None]:
        self.registry.reachable = False
        return succeed(None)

    def bring_back(self, *nodes: Presence) -> Deferred[None]:
        self.registry.reachable = True
        self.registry.routes.clear()
        self.registry.alive.clear()
        for node in nodes:
            assert isinstance(node, MemoryPresence)
            node.renew()
        return succeed(None)

    def heard(self) -> Deferred[None]:
        return succeed(None)


class MemorySentIndexTests(SentIndexContract, ReactorTestCase):
    def setUp(self) -> None:
        self.index = Index()

    def make(self) -> MemorySentIndex:
        return MemorySentIndex(self.index)

    def take_away(self) -> None:
        self.index.reachable = False
