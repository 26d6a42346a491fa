"""The store on SQLite, through SQLAlchemy."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, Select, select, text
from sqlalchemy.dialects import mysql

from imconnect.backends.sql import queries, schema
from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.keys import delete_text, select_text
from imconnect.backends.sql.migrate import ensure_schema
from imconnect.backends.sql.writes import Writes
from imconnect.backends.store_sql import SqlPendingStore, SqlStore
from imconnect.business.service import BusinessRules
from imconnect.business.store import Store
from imconnect.core.ports import PendingStore
from imconnect.errors import Unavailable
from tests.business.made import BEN, NOW, AtOnce, Everything, ack, in_database, sent
from tests.contracts.business import MessagesContract, RulesContract, StatusContract
from tests.contracts.business_edges import EarlyContract, JobsContract, ParkingContract, TransactionContract
from tests.contracts.pending_store import PendingStoreContract
from tests.support import TestCase


def engine_for(case: TestCase) -> Engine:
    """A new database file with its schema, closed after the test."""
    engine = make_engine(case.mktemp(), sync="normal")
    case.addCleanup(engine.dispose)
    ensure_schema(engine)
    return engine


class _Sqlite(RulesContract):
    def make(self) -> Store:
        self.engine = engine_for(self)
        return SqlStore(self.engine)

    def rows(self) -> Everything:
        return in_database(self.engine)


class SqlMessagesTests(_Sqlite, MessagesContract, TestCase):
    """Storing."""


class SqlStatusTests(_Sqlite, StatusContract, TestCase):
    """Acknowledging, offlining, withdrawing."""


class SqlEarlyTests(_Sqlite, EarlyContract, TestCase):
    """What comes before its message."""


class SqlParkingTests(_Sqlite, ParkingContract, TestCase):
    """What cannot be applied."""


class SqlJobsTests(_Sqlite, JobsContract, TestCase):
    """Retention."""


class SqlTransactionTests(_Sqlite, TransactionContract, TestCase):
    """All or nothing."""


class SqlPendingStoreTests(PendingStoreContract, TestCase):
    """What the gateway reads."""

    def make(self) -> tuple[Store, PendingStore]:
        engine = engine_for(self)
        return SqlStore(engine), SqlPendingStore(engine, AtOnce())


class FaultTests(TestCase):
    """A database that fails."""

    def setUp(self) -> None:
        self.engine = engine_for(self)
        self.business = BusinessRules(SqlStore(self.engine), lambda: NOW)

    def test_disk_full(self) -> None:
        """Nothing is committed, Unavailable says why, and with room again the same batch is applied."""
        with self.engine.connect() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        raw = self.engine.raw_connection()
        raw.cursor().execute(f"PRAGMA max_page_count={pages + 2}")
        raw.close()
        batch = [sent(i, content="x" * 5000) for i in range(1, 30)]
        error = self.assertRaises(Unavailable, self.business.apply, batch)
        self.assertIn("full", str(error))
        self.assertEqual(in_database(self.engine).messages, [])
        self.assertEqual(self.business.counts.messages, 0)
        raw = self.engine.raw_connection()
        raw.cursor().execute("PRAGMA max_page_count=100000")
        raw.close()
        self.business.apply(batch)
        self.assertEqual(len(in_database(self.engine).messages), 29)

    def test_schema_is_away(self) -> None:
        """An older database without one of the tables is away, for business and for the gateway."""
        with self.engine.begin() as connection:
            connection.execute(text("DROP TABLE im_offline_message"))
        self.assertRaises(Unavailable, self.business.apply, [sent(1)])
        self.failureResultOf(SqlPendingStore(self.engine, AtOnce()).owed(BEN, 0, 5), Unavailable)

    def test_locked(self) -> None:
        """A database that somebody else holds is away after the driver's wait."""
        other = make_engine(str(self.engine.url.database))
        self.addCleanup(other.dispose)
        raw = self.engine.raw_connection()
        raw.cursor().execute("PRAGMA busy_timeout=1")
        raw.close()
        holder = other.raw_connection()
        self.addCleanup(holder.close)
        holder.cursor().execute("BEGIN IMMEDIATE")
        self.assertRaises(Unavailable, self.business.apply, [sent(1)])
        holder.cursor().execute("ROLLBACK")
        self.business.apply([sent(1)])
        self.assertEqual(len(in_database(self.engine).messages), 1)

    def test_readers_do_not_wait_for_a_writer(self) -> None:
        """A page is read while a batch is being written, and shows what was committed before."""
        self.business.apply([sent(1)])
        pending = SqlPendingStore(self.engine, AtOnce())
        with SqlStore(self.engine).transaction() as unit:
            unit.drop_early(NOW, 1)
            self.assertEqual(len(self.successResultOf(pending.owed(BEN, 0, 5))), 1)

    def test_errors_do_not_quote_bodies(self) -> None:
        """The text of a message is in no exception."""
        with self.engine.begin() as connection:
            connection.execute(text("DROP TABLE im_session"))
        error = self.assertRaises(Unavailable, self.business.apply, [sent(1, content="a secret"), ack(1, 3)])
        self.assertNotIn("a secret", f"{error} {error.__cause__}")


class IndexTests(TestCase):
    """Every statement searches an index: none reads a whole table."""

    def setUp(self) -> None:
        self.engine = engine_for(self)

    def steps(self, statement: Select[Any] | str, values: tuple[Any, ...] = ()) -> list[str]:
        """SQLite's plan."""
        sql = statement
        if not isinstance(sql, str):
            sql = str(sql.compile(self.engine, compile_kwargs={"literal_binds": True}))
        with self.engine.connect() as connection:
            return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]

    def check_steps(self, name: str, steps: list[str]) -> None:
        self.assertTrue([step for step in steps if step.startswith("SEARCH im_")], f"{name}: {steps}")
        self.assertEqual([step for step in steps if step.startswith("SCAN im_")], [], f"{name}: {steps}")

    def test_reads(self) -> None:
        """Queries."""
        statements = {
            "owed": queries.owed(1, 2, 3),
            "known": queries.known([1, 2]),
            "overdue": queries.overdue([1, 2], 3, 4),
            "find": queries.find(1),
            "notices": queries.notices(1, 2, 3),
            "states": queries.states(1, ["a", "b"]),
            "messages": queries.messages([1, 2]),
            "early_of": queries.early_of([1, 2]),
            "early_counts": queries.early_counts([1, 2]),
            "oldest_early": queries.oldest_early(1, 2),
            "purgeable": queries.purgeable(1, 2),
        }
        for name, statement in statements.items():
            self.check_steps(name, self.steps(statement))

    def test_rows_by_compound_keys(self) -> None:
        """Many keys at once."""
        for table, columns in (
            (schema.message, ("from_id", "client_msg_id")),
            (schema.session, ("user_id", "chat_id")),
        ):
            self.check_steps(table.name, self.steps(select_text("sqlite", table, columns, 3), (1, "a") * 3))
        for table in (schema.message, schema.session, schema.offline, schema.early, schema.notice):
            keys = (1,) * len(table.primary_key.columns)
            self.check_steps(table.name, self.steps(delete_text("sqlite", table, 1), keys))

    def test_pages_are_not_sorted(self) -> None:
        """What comes in the order of an index is not sorted again: a page costs what is in it."""
        columns = schema.message.c
        history = select(*columns).where(columns.chat_id == "c", columns.msg_id < 9).order_by(columns.msg_id.desc())
        self.check_steps("history", self.steps(history.limit(50)))
        for statement in (
            queries.owed(1, 2, 3),
            queries.notices(1, 2, 3),
            queries.messages([1, 2]),
            queries.early_of([1, 2]),
            queries.oldest_early(1, 2),
            queries.purgeable(1, 2),
            history.limit(50),
        ):
            steps = " ".join(self.steps(statement))
            self.assertNotIn("TEMP B-TREE", steps, str(statement))


class MysqlTextTests(TestCase):
    """What MariaDB and MySQL are told; that they take it is for the live tests."""

    def test_compound_keys(self) -> None:
        """Locked in the order of the key, and one statement for many rows."""
        self.assertEqual(
            select_text("mysql", schema.offline, ("user_id", "msg_id"), 2),
            "SELECT im_offline_message.user_id, im_offline_message.msg_id, im_offline_message.create_time "
            "FROM im_offline_message WHERE (user_id, msg_id) IN ((%s, %s), (%s, %s)) ORDER BY user_id, msg_id FOR UPDATE",
        )
        self.assertEqual(
            delete_text("mysql", schema.offline, 2),
            "DELETE FROM im_offline_message WHERE (user_id, msg_id) IN ((%s, %s), (%s, %s))",
        )

    def test_inserts(self) -> None:
        """Rows that exist are changed or left; nothing follows VALUES but ON DUPLICATE KEY."""
        writes = Writes("mysql")
        self.assertEqual(
            writes.session,
            "INSERT INTO im_session (user_id, chat_id, peer_id, last_msg_id, last_msg_time, unread_count) "
            "VALUES (%s, %s, %s, %s, %s, %s) ON DUPLICATE KEY UPDATE last_msg_id = VALUES(last_msg_id), "
            "last_msg_time = VALUES(last_msg_time), unread_count = VALUES(unread_count)",
        )
        self.assertTrue(writes.offline.endswith("ON DUPLICATE KEY UPDATE user_id = im_offline_message.user_id"))

    def test_locks(self) -> None:
        """Messages are read for update."""
        self.assertIn("FOR UPDATE", str(queries.messages([1]).compile(dialect=mysql.dialect())))
