"""A real MariaDB that fails in every way, under the real rules and the real store.

What "exactly once" means here: the rows are those of the store in memory that got the same events once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event as Flag
from threading import Thread
from typing import Any

import pymysql
from sqlalchemy import Connection, Engine, event

from imconnect.backends.sql.engine import make_engine
from imconnect.backends.store_memory import MemoryStore
from imconnect.backends.store_sql import SqlPendingStore, SqlStore
from imconnect.business.service import BusinessRules
from imconnect.errors import Unavailable
from imconnect.events.values import Event
from tests.business.made import BEN, NOW, AtOnce, ack, in_database, in_memory, offlined, sent, withdraw
from tests.live.mariadb import engine_for, server
from tests.support import TestCase

FIRST: Sequence[Event] = [sent(number) for number in range(1, 9)]
#: Touches every table but the parked ones: new and known messages, ends of both, an early one.
BATCH: Sequence[Event] = [
    ack(1, 3), ack(2, 4), withdraw(3), offlined(4), sent(9), offlined(10), sent(11), ack(11, 4), ack(99, 3),
]  # fmt: skip
#: Where a batch is hit.
STATEMENTS = ("SELECT im_c2c_message", "INSERT INTO im_c2c_message", "INSERT INTO im_session", "DELETE FROM im_offline")


class FaultTestCase(TestCase):
    """One business with a short temper, and a way to the server past it."""

    answer_within = 20.0

    def setUp(self) -> None:
        self.server = server()
        self.engine = engine_for(self, "faults", answer_within=self.answer_within)
        self.business = BusinessRules(SqlStore(self.engine), lambda: NOW)
        self.business.apply(FIRST)

    def fails(self, text: str = "") -> None:
        """The batch is not applied; nothing of it is there, or all of it."""
        error = self.assertRaises(Unavailable, self.business.apply, BATCH)
        self.assertIn(text, str(error))
        self.assertNotIn("hello", f"{error} {error.__cause__}")
        rows = in_database(self.look())
        self.assertIn(rows, (self.wanted(FIRST), self.wanted(FIRST, BATCH)))

    def succeeds(self) -> None:
        """The same batch again, and one more: everything is there once."""
        self.business.apply(BATCH)
        self.assertEqual(in_database(self.engine), self.wanted(FIRST, BATCH))
        self.business.apply([sent(12)])
        self.assertEqual(in_database(self.engine), self.wanted(FIRST, BATCH, [sent(12)]))

    def wanted(self, *batches: Sequence[Event]) -> Any:
        store = MemoryStore()
        business = BusinessRules(store, lambda: NOW)
        for batch in batches:
            business.apply(batch)
        return in_memory(store.tables)

    def look(self) -> Engine:
        """Another engine, which no fault is set up for."""
        engine = make_engine(self.engine.url.render_as_string(hide_password=False))
        self.addCleanup(engine.dispose)
        return engine

    def once_before(self, statement: str, act: Callable[[Connection], None]) -> None:
        """Do this when business is about to send such a statement for the first time."""
        done: list[bool] = []

        def before(connection: Connection, _cursor: object, sql: str, *_more: object) -> None:
            if not done and statement in sql.replace("\n", " "):
                done.append(True)
                act(connection)

        event.listen(self.engine, "before_cursor_execute", before)
        self.addCleanup(lambda: self.assertTrue(done, statement))

    def kill(self, connection: Connection) -> None:
        """The server ends this connection."""
        driver: Any = connection.connection.dbapi_connection
        self.server.query(f"KILL {driver.thread_id()}")

    def raw(self) -> Any:
        """A connection of somebody else, in a transaction."""
        url = self.engine.url
        connection = pymysql.connect(
            host=url.host, port=url.port or 0, user=url.username, password=url.password or "", database=url.database
        )
        self.addCleanup(lambda: connection.open and connection.close())
        return connection

    def applied_aside(self) -> tuple[Thread, list[BaseException]]:
        """The batch on a thread of its own; what it raises."""
        raised: list[BaseException] = []

        def run() -> None:
            try:
                self.business.apply(BATCH)
            except Unavailable as error:
                raised.append(error)

        thread = Thread(target=run)
        thread.start()
        return thread, raised


class LockTests(FaultTestCase):
    """Somebody else has rows that the batch needs."""

    answer_within = 4.0

    def test_deadlock(self) -> None:
        """Each waits for the other: the server ends the smaller transaction, and the batch comes again whole."""
        other = self.raw()
        cursor = other.cursor()
        # It has changed more than the batch, so it is the batch that goes.
        cursor.execute("INSERT INTO im_event_parked SELECT 'T', 1, seq, '', '', 0 FROM seq_1_to_200")
        cursor.execute("UPDATE im_session SET unread_count = unread_count")
        reached = Flag()
        # The messages are locked, the sessions come next.
        self.once_before("FROM im_session", lambda _: reached.set())
        thread, raised = self.applied_aside()
        self.assertTrue(reached.wait(5))
        cursor.execute("UPDATE im_c2c_message SET msg_status = msg_status WHERE msg_id = 1")
        thread.join(10)
        other.rollback()
        (error,) = raised
        self.assertIn("1213", str(error))
        self.assertEqual(in_database(self.engine), self.wanted(FIRST))
        self.succeeds()

    def test_lock_wait(self) -> None:
        """Rows that somebody holds for long: Unavailable before the deadline of an answer, then all of it."""
        other = self.raw()
        other.cursor().execute("UPDATE im_session SET unread_count = unread_count")
        self.fails("1205")  # and not 2013, which would be the deadline
        other.rollback()
        self.succeeds()

    def test_same_chat_at_once(self) -> None:
        """Another message of the chat, by another process, between what a batch reads and what it writes: it waits,
        and neither unread message is forgotten."""
        other = BusinessRules(SqlStore(self.look()), lambda: NOW)
        other.stock()  # connected
        thread = Thread(target=other.apply, args=([sent(30)],))

        def meanwhile(_: object) -> None:
            thread.start()
            thread.join(1.0)

        self.once_before("INSERT INTO im_c2c_message", meanwhile)
        self.business.apply(BATCH)
        thread.join(10)
        self.assertEqual(in_database(self.engine), self.wanted(FIRST, BATCH, [sent(30)]))

    def test_two_writers(self) -> None:
        """The same and overlapping batches from two processes' worth of threads: everything once, whoever wins."""
        events = [[sent(n), sent(n + 1), ack(n, 4), withdraw(n - 1)] for n in range(20, 90)]
        failures: list[BaseException] = []

        def work(order: int) -> None:
            business = BusinessRules(SqlStore(self.engine), lambda: NOW)
            for batch in events:
                for attempt in range(50):
                    try:
                        business.apply(batch[::order])
                    except Unavailable:
                        time.sleep(0.002 * attempt)
                    else:
                        break
                else:
                    failures.append(AssertionError(f"never applied: {batch}"))

        threads = [Thread(target=work, args=(order,)) for order in (1, -1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(failures, [])
        BusinessRules(SqlStore(self.engine), lambda: NOW).settle_early(NOW)
        self.assertEqual(in_database(self.engine)._replace(early=[]), self.wanted(FIRST, *events)._replace(early=[]))


class LostConnectionTests(FaultTestCase):
    """The connection ends, at the worst moments."""

    def test_killed_between_two_statements(self) -> None:
        """Wherever in the batch: nothing of it stays, and the next attempt finds a connection by itself."""
        for statement in STATEMENTS:
            self.setUp()
            self.once_before(statement, self.kill)
            self.fails("database: OperationalError")
            self.assertEqual(in_database(self.engine), self.wanted(FIRST), statement)
            self.succeeds()

    def test_killed_while_idle(self) -> None:
        """A connection that died in the pool is noticed before it is used: not even an attempt fails."""
        with self.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
        self.server.query(f"KILL {driver.thread_id()}")
        self.succeeds()

    def test_lost_before_the_commit(self) -> None:
        """The server never heard of the commit: nothing is there."""
        self.at_commit(self.kill)
        self.fails("database")
        self.assertEqual(in_database(self.engine), self.wanted(FIRST))
        self.succeeds()

    def test_lost_after_the_commit(self) -> None:
        """The server committed and nobody heard: everything is there, and the same batch again changes nothing."""

        def commit_and_die(connection: Connection) -> None:
            driver: Any = connection.connection.dbapi_connection
            driver.commit()
            self.kill(connection)

        self.at_commit(commit_and_die)
        self.fails("database")
        self.assertEqual(in_database(self.engine), self.wanted(FIRST, BATCH))
        self.succeeds()
        self.assertEqual(self.business.counts.messages, len(FIRST) + 1)

    def at_commit(self, act: Callable[[Connection], None]) -> None:
        done: list[bool] = []

        def commit(connection: Connection) -> None:
            if not done:
                done.append(True)
                act(connection)

        event.listen(self.engine, "commit", commit)

    def test_readers(self) -> None:
        """What the gateway reads is Unavailable once, and there again at the next call."""
        pending = SqlPendingStore(self.engine, AtOnce())
        self.once_before("FROM im_offline_message", self.kill)
        self.failureResultOf(pending.owed(BEN, 0, 100), Unavailable)
        self.assertEqual(len(self.successResultOf(pending.owed(BEN, 0, 100))), len(FIRST))


class ServerTests(FaultTestCase):
    """The server itself: it hangs, dies, is full."""

    answer_within = 1.0

    def test_hangs(self) -> None:
        """SIGSTOP for longer than an answer may take, in the middle of a batch and before one; then all of it."""
        self.once_before("INSERT INTO im_session", lambda _: self.server.pause())
        self.addCleanup(self.server.resume)
        for _ in range(2):
            begun = time.monotonic()
            self.assertRaises(Unavailable, self.business.apply, BATCH)
            self.assertLess(time.monotonic() - begun, 4)
        self.server.resume()
        self.succeeds()

    def test_dies(self) -> None:
        """kill -9 in the middle of a batch: what was committed is there when the server is back, the batch is not."""
        self.once_before("INSERT INTO im_session", lambda _: self.server.kill9())
        self.addCleanup(self.back)
        self.assertRaises(Unavailable, self.business.apply, BATCH)
        self.assertRaises(Unavailable, self.business.apply, BATCH)
        self.back()
        self.assertEqual(in_database(self.engine), self.wanted(FIRST))
        self.succeeds()

    def back(self) -> None:
        if not self.server.runs:
            self.server.start()

    def test_takes_no_more_connections(self) -> None:
        """max_connections: Unavailable names it; when somebody leaves, all of it."""
        ((limit,),) = self.server.query("SELECT @@GLOBAL.max_connections")
        others = [self.raw()]
        self.addCleanup(lambda: others[0].cursor().execute(f"SET GLOBAL max_connections = {limit}"))
        self.server.query("SET GLOBAL max_connections = 10")
        self.engine.dispose()
        with self.assertRaises(pymysql.err.OperationalError):
            while len(others) < 50:
                others.append(self.raw())
        error = self.assertRaises(Unavailable, self.business.apply, BATCH)
        self.assertIn("1040", str(error))
        for other in others[1:]:
            other.close()
        self.succeeds()
