"""The outbox on SQLite."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from imconnect.backends import outbox_schema, outbox_sqlite, outbox_upkeep, outbox_writer
from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.core.ports import Outbox
from imconnect.errors import Unavailable
from tests.contracts.outbox import OutboxContract, batch, sent
from tests.support import ReactorTestCase


class SqliteOutboxContractTests(OutboxContract, ReactorTestCase):
    """The port's contract."""

    def make(self) -> Outbox:
        from twisted.internet import reactor

        return SqliteOutbox(reactor, self.mktemp())

    async def restart(self, outbox: Outbox) -> Outbox:
        from twisted.internet import reactor

        assert isinstance(outbox, SqliteOutbox)
        await outbox.close()
        return SqliteOutbox(reactor, outbox.path)


class HandClock(Clock):
    """Real threads, but time passes by hand; counts what the threads report."""

    def __init__(self) -> None:
        super().__init__()
        self.reports = 0
        self._waiting: list[Deferred[None]] = []

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        from twisted.internet import reactor

        reactor.callFromThread(self._call, callable, args, kwargs)

    def _call(self, callable: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.reports += 1
        waiting, self._waiting = self._waiting, []
        callable(*args, **kwargs)
        for reported in waiting:
            reported.callback(None)

    def reported(self) -> Deferred[None]:
        """Fires with the next report of a thread."""
        self._waiting.append(Deferred())
        return self._waiting[-1]


class LyingConnection(sqlite3.Connection):
    """A disk that keeps what it could not sync: the commit is done, the answer is an error."""

    lies = 0

    def _lie(self) -> None:
        if not self.in_transaction and LyingConnection.lies > 0:
            LyingConnection.lies -= 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    def execute(self, *args: Any) -> sqlite3.Cursor:
        cursor = super().execute(*args)
        if args[0] == "COMMIT":
            self._lie()
        return cursor

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        cursor = super().executemany(*args)
        self._lie()
        return cursor


class SqliteCase(ReactorTestCase):
    def setUp(self) -> None:
        self.clock = HandClock()

    async def opened(self, path: str = "") -> SqliteOutbox:
        outbox = SqliteOutbox(self.clock, path or self.mktemp())
        self.addCleanup(outbox.close)
        await outbox.open()
        return outbox

    def ask(self, outbox: SqliteOutbox, sql: str) -> list[Any]:
        """What another program finds in the file."""
        with closing(sqlite3.connect(outbox.path)) as db:
            return db.execute(sql).fetchall()


class LifeTests(SqliteCase):
    """Opening, closing, and what happens without being asked for."""

    def test_nothing_starts_before_open(self) -> None:
        """`twistd` forks after the objects are made: no thread, no file."""
        before = threading.enumerate()
        outbox = SqliteOutbox(self.clock, self.mktemp())
        self.assertEqual(threading.enumerate(), before)
        self.assertFalse(os.path.exists(outbox.path))
        self.assertEqual(outbox.size(), 0)

    async def test_close_ends_the_threads_and_leaves_one_file(self) -> None:
        """After `close` no thread of ours is left, and the WAL went into the file."""
        before = set(threading.enumerate())
        outbox = await self.opened()
        await outbox.append(batch(1, 3))
        await outbox.close()
        self.assertEqual([thread.name for thread in set(threading.enumerate()) - before], [])
        self.assertFalse(os.path.exists(outbox.path + "-wal"))

    async def test_close_while_opening(self) -> None:
        """The start is finished, then everything is closed; what comes between is refused."""
        outbox = SqliteOutbox(self.clock, self.mktemp())
        opening, closing_ = outbox.open(), outbox.close()
        await gatherResults([opening, closing_])
        await self.assertFailure(outbox.append(batch(1, 1)), Unavailable)

    async def test_sync_is_passed_on(self) -> None:
        """`full` is the default, and each word reaches SQLite."""
        for sync, number in (("full", 2), ("normal", 1), ("off", 0)):
            seen: list[int] = []

            class Spy(sqlite3.Connection):
                def executemany(self, *args: Any, seen: list[int] = seen) -> sqlite3.Cursor:
                    seen.append(super().execute("PRAGMA synchronous").fetchone()[0])
                    return super().executemany(*args)

            self.patch(outbox_writer.Writer, "connection", Spy)
            path = self.mktemp()
            outbox = SqliteOutbox(self.clock, path, sync) if sync != "full" else SqliteOutbox(self.clock, path)
            self.addCleanup(outbox.close)
            await outbox.open()
            await outbox.append(batch(1, 1))
            self.assertEqual(seen, [number])

    async def test_unfinished_creation_is_no_log(self) -> None:
        """A process that died while it made the file leaves nothing that matters."""
        path = self.mktemp()
        Path(path + ".new").write_text("half a file")
        outbox = await self.opened(path)
        self.assertEqual(await outbox.append(batch(1, 1)), 1)
        self.assertFalse(os.path.exists(path + ".new"))

    async def test_positions_are_written_by_themselves(self) -> None:
        """Without any append they are in the file a little later, once."""
        outbox = await self.opened()
        outbox.done({3: 7})
        outbox.done({4: 8})
        self.clock.advance(outbox_sqlite.RIDE_SECONDS)
        await self.clock.reported()
        self.assertEqual(self.ask(outbox, "SELECT * FROM outbox_lane ORDER BY lane"), [(3, 7), (4, 8)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_positions_ride_with_an_append(self) -> None:
        """The next commit carries them."""
        outbox = await self.opened()
        outbox.done({3: 7})
        await outbox.append(batch(1, 1))
        self.assertEqual(self.ask(outbox, "SELECT * FROM outbox_lane"), [(3, 7)])

    async def test_forgotten_batches_go_in_pieces(self) -> None:
        """A long log is trimmed piece by piece, so that no append waits for all of it."""
        self.patch(outbox_writer, "TRIM_BATCHES", 2)
        outbox = await self.opened()
        for number in range(1, 7):
            await outbox.append(batch(number, 1))
        outbox.forget(6)
        left = []
        for delay in (outbox_sqlite.RIDE_SECONDS, outbox_sqlite.PIECE_SECONDS, outbox_sqlite.PIECE_SECONDS):
            self.clock.advance(delay)
            await self.clock.reported()
            left.append(self.ask(outbox, "SELECT count(*) FROM outbox_batch")[0][0])
        self.assertEqual(left, [4, 2, 1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_growing_wal_is_copied(self) -> None:
        """Under the writer's feet, and a large one is emptied."""
        self.patch(outbox_writer, "CHECKPOINT_BYTES", 10_000)
        self.patch(outbox_upkeep, "RESTART_BYTES", 50_000)
        self.patch(outbox_upkeep, "TRUNCATE_BYTES", 50_000)
        outbox = await self.opened()
        largest = 0
        for first in range(1, 1001, 20):
            await outbox.append([sent(number, "x" * 1000) for number in range(first, first + 20)])
            largest = max(largest, os.path.getsize(outbox.path + "-wal"))
        self.assertLess(largest, 800_000)
        self.assertGreater(os.path.getsize(outbox.path), 500_000)
        self.assertEqual([number for number, _ in await outbox.read(0, 2000)], list(range(1, 1001)))


class FailureTests(SqliteCase):
    """Commits that fail."""

    async def test_what_waits_shares_a_transaction(self) -> None:
        """While one commit runs, everything that comes is the next one, and is reported at once."""
        outbox = await self.opened()
        with closing(sqlite3.connect(outbox.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = self.clock.reports
            appends = [outbox.append(batch(number, 1)) for number in range(1, 31)]
            reserve = outbox.reserve(5)
            other.execute("COMMIT")
        self.assertEqual(await gatherResults(appends), list(range(1, 31)))
        await reserve
        self.assertLessEqual(self.clock.reports - before, 2)

    async def test_locked_file(self) -> None:
        """Another program holds the file too long: refused, nothing is in the log, and it goes on afterwards."""
        self.patch(outbox_writer, "LOCKED_SECONDS", 0.02)
        outbox = await self.opened()
        outbox.done({0: 9})
        with closing(sqlite3.connect(outbox.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            calls = [outbox.append(batch(1, 2)), outbox.append(batch(3, 2)), outbox.reserve(5), outbox.park([])]
            calls.pop().addErrback(self.fail)  # nothing to park is no write
            for call in calls:
                await self.assertFailure(call, Unavailable)
            other.execute("ROLLBACK")
        self.assertEqual(list(await outbox.read(0, 9)), [])
        self.assertEqual(await outbox.append(batch(1, 2)), 1)
        self.assertEqual(self.ask(outbox, "SELECT * FROM outbox_lane"), [(0, 9)])

    async def test_positions_are_tried_again(self) -> None:
        """A failed transaction does not lose them."""
        self.patch(outbox_writer, "LOCKED_SECONDS", 0.02)
        outbox = await self.opened()
        with closing(sqlite3.connect(outbox.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outbox.done({0: 9})
            self.clock.advance(outbox_sqlite.RIDE_SECONDS)
            await self.clock.reported()
        self.clock.advance(outbox_sqlite.RETRY_SECONDS)
        while not self.ask(outbox, "SELECT * FROM outbox_lane"):  # a checkpoint reports as well
            await self.clock.reported()
        self.assertEqual(self.ask(outbox, "SELECT * FROM outbox_lane"), [(0, 9)])

    async def lied_to(self) -> SqliteOutbox:
        self.patch(outbox_writer.Writer, "connection", LyingConnection)
        self.addCleanup(setattr, LyingConnection, "lies", 0)
        outbox = await self.opened()
        await outbox.append(batch(1, 3))
        return outbox

    async def test_commit_of_unknown_outcome_leaves_nothing(self) -> None:
        """The commit said error but had worked: refused means not in the log, not even after a restart."""
        outbox = await self.lied_to()
        for positions in ({}, {0: 3}):  # a transaction of one statement, and of several
            LyingConnection.lies = 1
            outbox.done(positions)
            await self.assertFailure(outbox.append(batch(100, 2)), Unavailable)
            self.assertEqual(LyingConnection.lies, 0)
            self.assertEqual([number for number, _ in await outbox.read(0, 9)], [1, 2, 3])
        self.assertEqual(await outbox.append(batch(4, 1)), 4)
        await outbox.close()
        outbox = SqliteOutbox(self.clock, outbox.path)
        self.addCleanup(outbox.close)
        recovered = await outbox.open()
        self.assertEqual(list(recovered.entries), [(number, sent(number)) for number in range(1, 5)])

    async def test_disk_that_never_syncs(self) -> None:
        """The answer comes all the same after a while, and the log goes on when the disk does."""
        self.patch(outbox_writer, "FENCE_SECONDS", 0.0)
        outbox = await self.lied_to()
        LyingConnection.lies = 2
        await self.assertFailure(outbox.append(batch(100, 2)), Unavailable)
        self.assertEqual(LyingConnection.lies, 0)
        self.assertEqual(await outbox.append(batch(4, 1)), 4)

    async def test_bug_reaches_its_caller_only(self) -> None:
        """A number that SQLite cannot hold is an error for who gave it; the writer lives on."""
        outbox = await self.opened()
        await self.assertFailure(outbox.reserve(2**70), OverflowError)
        self.assertEqual(await outbox.append(batch(1, 1)), 1)

    async def test_damage_met_later(self) -> None:
        """A batch that goes bad while we run is named by `read`."""
        outbox = await self.opened()
        await outbox.append(batch(1, 1))
        with closing(sqlite3.connect(outbox.path)) as db:
            db.execute("UPDATE outbox_batch SET events = x'0101'")
            db.commit()
        error = await self.assertFailure(outbox.read(0, 1), outbox_schema.Damaged)
        self.assertIn("the batch at event 1", str(error))
