"""The store on a real MariaDB: the same behaviours as in memory and on SQLite.

Skipped where there is no MariaDB and we may not install it, except in CI.
"""

from __future__ import annotations

from hypothesis import given, settings
from sqlalchemy import Engine

from imconnect.backends.store_sql import SqlPendingStore, SqlStore
from imconnect.business.service import BusinessRules
from imconnect.business.store import Store
from imconnect.core.ports import PendingStore
from imconnect.events.values import Event
from tests.business import test_twins
from tests.business.made import BEN, NOW, AtOnce, Everything, client_id, in_database, sent
from tests.contracts.business import MessagesContract, RulesContract, StatusContract
from tests.contracts.business_edges import EarlyContract, JobsContract, ParkingContract, TransactionContract
from tests.contracts.pending_store import PendingStoreContract
from tests.live.mariadb import engine_for
from tests.support import TestCase


class _MariaDb(RulesContract):
    engine: Engine

    def make(self) -> Store:
        self.engine = engine_for(self)
        return SqlStore(self.engine)

    def rows(self) -> Everything:
        return in_database(self.engine)


class MessagesTests(_MariaDb, MessagesContract, TestCase):
    """Storing."""


class StatusTests(_MariaDb, StatusContract, TestCase):
    """Acknowledging, offlining, withdrawing."""


class EarlyTests(_MariaDb, EarlyContract, TestCase):
    """What comes before its message."""


class ParkingTests(_MariaDb, ParkingContract, TestCase):
    """What cannot be applied."""


class JobsTests(_MariaDb, JobsContract, TestCase):
    """Retention."""


class TransactionTests(_MariaDb, TransactionContract, TestCase):
    """All or nothing."""


class PendingStoreTests(PendingStoreContract, TestCase):
    """What the gateway reads."""

    def make(self) -> tuple[Store, PendingStore]:
        engine = engine_for(self)
        return SqlStore(engine), SqlPendingStore(engine, AtOnce())


class TwinTests(test_twins.TwinCase):
    def setUp(self) -> None:
        self.engine = engine_for(self)

    @settings(max_examples=15, deadline=None)
    @given(test_twins.BATCHES)
    def test_same_rows(self, batches: list[list[Event]]) -> None:
        """MariaDB does what memory does."""
        self.check_same_rows(batches)


class TextTests(TestCase):
    """What people write."""

    def setUp(self) -> None:
        self.engine = engine_for(self)
        self.business = BusinessRules(SqlStore(self.engine), lambda: NOW)

    def test_every_kind_of_text(self) -> None:
        """Emoji of several code points, right-to-left, quotes, percent signs, NUL: what comes out is what went in."""
        texts = [
            "👨‍👩‍👧‍👦🏴‍☠️",
            "مرحبا بالعالم",
            "'; DROP TABLE im_session; --",
            "100 % of %s",
            'a "b" \\n c',
            "a\x00b",
            "\U0010ffff",
            " ",
        ]
        self.business.apply([sent(i, content=text) for i, text in enumerate(texts, 1)])
        pending = SqlPendingStore(self.engine, AtOnce())
        page = self.successResultOf(pending.owed(BEN, 0, 100))
        self.assertEqual([row.message.content for row in page], texts)

    def test_longest_text(self) -> None:
        """A text of 4 MB is stored whole; one that the server does not take in one packet is not cut."""
        text = "世" * 1_400_000
        self.business.apply([sent(1, content=text), sent(2)])
        self.assertEqual([len(row.content) for row in in_database(self.engine).messages], [1_400_000, 11])

    def test_case_of_ids(self) -> None:
        """Ids are compared byte by byte, and a batch of repeats and new ones is told apart."""
        one, two = (bytes.fromhex(digits * 16) for digits in ("ab", "cd"))
        self.business.apply([sent(1, client=one), sent(2, client=two)])
        self.business.apply([sent(3, client=one), sent(4, client=client_id(4))])
        self.assertEqual([row.msg_id for row in in_database(self.engine).messages], [1, 2, 4])
        self.assertEqual(self.business.counts.late_duplicates, 1)
