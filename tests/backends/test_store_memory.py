"""The store in memory."""

from __future__ import annotations

from twisted.internet.task import Clock

from imconnect.backends.store_memory import MemoryPendingStore, MemoryStore
from imconnect.business.service import BusinessRules
from imconnect.business.store import Store
from imconnect.core.ports import PendingStore
from imconnect.errors import Unavailable
from tests.business.made import BEN, NOW, Everything, in_memory, sent
from tests.contracts.business import MessagesContract, RulesContract, StatusContract
from tests.contracts.business_edges import EarlyContract, JobsContract, ParkingContract, TransactionContract
from tests.contracts.pending_store import PendingStoreContract
from tests.support import TestCase


class _Memory(RulesContract):
    def make(self) -> Store:
        self.memory = MemoryStore()
        return self.memory

    def rows(self) -> Everything:
        return in_memory(self.memory.tables)


class MemoryMessagesTests(_Memory, MessagesContract, TestCase):
    """Storing."""


class MemoryStatusTests(_Memory, StatusContract, TestCase):
    """Acknowledging, offlining, withdrawing."""


class MemoryEarlyTests(_Memory, EarlyContract, TestCase):
    """What comes before its message."""


class MemoryParkingTests(_Memory, ParkingContract, TestCase):
    """What cannot be applied."""


class MemoryJobsTests(_Memory, JobsContract, TestCase):
    """Retention."""


class MemoryTransactionTests(_Memory, TransactionContract, TestCase):
    """All or nothing."""


class MemoryPendingStoreTests(PendingStoreContract, TestCase):
    """What the gateway reads."""

    def make(self) -> tuple[Store, PendingStore]:
        store = MemoryStore()
        return store, MemoryPendingStore(store)


class MemorySwitchTests(TestCase):
    """What only the memory store has."""

    def test_away(self) -> None:
        """A store that is away answers nobody, and keeps what it had."""
        store = MemoryStore()
        pending = MemoryPendingStore(store)
        business = BusinessRules(store, lambda: NOW)
        business.apply([sent(7)])
        store.away = "pulled the plug"
        self.assertRaises(Unavailable, business.apply, [sent(8)])
        self.failureResultOf(pending.owed(BEN, 0, 10), Unavailable)
        store.away = ""
        self.assertEqual(self.successResultOf(pending.known([7, 8])), {7})

    def test_delay(self) -> None:
        """With a clock an answer comes after the delay, and shows what is there then."""
        clock = Clock()
        store = MemoryStore()
        pending = MemoryPendingStore(store, clock, 2.0)
        known = pending.known([7])
        BusinessRules(store, lambda: NOW).apply([sent(7)])
        clock.advance(1.9)
        self.assertNoResult(known)
        clock.advance(0.1)
        self.assertEqual(self.successResultOf(known), {7})
