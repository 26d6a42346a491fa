"""The simulation bites: each bug that is planted is found, and without it the same schedule is a good one."""

from __future__ import annotations

from typing import Any

from tests.simulation.__main__ import failure
from tests.simulation.bugs import BUGS, Bug
from tests.simulation.bugs_nodes import NODE_BUGS
from tests.support import TestCase

#: A bug must be found in so many schedules.
SEEDS = 500


class BugTests(TestCase):
    """One test per bug of `bugs.py` and `bugs_nodes.py`, under its name."""

    def find(self, bug: Bug) -> None:
        planted: list[Any] = []
        bug(lambda where, name, value: planted.append(self.patch(where, name, value)))
        seed = next((seed for seed in range(SEEDS) if failure(seed)), None)
        self.flushLoggedErrors()
        if seed is None:
            self.fail(f"not found in {SEEDS} schedules")
        for patched in planted:
            patched.restore()
        self.assertEqual(failure(seed), "")


def _test_of(bug: Bug) -> Any:
    def test(self: BugTests) -> None:
        self.find(bug)

    test.__doc__ = bug.__doc__
    return test


for _bug in (*BUGS, *NODE_BUGS):
    setattr(BugTests, f"test_{_bug.__name__}", _test_of(_bug))
