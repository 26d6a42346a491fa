"""What `make cluster` does with its parts, on parts that are small: it starts, watches and stops a few Pythons."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.live.processes import is_alive
from tests.servers.parts import ROOT, Cluster, Part
from tests.servers.private import CannotRun
from tests.support import TestCase

#: Says that it is ready and who it is, then waits for the end of its input.
WAITS = "import os, sys; print('READY', f'pid={os.getpid()}', flush=True); sys.stdin.read()"
FAILS = "import sys; print('no: the port is taken', file=sys.stderr); sys.exit(1)"
#: As twistd does, it does not look at its input.
WORKS = WAITS.replace("sys.stdin.read()", "__import__('signal').pause()")
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}; signal.pause()"
SERVED = """
import sys
from pathlib import Path
from tests.servers.test_parts import WAITS, part
from tests.servers.parts import Cluster, served

folder = Path(sys.argv[1])
def start(cluster):
    cluster.start([part(folder, "one", WAITS), part(folder, "two", sys.argv[2])])
    return ["all of it is there"]
sys.exit(served(Cluster(), start))
"""


def part(folder: Path, name: str, code: str) -> Part:
    return Part(name, folder, [sys.executable, "-c", code], lambda part: bool(part.ready_line()))


def pid_of(part: Part) -> int:
    return int(part.ready_line()["pid"])


class PartsTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def part(self, name: str, code: str) -> Part:
        return part(self.folder, name, code)

    def until(self, check: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not check():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)


class ClusterTests(PartsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.cluster = Cluster()
        self.addCleanup(self.cluster.stop, 1)

    def test_stages(self) -> None:
        """Each starts when the one before is ready; afterwards nothing is left, whatever does not want to go."""
        one, deaf, two = self.part("one", WAITS), self.part("deaf", DEAF), self.part("two", WAITS)
        self.cluster.start([one, deaf])
        self.assertEqual([bool(each.lines()) for each in (one, deaf, two)], [True, True, False])
        self.cluster.start([two])
        pids = [pid_of(each) for each in (one, deaf, two)]
        self.assertTrue(all(map(is_alive, pids)))
        self.cluster.stop(0.5)
        self.assertFalse(any(map(is_alive, pids)))

    def test_one_that_does_not_start(self) -> None:
        """Is named with its last words and its log; the others can be stopped."""
        one, two = self.part("one", WAITS), self.part("two", FAILS)
        self.cluster.start([one])
        error = self.assertRaises(CannotRun, self.cluster.start, [two])
        self.assertEqual(str(error), f"two has ended: no: the port is taken (see {self.folder}/two.log)")
        self.cluster.stop(5)
        self.assertFalse(is_alive(pid_of(one)))

    def test_one_that_is_never_ready(self) -> None:
        """Is given up."""
        error = self.assertRaises(CannotRun, self.cluster.start, [self.part("slow", "input()")], 0.2)
        self.assertIn("slow is not ready after 0.2 s", str(error))

    def test_what_a_server_says(self) -> None:
        """READY NAME=VALUE... or an URL."""
        one = self.part("one", "")
        one.log.write_text("hello\nREADY namesrv=h:1 mysql://u:p@h:2/d pid=7\n")
        self.assertEqual(one.ready_line(), {"namesrv": "h:1", "url": "mysql://u:p@h:2/d", "pid": "7"})


class ServedTests(PartsTestCase):
    def served(self, second: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVED, self.folder, second], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def pids(self) -> list[int]:
        return [pid_of(self.part(name, "")) for name in ("one", "two") if self.part(name, "").ready_line()]

    def end(self, pids: list[int]) -> None:
        for pid in filter(is_alive, pids):
            os.kill(pid, signal.SIGKILL)

    def test_ctrl_c(self) -> None:
        """Status 0, and nothing is left."""
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.served(WAITS)
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "all of it is there\n")
            pids = self.pids()
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
            self.assertEqual((process.returncode, errors), (0, ""))
            self.assertEqual([is_alive(pid) for pid in pids], [False, False])

    def test_a_part_fails_at_the_start(self) -> None:
        """One line, status 1, and nothing is left."""
        process = self.served(FAILS)
        said, errors = process.communicate(timeout=30)
        self.assertEqual((process.returncode, said), (1, "stopping\n"))
        self.assertEqual(errors, f"cluster: two has ended: no: the port is taken (see {self.folder}/two.log)\n")
        self.assertFalse(any(map(is_alive, self.pids())))

    def test_a_part_dies(self) -> None:
        """So does the rest."""
        process = self.served(WAITS)
        assert process.stdout is not None
        process.stdout.readline()
        one, two = self.pids()
        os.kill(two, signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        self.assertEqual((process.returncode, errors.count("\n")), (1, 1))
        self.assertIn("cluster: two has ended: ", errors)
        self.assertFalse(is_alive(one))

    def test_kill_9(self) -> None:
        """Whoever started them is gone, and so are they."""
        process = self.served(WORKS)
        assert process.stdout is not None
        process.stdout.readline()
        pids = self.pids()
        self.addCleanup(self.end, pids)
        process.kill()
        self.until(lambda: not any(map(is_alive, pids)))
