"""The SQLite outbox in a process that dies, and on a disk that is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import imconnect
from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.core.ports import Recovered
from tests.backends.hand_clock import real_reactor
from tests.contracts.outbox import sent
from tests.support import ReactorTestCase


class CrashTests(ReactorTestCase):
    """Real processes, a second or two."""

    def child(self, job: str, path: str) -> subprocess.Popen[str]:
        root = os.path.dirname(os.path.dirname(os.path.abspath(imconnect.__file__)))
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.backends.outbox_child", job, os.path.abspath(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        assert child.stdout is not None
        self.addCleanup(child.stdout.close)
        return child

    async def reopen(self, path: str) -> tuple[SqliteOutbox, Recovered]:
        outbox = SqliteOutbox(real_reactor(), path)
        self.addCleanup(outbox.close)
        return outbox, await outbox.open()

    async def test_kill_in_the_middle_of_appends(self) -> None:
        """What was said to be durable is there, in order and whole; the new process goes on behind it."""
        path = self.mktemp()
        child = self.child("append", path)
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(150)]
        child.kill()
        said += child.stdout.readlines()
        promised = max(int(line) for line in said if line.endswith("\n"))
        outbox, recovered = await self.reopen(path)
        self.assertGreaterEqual(recovered.last, promised)
        self.assertGreaterEqual(recovered.reserved_ms, promised - 11)
        numbers = [number for number, _ in recovered.entries]
        self.assertEqual(numbers, list(range(numbers[0], recovered.last + 1)))
        self.assertLessEqual(numbers[0], promised - 100)
        self.assertEqual([event for _, event in recovered.entries], [sent(number) for number in numbers])
        self.assertEqual(await outbox.append([sent(0)]), recovered.last + 1)

    async def test_full_disk(self) -> None:
        """Refused while there is no room, nothing of it in the log; earlier events are safe, later ones work."""
        path = self.mktemp()
        child = self.child("fill", path)
        assert child.stdout is not None
        last, first = (json.loads(child.stdout.readline()) for _ in range(2))
        self.assertEqual(child.wait(), 0)
        self.assertGreater(last, 10)
        self.assertEqual(first, last + 1)
        _, recovered = await self.reopen(path)
        self.assertEqual(
            list(recovered.entries), [(number, sent(number, "x" * 2000)) for number in range(1, first + 1)]
        )
