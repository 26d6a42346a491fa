"""Real processes under twistd and twist: how they end (imconnect/service/ending.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support import TestCase

_ROOT = Path(__file__).parent.parent.parent

_TWISTD = ("-c", "from twisted.scripts.twistd import run; run()", "-n")

_PLUGIN = """
from twisted.application.service import ServiceMaker
gateway = ServiceMaker("t", "ending_tap", "t", "ending")
"""

_TAP = """
import threading, time
from twisted.internet.defer import Deferred
from twisted.python import usage
from imconnect.errors import Damaged
from imconnect.service import OrderedService, ProcessEnd

class Options(usage.Options):
    optParameters = [["case", None, "", ""]]

class Part:
    def __init__(self, reactor, case):
        self.reactor, self.case = reactor, case

    def say(self, word):
        print(word, flush=True)

    async def start(self):
        await Deferred(lambda _: None) if self.case == "never up" else None
        if self.case == "fails":
            wait = Deferred()
            self.reactor.callLater(0.01, wait.callback, None)
            await wait
            raise Damaged("outbox.db", "is a newer version's")
        self.reactor.callLater(0, self.say, "UP")
        if self.case == "thread":
            threading.Thread(target=time.sleep, args=(60,)).start()
            self.reactor.callLater(0.1, self.reactor.stop)

    def stop(self):
        if self.case == "stuck":
            self.reactor.callLater(0.4, self.say, "STUCK")
            return Deferred(lambda _: None)
        if self.case == "blocked":
            print("STUCK", flush=True)
            time.sleep(60)
        self.say("DOWN")

def makeService(options):
    from twisted.internet import reactor
    end = ProcessEnd(reactor)
    end.install(2.0 if options["case"] == "blocked" else 30.0)
    service = OrderedService(reactor, end.fail)
    service.add("outbox", Part(reactor, options["case"]), stop_within=60)
    return service
"""


class ProcessEndTests(TestCase):
    """Exit statuses are what a shell and systemd see."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        (self.folder / "twisted" / "plugins").mkdir(parents=True)
        (self.folder / "twisted" / "plugins" / "ending_plugin.py").write_text(_PLUGIN)
        (self.folder / "ending_tap.py").write_text(_TAP)

    def begin(self, case: str, *command: str) -> subprocess.Popen[str]:
        """Start `twistd -n` (or another command) on the tap above."""
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(self.folder), str(_ROOT)))}
        process = subprocess.Popen(
            [sys.executable, *(command or _TWISTD), "ending", "--case", case],
            cwd=self.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.addCleanup(process.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def until(self, process: subprocess.Popen[str], word: str) -> str:
        """What it prints up to this word; the whole output if it never comes."""
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if word in line:
                break
        else:
            self.fail(f"no {word} in: {''.join(lines)}")
        return "".join(lines)

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """(status, the rest of what it printed)."""
        output, _ = process.communicate(timeout=20)
        return process.returncode, output

    def check_failed_start(self, *command: str) -> None:
        status, output = self.end(self.begin("fails", *command))
        self.assertEqual(status, 1, output)
        self.assertIn("start failed: outbox: outbox.db: is a newer version's", output)
        self.assertIn("DOWN", output)
        self.assertNotIn("Traceback", output)

    def test_a_failed_start_is_status_1_under_twistd(self) -> None:
        """One line that says why, what was started is stopped, and no pid file is left."""
        self.check_failed_start()
        self.assertEqual(list(self.folder.glob("*.pid")), [])

    def test_a_failed_start_is_status_1_under_twist(self) -> None:
        """The same under the newer command."""
        self.check_failed_start("-m", "twisted", "--log-format=text")

    def test_sigterm_ends_by_the_signal(self) -> None:
        """After an orderly stop; systemd counts that as clean."""
        process = self.begin("")
        self.until(process, "UP")
        process.terminate()
        status, output = self.end(process)
        self.assertEqual(status, -signal.SIGTERM, output)
        self.assertIn("DOWN", output)

    def test_sigterm_while_starting(self) -> None:
        """A start that hangs is cut short; that is no failure."""
        process = self.begin("never up")
        self.until(process, "starting up")
        process.terminate()
        status, output = self.end(process)
        self.assertEqual(status, -signal.SIGTERM, output)
        self.assertNotIn("start failed", output)

    def test_a_second_sigterm_ends_at_once(self) -> None:
        """While a stop is stuck."""
        process = self.begin("stuck")
        self.until(process, "UP")
        process.terminate()
        self.until(process, "STUCK")
        process.terminate()
        self.assertEqual(self.end(process)[0], -signal.SIGTERM)

    def test_two_sigterms_in_one_moment_are_one(self) -> None:
        """`make` doubles the signal that its process group got: that must not cut the drain short."""
        process = self.begin("")
        self.until(process, "UP")
        process.terminate()
        self.until(process, "Received SIGTERM")
        process.terminate()
        status, output = self.end(process)
        self.assertEqual(status, -signal.SIGTERM)
        self.assertIn("DOWN", output)

    def test_a_blocked_reactor_ends_at_the_deadline(self) -> None:
        """By the signal it got, although the reactor never comes back."""
        process = self.begin("blocked")
        self.until(process, "UP")
        process.terminate()
        self.until(process, "STUCK")
        self.assertEqual(self.end(process)[0], -signal.SIGTERM)

    def test_a_thread_that_hangs_does_not_hold_up_the_exit(self) -> None:
        """A library's thread that never ends costs some seconds, not for ever."""
        process = self.begin("thread")
        self.assertEqual(self.end(process)[0], 0)
