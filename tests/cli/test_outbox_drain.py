"""`imconnect outbox drain`: what it says no to before it does anything. What it does: tests/tap/test_draining.py."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from imconnect.backends import outbox_schema
from imconnect.backends.datadir import DataDir
from imconnect.cli.main import main
from tests.support import TestCase


class RefusalTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()

    def refused(self, *words: str) -> str:
        """The one line; nothing was made."""
        before = sorted(self.folder.rglob("*"))
        result = CliRunner().invoke(main, ["outbox", "drain", "--data-dir", str(self.folder), *words])
        self.assertEqual((result.exit_code, result.stdout, result.stderr.count("\n")), (1, "", 1))
        self.assertEqual(sorted(self.folder.rglob("*")), before)
        return result.stderr

    def test_nothing_there(self) -> None:
        """No folder, and no log in it: neither is made."""
        self.assertIn("outbox.db: there is no such file", self.refused())
        self.folder.mkdir()
        self.assertIn("outbox.db: there is no such file", self.refused())

    def test_a_gateway_that_runs(self) -> None:
        """Holds the folder."""
        folder = DataDir(str(self.folder))
        self.addCleanup(folder.release)
        outbox_schema.create(folder.file("outbox.db"))
        self.assertIn("in use by another process", self.refused())

    def test_a_mistake_in_the_configuration(self) -> None:
        """Is said as by every command."""
        self.folder.mkdir()
        self.assertIn("server.prt: unknown key", self.refused("--set", "server.prt=1"))
