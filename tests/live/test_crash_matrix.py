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
from typing import Any

from twisted.internet.threads import deferToThread

from tests.live.accounts import table
from tests.live.case import LiveTestCase, missing
from tests.live.matrix import SETTINGS, Cell, chosen, play
from tests.live.world import Whole, World
from tests.servers import mariadb, rocketmq_broker
from tests.servers.rocketmq_broker import CannotRun

SEED = os.environ.get("IMCONNECT_MATRIX_SEED") or str(random.randrange(10**6))
WANTED = os.environ.get("IMCONNECT_MATRIX", "")
#: Where a line per cell is appended, for the table in docs/reliability.md.
RESULTS = os.environ.get("IMCONNECT_MATRIX_RESULTS", "")
CHOSEN = chosen(WANTED, SEED)


def _tests(whole: bool) -> Callable[[type], type]:
    """A class decorator: a test per chosen cell."""

    def decorate(kind: type) -> type:
        for cell in CHOSEN:
            if cell.whole == whole:
                name = "".join(letter if letter.isalnum() else "_" for letter in cell.name)
                setattr(kind, f"test_{name}", _test(cell))
        return kind

    return decorate


def _test(cell: Cell) -> Callable[[Any], Any]:
    async def test(self: MatrixTestCase) -> None:
        await self.play(cell)

    test.__doc__ = f"{cell.name}: `make crash-matrix CELL={cell.name}`."
    return test


class MatrixTestCase(LiveTestCase):
    timeout = 180.0
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


@_tests(whole=False)
class EmbeddedTests(MatrixTestCase):
    """One process: the gateway is its own business, on SQLite."""


@_tests(whole=True)
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


if not WANTED:
    sys.stderr.write(f"crash matrix: {len(CHOSEN)} cells, IMCONNECT_MATRIX_SEED={SEED}\n")
