"""Faults: armed exactly where they are asked for, and not there at all otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from inspect import isfunction
from typing import Any

from imconnect.errors import ConfigError
from imconnect.tap import faults
from imconnect.tap.fault_points import BUSINESS, GATEWAY, IMBUSINESS, POINTS, Counts, Point, When
from imconnect.tap.logged import FAULT
from tests.support import TestCase

#: Makes the gateway's service as twistd does, then says which points' methods are wrapped.
MAKE = """
import sys
from imconnect.tap.gateway import makeService
from imconnect.tap import Options

options = Options()
options.parseOptions(["--env", "test", "--set", "data_dir=" + sys.argv[1]])
makeService(options)
loaded = "imconnect.tap.faults" in sys.modules
from imconnect.tap import faults
wrapped = []
for name, point in faults.POINTS.items():
    owner, method = faults.located(point)
    if hasattr(vars(owner)[method], "__wrapped__"):
        wrapped.append(name)
print(loaded, wrapped)
"""


class PointTests(TestCase):
    """The table."""

    def test_every_point_is_there(self) -> None:
        """Each names a method that its class itself defines, and has one sentence."""
        for name, point in POINTS.items():
            owner, method = faults.located(point)
            self.assertTrue(isfunction(vars(owner).get(method)), f"{name}: {point.target}")
            self.assertTrue(point.says and not point.says.endswith("."), name)

    def test_names(self) -> None:
        """No name stands for two points."""
        self.assertEqual(len(POINTS), len(GATEWAY) + len(BUSINESS) + len(IMBUSINESS))


class Toy:
    """A class with something to fail at."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def work(self, what: str) -> str:
        self.did.append(what)
        return what.upper()

    async def later(self, what: str) -> str:
        self.did.append(what)
        return what


class ArmTests(TestCase):
    def setUp(self) -> None:
        self.acted: list[str] = []
        self.toy = Toy()

    def arm(self, setting: str, when: When, method: str = "work", counts: Counts | None = None) -> None:
        """A point of the toy's, armed; the toy is as it was after the test."""
        counts = counts or (lambda call, result: True)
        self.patch(faults, "POINTS", {"toy": Point("a toy", f"{__name__}:Toy.{method}", when, counts)})
        self.patch(Toy, method, vars(Toy)[method])
        faults.arm(setting, lambda: self.note("kill"), lambda: self.note("stop"))

    def note(self, what: str) -> None:
        self.acted.append(f"{what} after {self.toy.did}")

    def test_nth_time(self) -> None:
        """It acts once, at the call that was asked for; every call does what it always did."""
        self.arm("toy@2", "after")
        self.assertEqual([self.toy.work(each) for each in "abc"], ["A", "B", "C"])
        self.assertEqual(self.acted, ["kill after ['a', 'b']"])

    def test_before(self) -> None:
        """Before the method has done anything."""
        self.arm("toy@2=stop", "before")
        for each in "abc":
            self.toy.work(each)
        self.assertEqual(self.acted, ["stop after ['a']"])

    def test_calls_that_do_not_count(self) -> None:
        """Arguments and the result decide."""
        self.arm("toy", "after", counts=lambda call, result: call[1] == "b" and result == "B")
        for each in "abc":
            self.toy.work(each)
        self.assertEqual(self.acted, ["kill after ['a', 'b']"])

    def test_coroutine(self) -> None:
        """After a coroutine is when it has ended."""
        self.arm("toy", "after", "later")
        begun = self.toy.later("a")
        self.assertEqual(self.acted, [])
        self.assertEqual(self.successResultOf(begun), "a")
        self.assertEqual(self.acted, ["kill after ['a']"])

    def test_mistakes(self) -> None:
        """One error that names the variable and the points there are."""
        for setting in ("", "nowhere", "decoded@0", "decoded@x", "decoded=explode", "decoded@1=kill=stop"):
            error = self.assertRaises(ConfigError, faults.arm, setting)
            self.assertIn(f"{FAULT}: expected POINT[@N]", str(error))
            self.assertIn("append-durable", str(error))


class MakeServiceTests(TestCase):
    def make(self, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("IMCONNECT")}
        command = [sys.executable, "-c", MAKE, self.mktemp()]
        env: Any = {**inherited, **environment}
        return subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=60)

    def test_unarmed(self) -> None:
        """Without the variable nothing is loaded and no method is touched: there is nothing that could cost."""
        made = self.make()
        self.assertEqual((made.stdout, made.returncode), ("False []\n", 0), made.stderr)

    def test_armed(self) -> None:
        """With it one method is."""
        made = self.make(**{FAULT: "ack-durable@3"})
        wrapped = "['ack-durable', 'withdraw-durable', 'offline-durable']"  # one method, three points
        self.assertEqual((made.stdout, made.returncode), (f"True {wrapped}\n", 0), made.stderr)

    def test_unknown_point(self) -> None:
        """One clear line."""
        made = self.make(**{FAULT: "nowhere"})
        self.assertEqual((made.stdout, made.returncode), ("", 1))
        self.assertTrue(made.stderr.startswith(f"{FAULT}: expected POINT"), made.stderr)
        self.assertEqual(made.stderr.count("\n"), 1)
