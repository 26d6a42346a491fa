"""kill -9 of every process at every point in the life of a message: nothing acknowledged is lost or shown twice.

`IMCONNECT_MATRIX`: all, or the name of a cell (`make crash-matrix`, `make crash-matrix CELL=...`). Without it a third
is played, chosen by `IMCONNECT_MATRIX_SEED`, which is printed.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from imconnect.tap.fault_points import POINTS
from tests.live.accounts import table
from tests.live.case import LiveTestCase, missing
from tests.live.matrix import CELLS, SETTINGS, Cell, Form, chosen, play
from tests.live.redis import server
from tests.live.world import Nodes, Whole, World
from tests.servers import mariadb, rocketmq_broker
from tests.servers.private import CannotRun
from tests.support import TestCase

SEED = os.environ.get("IMCONNECT_MATRIX_SEED") or str(random.randrange(10**6))
WANTED = os.environ.get("IMCONNECT_MATRIX", "")
#: Where a line per cell is appended, for the table in docs/reliability.md.
RESULTS = os.environ.get("IMCONNECT_MATRIX_RESULTS", "")
CHOSEN = chosen(WANTED, SEED)


def _tests(form: Form) -> Callable[[type], type]:
    """A class decorator: a test per chosen cell."""

    def decorate(kind: type) -> type:
        for cell in CHOSEN:
            if cell.form == form:
                name = "".join(letter if letter.isalnum() else "_" for letter in cell.name)
                setattr(kind, f"test_{name}", _test(cell))
        return kind

    return decorate


def _test(cell: Cell) -> Callable[[Any], Any]:
    async def test(self: MatrixTestCase) -> None:
        await self.play(cell)

    test.__doc__ = f"{cell.name}: `make crash-matrix CELL={cell.name}`."
    return test


class TableTests(TestCase):
    """The cells, before any is played."""

    def test_no_point_is_left_out(self) -> None:
        """Each has a cell, and no two cells have one name."""
        self.assertEqual({cell.point for cell in CELLS.values()}, set(POINTS))
        self.assertTrue(all(cell.name == name for name, cell in CELLS.items()))

    def test_a_third(self) -> None:
        """By the seed, the same for the same one; three seeds do not choose the same."""
        thirds = [chosen("", seed) for seed in ("1", "2", "3")]
        self.assertEqual(thirds[0], chosen("", "1"))
        self.assertEqual({len(third) for third in thirds}, {(len(CELLS) + 2) // 3})
        self.assertNotEqual(thirds[0], thirds[1])

    def test_document(self) -> None:
        """The table in docs/reliability.md has a row for every cell, all clean."""
        lines = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text().splitlines()
        shown = [line for line in lines if "make crash-matrix CELL=" in line]
        self.assertEqual([line.split("CELL=")[1].split("`")[0] for line in shown], list(CELLS))
        self.assertTrue(all("| clean |" in line for line in shown))


class MatrixTestCase(LiveTestCase):
    timeout = 300.0
    world: World

    async def play(self, cell: Cell) -> None:
        """One cell; it is clean or the test fails with the accounts."""
        self.world = await self.make(cell)
        self.addCleanup(self.world.end)
        self.processes += self.world.ours.values()
        outcome = await play(cell, self.world)
        if RESULTS:
            result = "clean" if not outcome.violations else "violations"
            line = json.dumps({"cell": cell.name, "messages": outcome.messages, "result": result})
            self.write(line)
        self.assertEqual(outcome.violations, [], f"\n{table(outcome.violations)}")
        self.assertGreaterEqual(outcome.messages, 17)

    def write(self, line: str) -> None:
        with open(RESULTS, "a") as results:
            results.write(f"{line}\n")

    async def make(self, cell: Cell) -> World:
        return World(self.reactor, self.folder, SETTINGS)


@_tests("embedded")
class EmbeddedTests(MatrixTestCase):
    """One process: the gateway is its own business, on SQLite."""


@_tests("rocketmq")
class WholeTests(MatrixTestCase):
    """Gateway, imbusiness, RocketMQ and MariaDB. Both servers are started once for all cells."""

    async def make(self, cell: Cell) -> World:
        try:
            broker = await deferToThread(rocketmq_broker.shared)
            database = await deferToThread(mariadb.shared)
        except CannotRun as error:
            missing(str(error))
        settings = {**SETTINGS, "outbox.ack_after": cell.ack_after}
        return Whole(self.reactor, self.folder, settings, broker, database)


@_tests("nodes")
class NodesTests(MatrixTestCase):
    """Two gateways and Redis; who loses his node goes to the other one."""

    async def make(self, cell: Cell) -> World:
        redis = await deferToThread(server)
        with redis.client() as client:
            client.flushall()
        return Nodes(self.reactor, self.folder, SETTINGS, redis)


if not WANTED:
    sys.stderr.write(f"crash matrix: {len(CHOSEN)} cells, IMCONNECT_MATRIX_SEED={SEED}\n")
