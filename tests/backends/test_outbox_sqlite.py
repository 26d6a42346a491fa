"""The outbox on SQLite."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from imconnect.backends import outbox_schema, outbox_sqlite, outbox_upkeep, outbox_writer
from imconnect.backends.outbox_sqlite import SqliteOutbox, Sync
from imconnect.core.ports import Outbox
from imconnect.errors import Unavailable
from tests.backends.hand_clock import SqliteCase, real_reactor
from tests.contracts.outbox import OutboxContract, batch, sent
from tests.support import ReactorTestCase


class SqliteOutboxContractTests(OutboxContract, ReactorTestCase):
    """The port's contract."""

    def make(self) -> Outbox:
        return SqliteOutbox(real_reactor(), self.mktemp())

    async def restart(self, outbox: Outbox) -> Outbox:
        assert isinstance(outbox, SqliteOutbox)
        await outbox.close()
        return SqliteOutbox(real_reactor(), outbox.path)


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
        await opening
        await closing_
        await self.assertFailure(outbox.append(batch(1, 1)), Unavailable)

    async def test_sync_is_passed_on(self) -> None:
        """`full` is the default, and each word reaches SQLite."""
        words: tuple[tuple[Sync, int], ...] = (("full", 2), ("normal", 1), ("off", 0))
        for sync, number in words:
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
        """Beside the writer, without any close."""
        self.patch(outbox_writer, "CHECKPOINT_BYTES", 100_000)
        outbox = await self.opened()
        empty = os.path.getsize(outbox.path)
        for first in range(1, 201, 20):
            await outbox.append([sent(number, "x" * 1000) for number in range(first, first + 20)])
        while os.path.getsize(outbox.path) < empty + 100_000:
            await self.clock.reported()
        self.assertEqual([number for number, _ in await outbox.read(0, 2000)], list(range(1, 201)))


class UpkeepTests(SqliteCase):
    """Copying the WAL into the file."""

    async def wal_after(self, restart: int, truncate: int) -> tuple[int, int, int]:
        """The size of the WAL before a checkpoint, after it, and after one more commit."""
        self.patch(outbox_upkeep, "RESTART_BYTES", restart)
        self.patch(outbox_upkeep, "TRUNCATE_BYTES", truncate)
        path = os.path.abspath(self.mktemp())
        outbox_schema.create(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA wal_autocheckpoint = 0")
            db.execute("INSERT INTO outbox_batch VALUES (1, 1, 0, zeroblob(100000))")
            sizes = [os.path.getsize(path + "-wal")]
            upkeep = outbox_upkeep.Upkeep(self.clock, path, "full", threading.Lock(), self.fail)
            upkeep.checkpoint()
            upkeep.checkpoint()  # one is running: no second one
            await upkeep.stop()
            sizes.append(os.path.getsize(path + "-wal"))
            db.execute("INSERT INTO outbox_batch VALUES (2, 1, 0, zeroblob(50000))")
            sizes.append(os.path.getsize(path + "-wal"))
        upkeep.release()
        return sizes[0], sizes[1], sizes[2]

    async def test_large_wal_is_made_small(self) -> None:
        """Its room is given back."""
        before, after, then = await self.wal_after(50_000, 50_000)
        self.assertGreater(before, 100_000)
        self.assertEqual(after, 0)
        self.assertGreater(then, 50_000)

    async def test_middling_wal_is_written_over(self) -> None:
        """It keeps its size, and what comes next goes to its start."""
        before, after, then = await self.wal_after(50_000, 500_000)
        self.assertEqual((after, then), (before, before))

    async def test_failed_copy_is_tried_again(self) -> None:
        """A file that cannot be opened now may be later; nothing but a line in the log comes of it."""
        folder = Path(self.mktemp())
        path = str(folder.absolute() / "outbox.db")
        upkeep = outbox_upkeep.Upkeep(self.clock, path, "full", threading.Lock(), self.fail)
        upkeep.checkpoint()
        await self.clock.reported()
        folder.mkdir()
        outbox_schema.create(path)
        empty = os.path.getsize(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA wal_autocheckpoint = 0")
            db.execute("INSERT INTO outbox_batch VALUES (1, 1, 0, zeroblob(100000))")
            upkeep.checkpoint()
            await upkeep.stop()
            self.assertGreater(os.path.getsize(path), empty + 90_000)
        upkeep.release()
