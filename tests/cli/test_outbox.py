"""`imconnect outbox check` and `export` on logs that are damaged for real."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from imconnect.backends import outbox_schema
from imconnect.cli.main import main
from imconnect.errors import Damaged
from imconnect.events.records import pack
from imconnect.events.values import Event
from tests.backends.test_outbox_damage import DamageCase
from tests.contracts.outbox import sent

#: What DamageCase makes: 120 events in batches of ten, and one that is parked.
EVERYTHING = set(range(1, 121))


class OutboxCase(DamageCase):
    """`self.path` is the outbox.db of `self.folder`."""

    def run_it(self, *arguments: str) -> Result:
        before = self.contents()
        result = CliRunner().invoke(main, ["outbox", *arguments, "--data-dir", str(self.folder)])
        # SQLite may put an empty -wal beside a file that it reads; nothing else may change.
        after = {name: data for name, data in self.contents().items() if data or name in before}
        self.assertEqual(after, before)
        self.assertNotIsInstance(result.exception, Exception)
        return result

    def check(self) -> tuple[int, dict[str, str]]:
        """The status, and what the report says, line by line."""
        result = self.run_it("check")
        first, *lines = result.stdout.splitlines()
        self.assertTrue(first.startswith(f"{self.path}: "), result.output)
        report = dict(line.split(": ", 1) for line in lines if not line.startswith("`"))
        return result.exit_code, {"": first.removeprefix(f"{self.path}: "), **report}

    def export(self) -> tuple[set[int], int, str]:
        """The numbers that were saved, how many parked ones, and what was said."""
        result = self.run_it("export")
        self.assertEqual(result.exit_code, 0)
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        saved = [row for row in rows if "parked" not in row]
        numbers = [row["position"] for row in saved]
        self.assertEqual(numbers, sorted(set(numbers)))
        for row in saved:
            self.assertEqual((row["event"], row["msg_id"]), ("Sent", sent(row["position"]).message.msg_id))
        return set(numbers), len(rows) - len(saved), result.stderr

    def raw(self) -> sqlite3.Connection:
        """A connection whose WAL stays as long as it is open."""
        db = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(db.close)
        return db

    def left_by_a_crash(self, batches: int = 6, last: Sequence[Event] = ()) -> None:
        """The log as kill -9 leaves it: the newest batches are in the WAL only."""
        db = self.raw()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for first in range(121, 121 + 10 * batches, 10):
            events = [sent(number, "y" * 100) for number in range(first, first + 10)]
            db.execute("INSERT INTO outbox_batch VALUES (?, 10, 0, ?)", (first, pack(events)))
        if last:
            values = (121 + 10 * batches, len(last), pack(last))
            db.execute("INSERT INTO outbox_batch VALUES (?, ?, 0, ?)", values)
        for end in ("", "-wal"):
            shutil.copy(self.path + end, f"{self.path}{end}.kept")
        db.close()
        for end in ("", "-wal"):
            os.replace(f"{self.path}{end}.kept", self.path + end)


class SoundTests(OutboxCase):
    """A log that a gateway would take."""

    def test_check(self) -> None:
        """What is in it, how far it is relayed, and 0."""
        self.change("INSERT INTO outbox_lane VALUES (3, 90)")
        self.change("INSERT INTO outbox_lane VALUES (1, 120)")
        status, report = self.check()
        self.assertEqual(status, 0)
        self.assertEqual(
            report,
            {
                "": "sound",
                "events": "120 can be read, numbers 1 to 120 (sent 120)",
                "relayed": "queue 1 up to 120, queue 3 up to 90",
                "parked": "1",
            },
        )

    def test_export(self) -> None:
        """Everything, with the texts, and the parked ones with the broker's reason."""
        result = self.run_it("export")
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([row["position"] for row in rows], [*range(1, 121), 5])
        self.assertEqual((rows[0]["content"], rows[-1]["parked"]), ("x" * 100, "why"))
        self.assertEqual(result.stderr, "saved 120 events and 1 parked ones, lost 0\n")

    def test_export_to_a_file(self) -> None:
        """For its owner only; a file that is there already is never written over."""
        target = Path(self.mktemp())
        result = self.run_it("export", "--to", str(target))
        self.assertEqual((result.exit_code, result.stdout), (0, ""))
        self.assertEqual(len(target.read_bytes().splitlines()), 121)
        self.assertEqual(target.stat().st_mode & 0o777, 0o600)
        again = self.run_it("export", "--to", str(target))
        self.assertEqual((again.exit_code, again.stderr.count("\n")), (1, 1))
        self.assertIn(str(target), again.stderr)
        self.assertEqual(len(target.read_bytes().splitlines()), 121)

    def test_beside_a_writer(self) -> None:
        """A gateway that has it open, WAL and all, is not disturbed, and what it committed is seen."""
        db = self.raw()
        db.execute("INSERT INTO outbox_batch VALUES (121, 1, 0, ?)", (pack([sent(121)]),))
        db.execute("BEGIN IMMEDIATE")
        status, report = self.check()
        self.assertEqual((status, report["events"]), (0, "121 can be read, numbers 1 to 121 (sent 121)"))
        db.execute("INSERT INTO outbox_batch VALUES (122, 1, 0, ?)", (pack([sent(122)]),))
        db.execute("COMMIT")
        self.assertEqual(self.export()[0], set(range(1, 123)))

    def test_empty(self) -> None:
        """A log in which nothing is left."""
        self.raw().execute("DELETE FROM outbox_batch")
        status, report = self.check()
        self.assertEqual((status, report["events"], report["relayed"]), (0, "0 can be read", "nothing"))

    def test_after_a_crash(self) -> None:
        """A WAL that was not copied is no damage."""
        self.left_by_a_crash()
        self.assertEqual((self.check()[0], self.export()[0]), (0, set(range(1, 181))))

    def test_none(self) -> None:
        """No log, no folder: one line."""
        for folder in (self.mktemp(), self.folder / "outbox.db"):
            for command in ("check", "export"):
                result = CliRunner().invoke(main, ["outbox", command, "--data-dir", str(folder)])
                self.assertEqual((result.exit_code, result.stdout, result.stderr.count("\n")), (1, "", 1))


class DamagedTests(OutboxCase):
    """A log that a gateway refuses: what is wrong with it is said, and what is left can be read."""

    def damaged(self, words: str) -> dict[str, str]:
        """Both a gateway and the command find it."""
        status, report = self.check()
        self.assertEqual(status, 1)
        self.assertTrue(report[""].startswith("damaged: "), report)
        self.assertIn(words, report[""])
        self.assertRaises(Damaged, self.recover)
        return report

    def test_flipped_byte_in_the_last_page(self) -> None:
        """The batch that it hits is lost, every other one is saved."""
        self.change("DELETE FROM outbox_parked")
        self.flip(os.path.getsize(self.path) - 1)
        report = self.damaged("")
        saved, _, said = self.export()
        self.assertGreaterEqual(len(saved), 110)
        self.assertEqual(said.splitlines()[-1].split(", ")[0], f"saved {len(saved)} events and 0 parked ones")
        if saved != EVERYTHING:
            self.assertEqual(len(saved), 110)
            self.assertIn("at least 10; the first: the batch at event ", report["lost"])

    def test_flipped_byte_in_a_message(self) -> None:
        """The checksum finds it; the nine others of its batch go with it."""
        self.flip(Path(self.path).read_bytes().index(b"xxxxxxxxxx"))
        report = self.damaged("checksum")
        saved, parked, said = self.export()
        self.assertEqual((len(saved), parked), (110, 1))
        self.assertRegex(report["lost"], r"^at least 10; the first: the batch at event \d+: it is damaged: checksum")
        self.assertIn("saved 110 events and 1 parked ones, lost at least 10", said)

    def test_any_flipped_byte(self) -> None:
        """Wherever a byte is wrong: what is exported is right, and no more is missing than one page of the table held."""
        data = Path(self.path).read_bytes()
        worst = 120
        for offset in [*range(100), *range(100, len(data), 499)]:
            self.flip(offset)
            saved, _, _ = self.export()
            self.assertLessEqual(saved, EVERYTHING, f"byte {offset}")
            worst = min(worst, len(saved))
            Path(self.path).write_bytes(data)
            for end in ("-wal", "-shm"):
                Path(self.path + end).unlink(missing_ok=True)
        self.assertGreaterEqual(worst, 60)

    def test_truncated(self) -> None:
        """What lies on the pages that are left is saved."""
        size = os.path.getsize(self.path)
        os.truncate(self.path, size - 3 * 4096)
        self.damaged("")
        saved, _, said = self.export()
        self.assertGreaterEqual(len(saved), 50)
        self.assertLess(len(saved), 120)
        self.assertIn("damaged", said)

    def test_without_its_first_page(self) -> None:
        """The header and the table of tables are gone: the batches are found all the same."""
        with open(self.path, "r+b") as file:
            file.write(bytes(4096))
        self.damaged("not a database")
        self.assertEqual(self.export()[:2], (EVERYTHING, 1))

    def test_newer_format(self) -> None:
        """A file of a later version: said so, and what this one can read is saved."""
        self.change("PRAGMA user_version = 2")
        report = self.damaged("has format 2")
        self.assertEqual((self.export()[:2], report["lost"]), ((EVERYTHING, 1), "nothing that left a trace"))

    def test_batch_of_a_newer_version(self) -> None:
        """One batch of a later version is not read by guessing."""
        blob = bytearray(pack([sent(number) for number in range(51, 61)]))
        blob[0] += 1
        self.change("UPDATE outbox_batch SET events = ? WHERE position = 51", bytes(blob))
        report = self.damaged("newer version")
        self.assertIn("the batch at event 51: it was written by a newer version", report["lost"])
        self.assertEqual(self.export()[0], EVERYTHING - set(range(51, 61)))

    def test_missing_batch(self) -> None:
        """A hole in the numbers."""
        self.change("DELETE FROM outbox_batch WHERE position = 51")
        report = self.damaged("the batch behind event 50 is at 61")
        self.assertEqual(report["lost"], "at least 10; the first: the events 51 to 60 are missing")
        self.assertEqual(self.export()[0], EVERYTHING - set(range(51, 61)))

    def test_wal_without_its_file(self) -> None:
        """What was committed last is in it."""
        self.left_by_a_crash(batches=60)
        os.unlink(self.path)
        self.damaged("-wal file is there")
        saved, _, _ = self.export()
        self.assertLessEqual(set(range(131, 721)), saved)

    def test_damaged_wal(self) -> None:
        """SQLite would silently end at the damaged frame; what is behind it was acknowledged, and is saved."""
        self.left_by_a_crash(batches=60)
        wal = Path(self.path + "-wal")
        data = bytearray(wal.read_bytes())
        data[32 + 20 * 4120 + 2000] ^= 0xFF
        wal.write_bytes(data)
        status, report = self.check()
        self.assertEqual(status, 1)
        self.assertIn("frame 21 of its -wal file is damaged", report[""])
        with closing(outbox_schema.connect_reader(self.path)) as db:
            seen = len(outbox_schema.recover(db, self.path)[0].entries)
        saved, _, _ = self.export()
        self.assertGreater(len(saved), 690)
        self.assertLess(seen, len(saved))

    def test_unfinished_wal(self) -> None:
        """A transaction that was not committed is not in the log, and a torn end is no damage."""
        self.left_by_a_crash(batches=2)
        wal = Path(self.path + "-wal")
        wal.write_bytes(wal.read_bytes()[:-100])
        status, report = self.check()
        self.assertEqual((status, report[""]), (0, "sound"))
        self.assertEqual(self.export()[0], set(range(1, 131)))

    def test_unfinished_wal_without_its_file(self) -> None:
        """What was committed is saved, what was not is not."""
        self.left_by_a_crash(batches=1, last=[sent(131, "z" * 9000)])
        wal = Path(self.path + "-wal")
        wal.write_bytes(wal.read_bytes()[:-100])  # the frame of an overflow page: the row's own is there
        os.unlink(self.path)
        report = self.damaged("-wal file is there")
        self.assertEqual(report["lost"], "nothing that left a trace")
        self.assertEqual(self.export()[0] - EVERYTHING, set(range(121, 131)))

    def test_deleted_rows_stay_deleted(self) -> None:
        """What had left the log is not exported from pages that nobody uses any more."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute("PRAGMA secure_delete = OFF")
            db.execute("DELETE FROM outbox_batch")  # leaves every page as it was
            db.execute("INSERT INTO outbox_batch VALUES (121, 1, 0, ?)", (pack([sent(121)]),))
            db.execute("PRAGMA user_version = 2")  # so the pages are read without SQLite
        self.damaged("has format 2")
        self.assertEqual(self.export()[0], {121})

    def test_number_that_cannot_be(self) -> None:
        """What cannot be read and stands where nothing is expected is no loss of all the numbers before it."""
        self.change("UPDATE outbox_batch SET position = 500, events = x'01' WHERE position = 51")
        report = self.damaged("")
        self.assertEqual(report["lost"], "at least 10; the first: the events 51 to 60 are missing")

    def test_garbage(self) -> None:
        """A file that is something else: nothing can be read, and that is said."""
        Path(self.path).write_bytes(os.urandom(1000) + b"\x0d" * 20000)
        report = self.damaged("")
        self.assertEqual(report["events"], "0 can be read")
        self.assertEqual(self.export()[:2], (set(), 0))
        Path(self.path).write_bytes(b"")
        self.damaged("is empty")

    def test_damaged_parked_event(self) -> None:
        """Counted apart."""
        self.change("UPDATE outbox_parked SET event = x'01'")
        report = self.damaged("")
        self.assertEqual(report["parked"], "1, 1 of them cannot be read")
        self.assertIn("lost at least 1", self.export()[2])


def large(number: int) -> Any:
    return sent(number, "z" * 9000)


class LargeRowTests(OutboxCase):
    """Rows over several pages."""

    def setUp(self) -> None:
        super().setUp()
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            for first in range(121, 161, 2):
                blob = pack([large(first), large(first + 1)])
                db.execute("INSERT INTO outbox_batch VALUES (?, 2, 0, ?)", (first, blob))

    def test_read_from_pages(self) -> None:
        """Overflow pages are followed; where one is damaged only its batch is lost."""
        self.change("PRAGMA user_version = 2")
        self.assertEqual(self.export()[0], set(range(1, 161)))
        data = Path(self.path).read_bytes()
        self.flip(data.index(b"z" * 4092))
        saved, _, said = self.export()
        self.assertEqual(len(saved), 158)
        self.assertIn("lost at least 2", said)
