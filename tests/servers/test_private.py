"""What `make rocketmq`, `make mariadb` and `make redis` do with their program, on one that is small."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.live.processes import is_alive
from tests.servers import rocketmq_broker
from tests.servers.parts import ROOT
from tests.servers.private import CannotRun, ensure_free
from tests.support import TestCase

SERVED = """
import sys
from pathlib import Path
from tests.servers.private import PrivateServer, serve

class Small(PrivateServer):
    what = "Small"
    def command(self):
        return [sys.executable, "-c", "import signal; signal.pause()"]
    def answers(self):
        return True

server = Small(Path(sys.argv[1]), int(sys.argv[2]))
sys.exit(serve(server, lambda: "it"))
"""


class ServeTests(TestCase):
    def launch(self, port: int = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SERVED, str(Path(self.mktemp()).absolute()), str(port)]
        pipe = subprocess.PIPE
        launched = subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
        self.addCleanup(launched.kill)
        return launched

    def ready(self, launched: subprocess.Popen[str]) -> int:
        """The server's process id."""
        assert launched.stdout is not None
        line = launched.stdout.readline().split()
        self.assertEqual(line[:2], ["READY", "it"])
        return int(line[2].removeprefix("pid="))

    def test_the_end_of_its_input(self) -> None:
        """It ends the server and says nothing."""
        launched = self.launch()
        pid = self.ready(launched)
        self.assertEqual(launched.communicate(timeout=30), ("", ""))
        self.assertEqual(launched.returncode, 0)
        self.assertFalse(is_alive(pid))

    def test_a_server_that_dies(self) -> None:
        """It does not stay as if all were well: it says so and ends."""
        launched = self.launch()
        os.kill(self.ready(launched), signal.SIGKILL)
        assert launched.stderr is not None
        self.assertEqual(launched.wait(timeout=30), 1)
        self.assertEqual(launched.stderr.read(), "Small: Small has ended, status -9\n")
        launched.communicate()

    def test_a_port_in_use(self) -> None:
        """One line that names it; nothing is started."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            launched = self.launch(port)
            output, errors = launched.communicate(timeout=30)
        self.assertEqual((launched.returncode, output), (1, ""))
        self.assertIn(f"Small: port {port}: ", errors)
        self.assertIn("in use", errors)

    def test_a_port_that_is_none(self) -> None:
        """Said before a server can stumble over it."""
        self.assertIn("70000", str(self.assertRaises(CannotRun, ensure_free, 70000)))
        ensure_free(0)


class OptionsTests(TestCase):
    def test_mistyped(self) -> None:
        """Of RocketMQ's launcher: usage and status 2, no traceback."""
        for arguments in (["flushDiskType"], ["=x"], ["--topic", "T:many"], ["--topic", ":3"], ["--topic", "T:3:4"]):
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors):
                refused = self.assertRaises(SystemExit, rocketmq_broker.main, arguments)
            self.assertEqual(refused.code, 2)
            self.assertIn("expected ", errors.getvalue())
