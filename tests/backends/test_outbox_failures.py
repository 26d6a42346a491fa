"""Commits of the SQLite outbox that fail."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import ILogObserver, Logger

from imconnect.backends import outbox_sqlite, outbox_writer
from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.errors import Damaged, Unavailable
from tests.backends.hand_clock import SqliteCase
from tests.contracts.outbox import batch, sent


class LyingConnection(sqlite3.Connection):
    """A disk that keeps what it could not write: the commit is done, the answer is an error."""

    lies = 0
    code = sqlite3.SQLITE_IOERR

    def _lie(self) -> None:
        if not self.in_transaction and LyingConnection.lies > 0:
            LyingConnection.lies -= 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = LyingConnection.code
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


class FailureTests(SqliteCase):
    """What is refused is not in the log, and the log goes on."""

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
            await outbox.park([])  # nothing to park is no write
            calls: list[Deferred[Any]] = [outbox.append(batch(1, 2)), outbox.append(batch(3, 2)), outbox.reserve(5)]
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
        self.patch(LyingConnection, "lies", 0)
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

    async def test_disk_that_goes_on_failing(self) -> None:
        """The answer comes all the same after a while, and the log goes on when the disk does."""
        self.patch(outbox_writer, "FENCE_SECONDS", 0.0)
        outbox = await self.lied_to()
        LyingConnection.lies = 2
        await self.assertFailure(outbox.append(batch(100, 2)), Unavailable)
        self.assertEqual(LyingConnection.lies, 0)
        self.assertEqual(await outbox.append(batch(4, 1)), 4)

    async def test_fsync_that_fails_is_the_end(self) -> None:
        """No answer would be true, and the next fsync would lie: nothing is written any more, the process is told to
        end, and the next one has everything that was acknowledged."""
        self.patch(LyingConnection, "code", sqlite3.SQLITE_IOERR_FSYNC)
        outbox = await self.lied_to()
        LyingConnection.lies = 1
        await self.check_the_end(outbox, outbox.append(batch(4, 1)))

    async def test_fsync_that_fails_while_a_failure_is_undone(self) -> None:
        """The same."""
        outbox = await self.lied_to()
        self.patch(outbox_writer, "sleep", lambda seconds: setattr(LyingConnection, "code", sqlite3.SQLITE_IOERR_FSYNC))
        self.patch(LyingConnection, "code", sqlite3.SQLITE_IOERR)
        LyingConnection.lies = 3
        await self.check_the_end(outbox, outbox.append(batch(4, 1)))

    async def test_fsync_that_fails_at_a_checkpoint(self) -> None:
        """The same: what it was for may be only in the WAL, which a later checkpoint would let go of."""
        outbox = await self.opened()
        await outbox.append(batch(1, 3))
        fsync = os.fsync

        def failing(descriptor: int) -> None:
            if os.path.samestat(os.fstat(descriptor), os.stat(outbox.path)):
                raise OSError(errno.EIO, "Input/output error")
            fsync(descriptor)

        self.patch(os, "fsync", failing)
        assert outbox._upkeep is not None
        outbox._upkeep.checkpoint()
        await self.check_the_end(outbox)

    async def check_the_end(self, outbox: SqliteOutbox, *asked: Deferred[int]) -> None:
        said: list[str] = []
        lost: Deferred[None] = Deferred()
        self.patch(outbox, "_lost", lambda: lost.callback(None))
        observer = cast(ILogObserver, lambda event: said.append(event["log_level"].name))
        self.patch(outbox_sqlite, "_log", Logger(observer=observer))
        await lost
        self.assertEqual(said, ["critical"])
        await self.assertFailure(outbox.append(batch(9, 1)), Unavailable)
        for append in asked:
            self.assertNoResult(append)
        await outbox.close()
        for append in asked:
            self.assertNoResult(append)
        again = SqliteOutbox(self.clock, outbox.path)
        self.addCleanup(again.close)
        recovered = await again.open()
        self.assertEqual([number for number, _ in recovered.entries][:3], [1, 2, 3])

    async def test_what_was_never_synced_is_written_anew_at_the_start(self) -> None:
        """A dead process left it in the WAL, where recovery finds it: it is copied before anybody is told of it."""
        outbox = await self.opened()
        await outbox.append(batch(1, 3))
        path = self.mktemp()
        for suffix in ("", "-wal"):  # as it is while the other process lives: nothing was copied yet
            shutil.copyfile(outbox.path + suffix, path + suffix)
        again = SqliteOutbox(self.clock, path)
        self.addCleanup(again.close)
        await again.open()
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as db:
            self.assertEqual(db.execute("SELECT sum(count) FROM outbox_batch").fetchall(), [(3,)])

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
        error = await self.assertFailure(outbox.read(0, 1), Damaged)
        self.assertIn("the batch at event 1", str(error))
