"""The data directory."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import imconnect
from imconnect.backends.datadir import LOCK_NAME, DataDir
from imconnect.errors import ConfigError
from tests.support import TestCase

_FORKS = """
import os, sys
from imconnect.backends.datadir import DataDir
folder = DataDir(sys.argv[1])
for _ in range(2):  # as twistd does
    if os.fork():
        os._exit(0)
folder.write_pid()
print(os.getpid(), flush=True)
sys.stdin.read()
folder.release()
"""


class DataDirTests(TestCase):
    """Making, checking and locking it."""

    def taken(self, path: str) -> DataDir:
        folder = DataDir(path)
        self.addCleanup(folder.release)
        return folder

    def test_folder_is_made_for_its_owner_only(self) -> None:
        """A missing folder is made, also its parents; files get full paths."""
        path = os.path.join(self.mktemp(), "a", "b")
        folder = self.taken(path)
        self.assertEqual(folder.path, os.path.abspath(path))
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)
        self.assertEqual(folder.file("outbox.db"), os.path.join(folder.path, "outbox.db"))

    def test_pid_is_written(self) -> None:
        """People find our process id in the lock file."""
        folder = self.taken(self.mktemp())
        with open(folder.file(LOCK_NAME)) as file:
            self.assertEqual(file.read(), f"{os.getpid()}\n")

    def test_second_taker_is_told_who_has_it(self) -> None:
        """One line that names the key and the process; after `release` it is free."""
        path = self.mktemp()
        folder = self.taken(path)
        error = self.assertRaises(ConfigError, DataDir, path)
        self.assertEqual(error.key, "data_dir")
        self.assertEqual(
            str(error), f"data_dir: {os.path.abspath(path)} is in use by another process (pid {os.getpid()})"
        )
        folder.release()
        folder.release()
        self.taken(path)

    def test_lock_survives_the_forks_of_twistd(self) -> None:
        """The grandchild holds it when its parents are gone, until it gives it back."""
        path = self.mktemp()
        root = os.path.dirname(os.path.dirname(os.path.abspath(imconnect.__file__)))
        child = subprocess.Popen(
            [sys.executable, "-c", _FORKS, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": root},
        )
        assert child.stdin is not None and child.stdout is not None
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stdin.close)
        pid = int(child.stdout.readline())
        self.assertEqual(child.wait(), 0)
        error = self.assertRaises(ConfigError, DataDir, path)
        self.assertIn(f"(pid {pid})", str(error))
        child.stdin.close()
        self.assertEqual(child.stdout.read(), b"")  # until its end
        self.taken(path)

    def test_file_in_the_way(self) -> None:
        """Where no folder can be, the error names the key and the path."""
        path = self.mktemp()
        with open(path, "w"):
            pass
        for place in (path, os.path.join(path, "sub")):
            error = self.assertRaises(ConfigError, DataDir, place)
            self.assertEqual(error.key, "data_dir")
            self.assertIn(os.path.abspath(place), str(error))
            self.assertNotIn("\n", str(error))

    def test_folder_that_cannot_be_written(self) -> None:
        """Refused; no descriptor stays open."""
        path = self.mktemp()
        os.makedirs(path)
        self.patch(os, "access", lambda *args: False)  # as root every folder can be written
        before = os.listdir("/proc/self/fd")
        self.assertRaises(ConfigError, DataDir, path)
        self.assertEqual(os.listdir("/proc/self/fd"), before)
