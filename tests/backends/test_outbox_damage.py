"""Files that are not, or no longer, an outbox."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults

from imconnect.backends import outbox_schema
from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.core.ports import Entry
from imconnect.errors import Damaged
from imconnect.events.records import pack
from tests.backends.hand_clock import real_reactor
from tests.contracts.outbox import batch, sent
from tests.support import ReactorTestCase, TestCase

_INSERT = "INSERT INTO outbox_batch VALUES (?, ?, 0, ?)"


class DamageCase(TestCase):
    """A log of twelve batches of ten messages in `self.path`."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = str(self.folder / "outbox.db")
        outbox_schema.create(self.path)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            for first in range(1, 121, 10):
                events = [sent(number, "x" * 100) for number in range(first, first + 10)]
                db.execute(_INSERT, (first, len(events), pack(events)))
            db.execute("INSERT INTO outbox_parked VALUES (5, 0, 'why', ?)", (pack(batch(5, 1)),))

    def change(self, sql: str, *args: object) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            changed = db.execute(sql, args).rowcount
            self.assertTrue(changed == 1 or sql.startswith("PRAGMA"))

    def flip(self, *offsets: int) -> None:
        with open(self.path, "r+b") as file:
            for offset in offsets:
                file.seek(offset)
                byte = file.read(1)[0]
                file.seek(offset)
                file.write(bytes([byte ^ 0xFF]))

    def recover(self) -> Sequence[Entry]:
        """What a start finds."""
        outbox_schema.inspect(self.path)
        with closing(outbox_schema.connect_reader(self.path)) as db:
            return outbox_schema.recover(db, self.path)[0].entries

    def contents(self) -> dict[str, bytes]:
        """Everything in the folder but SQLite's shared memory, which it makes to read a WAL."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if not path.name.endswith("-shm")}

    def assertDamaged(self, words: str) -> None:
        """The start refuses, names the file, and leaves it as it is (an empty -wal beside it says nothing)."""
        before = {name: data for name, data in self.contents().items() if data or not name.endswith("-wal")}
        error = self.assertRaises(Damaged, self.recover)
        self.assertEqual(error.path, self.path)
        self.assertIn(words, str(error))
        after = {name: data for name, data in self.contents().items() if data or not name.endswith("-wal")}
        self.assertEqual(after, before)


class InspectTests(DamageCase):
    """What is found before the process forks: `inspect` alone."""

    def assertRefused(self, words: str) -> None:
        error = self.assertRaises(Damaged, outbox_schema.inspect, self.path)
        self.assertIn(words, str(error))
        self.assertDamaged(words)

    def test_good_file_and_no_file_are_fine(self) -> None:
        """Neither is an error, and a missing file is not made."""
        outbox_schema.inspect(self.path)
        os.unlink(self.path)
        outbox_schema.inspect(self.path)
        self.assertFalse(os.path.exists(self.path))

    def test_text_file(self) -> None:
        """Something else lies under the name."""
        Path(self.path).write_text("dear diary\n" * 500)
        self.assertRefused("not a database")

    def test_emptied_file(self) -> None:
        """A log is made whole, so one of no bytes was emptied by somebody."""
        Path(self.path).write_bytes(b"")
        error = self.assertRaises(Damaged, outbox_schema.inspect, self.path)
        self.assertIn("is empty", str(error))
        self.assertEqual(Path(self.path).read_bytes(), b"")

    def test_folder_under_the_name(self) -> None:
        """A folder is no file."""
        os.unlink(self.path)
        os.mkdir(self.path)
        error = self.assertRaises(Damaged, outbox_schema.inspect, self.path)
        self.assertEqual(error.path, self.path)

    def test_missing_folder(self) -> None:
        """The folder must be there; making it is not our part."""
        path = os.path.join(self.path, "sub", "outbox.db")
        self.assertRaises(Damaged, outbox_schema.inspect, path)

    def test_foreign_application(self) -> None:
        """A database of somebody else."""
        self.change("PRAGMA application_id = 7")
        self.assertRefused("not an outbox")

    def test_newer_format(self) -> None:
        """A file from a later version of imconnect."""
        self.change("PRAGMA user_version = 2")
        self.assertRefused("has format 2")

    def test_wal_without_its_file(self) -> None:
        """SQLite would delete the WAL, and with it acknowledged messages."""
        db = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(db.close)
        db.execute(_INSERT, (121, 1, pack(batch(121, 1))))
        shutil.copy(self.path + "-wal", self.path + ".kept")
        db.close()
        os.unlink(self.path)
        os.rename(self.path + ".kept", self.path + "-wal")
        self.assertRefused("-wal file is there")
        Path(self.path).touch()
        self.assertRefused("-wal file is there")

    def test_header_only(self) -> None:
        """What is left is shorter than a header, or than a page."""
        for size in (1, 50, 100, 4000):
            os.truncate(self.path, size)
            self.assertRefused("")


class RecoverTests(DamageCase):
    """What is found when the log is read at start."""

    def test_good_file(self) -> None:
        """All events are there, in order."""
        entries = [(number, sent(number, "x" * 100)) for number in range(1, 121)]
        self.assertEqual(list(self.recover()), entries)

    def test_truncated(self) -> None:
        """Pages are missing at the end."""
        size = os.path.getsize(self.path)
        for cut in (1, 4096, 3 * 4096):
            os.truncate(self.path, size - cut)
            self.assertDamaged("")

    def test_last_page(self) -> None:
        """One byte of the last page is another one."""
        self.change("DELETE FROM outbox_parked")
        self.flip(os.path.getsize(self.path) - 1)
        self.assertDamaged("")

    def test_flipped_byte_in_a_blob(self) -> None:
        """A byte of a message is another one: SQLite does not see it, the checksum of the batch does."""
        self.flip(Path(self.path).read_bytes().index(b"xxxxxxxxxx"))
        self.assertDamaged("checksum")

    def test_any_flipped_byte(self) -> None:
        """Wherever a byte is wrong, the events are the right ones or the start refuses."""
        good = list(self.recover())
        data = Path(self.path).read_bytes()
        found = 0
        for offset in [*range(100), *range(100, len(data), 211)]:
            self.flip(offset)
            try:
                self.assertEqual(list(self.recover()), good, f"byte {offset}")
            except Damaged:
                found += 1
            Path(self.path).write_bytes(data)
        self.assertGreater(found, 100)

    def test_batch_of_a_newer_version(self) -> None:
        """The record's version is checked before its bytes."""
        blob = bytearray(pack(batch(1, 10)))
        blob[0] += 1
        self.change("UPDATE outbox_batch SET events = ? WHERE position = 1", bytes(blob))
        self.assertDamaged("newer version")

    def test_missing_batch(self) -> None:
        """A hole in the numbers, or an end that was there once, is a loss."""
        self.change("DELETE FROM outbox_batch WHERE position = 51")
        self.assertDamaged("the batch behind event 50 is at 61")
        self.change("UPDATE outbox_batch SET position = 51 WHERE position = 111")
        self.change("INSERT INTO outbox_state VALUES ('last', 120)")
        self.assertDamaged("the events 111 to 120 are missing")

    def test_wrong_count(self) -> None:
        """The row and its blob must agree."""
        self.change("UPDATE outbox_batch SET count = 9 WHERE position = 111")
        self.assertDamaged("holds 10 events instead of 9")

    def test_damaged_parked_event(self) -> None:
        """What the broker refused is checked too."""
        self.change("UPDATE outbox_parked SET event = x'01'")
        self.assertDamaged("damaged")

    def test_wal_is_left_alone(self) -> None:
        """A damaged log with a WAL keeps both, byte for byte."""
        db = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(db.close)
        db.execute(_INSERT, (121, 2, pack(batch(121, 1))))
        other = str(self.folder / "copy.db")
        shutil.copy(self.path, other)
        shutil.copy(self.path + "-wal", other + "-wal")
        db.close()
        self.path = other
        self.assertDamaged("holds 1 events instead of 2")


class OpenTests(ReactorTestCase):
    """The same through the port."""

    async def test_open_refuses_and_stops_its_threads(self) -> None:
        """`open` fails with Damaged, the file stays, and closing afterwards is fine."""
        path = self.mktemp()
        Path(path).write_text("not a database, for sure\n" * 500)
        outbox = SqliteOutbox(real_reactor(), path)
        error: Any = await self.assertFailure(outbox.open(), Damaged)
        self.assertEqual(error.path, os.path.abspath(path))
        self.assertIn(f"`imconnect outbox check --data-dir {os.path.dirname(error.path)}`", str(error))
        await gatherResults([outbox.close(), outbox.close()])
        self.assertTrue(Path(path).read_text().startswith("not a database"))

    async def test_open_names_the_command_that_helps(self) -> None:
        """Also where only the contents are damaged; once, and with a folder's name that a shell takes as it is."""
        folder = Path(self.mktemp()) / "my data"
        folder.mkdir(parents=True)
        path = str(folder / "outbox.db")
        outbox_schema.create(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(_INSERT, (1, 1, b"no event"))
        outbox = SqliteOutbox(real_reactor(), path)
        error: Any = await self.assertFailure(outbox.open(), Damaged)
        await outbox.close()
        said = str(error)
        self.assertIn("the batch at event 1", said)
        self.assertTrue(said.endswith(f"`imconnect outbox check --data-dir '{folder.absolute()}'` shows what can be saved"))
        self.assertEqual(said.count("outbox check"), 1)
