"""`imconnect db upgrade`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner, Result

from imconnect.backends.datadir import DataDir
from imconnect.cli.main import main
from tests.support import TestCase


class UpgradeTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()

    def upgrade(self, *settings: str) -> Result:
        pairs = [word for setting in settings for word in ("--set", setting)]
        return CliRunner().invoke(main, ["db", "upgrade", "--env", "test", *pairs])

    def refused(self, result: Result, words: str) -> None:
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn(words, result.stderr)

    def tables(self, path: Path) -> set[str]:
        with closing(sqlite3.connect(path)) as database:
            return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")}

    def test_fills_and_leaves(self) -> None:
        """The gateway's own file where no database is named; the second time there is nothing to do."""
        for _ in range(2):
            result = self.upgrade(f"data_dir={self.folder}")
            self.assertEqual((result.exit_code, result.stderr), (0, ""))
            self.assertIn("im_c2c_message", self.tables(self.folder / "business.db"))

    def test_the_database_that_is_named(self) -> None:
        """By its URL; nothing is made in data_dir."""
        path = Path(self.mktemp()).absolute()
        result = self.upgrade(f"data_dir={self.folder}", f"business.database=sqlite:///{path}")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("im_session", self.tables(path))
        self.assertFalse(self.folder.exists())

    def test_a_file_in_use(self) -> None:
        """While a gateway has it: one line, nothing touched."""
        lock = DataDir(str(self.folder))
        self.addCleanup(lock.release)
        self.refused(self.upgrade(f"data_dir={self.folder}"), "data_dir: ")
        self.assertFalse((self.folder / "business.db").exists())

    def test_what_cannot_be_upgraded(self) -> None:
        """A damaged file, a database of another kind, and mistakes in the configuration: one line each."""
        self.folder.mkdir()
        (self.folder / "business.db").write_bytes(b"no database at all, but long enough" * 100)
        self.refused(self.upgrade(f"data_dir={self.folder}"), "business.db")
        self.refused(self.upgrade("business.database=postgresql://u:hush@h/d"), "business.database")
        self.assertNotIn("hush", self.upgrade("business.database=postgresql://u:hush@h/d").output)
        self.refused(self.upgrade("data_dirr=x"), "data_dirr")
