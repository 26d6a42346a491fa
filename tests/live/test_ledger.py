"""The ledger's short forms: as `make ledger`, for some seconds, with a seed that is printed."""

from __future__ import annotations

import os
import random
import sys

from twisted.internet.threads import deferToThread

from tests.live.accounts import table
from tests.live.case import LiveTestCase, missing
from tests.live.ledger import SETTINGS, WHOLE_SETTINGS, run
from tests.live.record import Record
from tests.live.schedule import Blow, schedule
from tests.live.world import Whole, World
from tests.servers import mariadb, rocketmq_broker
from tests.servers.private import CannotRun
from tests.support import TestCase

SEED = int(os.environ.get("IMCONNECT_LEDGER_SEED") or random.randrange(10**6))


class ScheduleTests(TestCase):
    def test_one_seed_one_schedule(self) -> None:
        """The same again for the same seed, another one for another."""
        names = ("broker", "database", "gateway", "business")
        self.assertEqual(schedule(5, 300, names), schedule(5, 300, names))
        self.assertNotEqual(schedule(5, 300, names), schedule(6, 300, names))

    def test_everybody_is_hurt(self) -> None:
        """In five minutes each process is, in order of time and never beyond the end."""
        blows = schedule(1, 300, ("broker", "database", "gateway", "business"))
        self.assertEqual({blow.process for blow in blows}, {"broker", "database", "gateway", "business"})
        self.assertEqual(blows, sorted(blows))
        self.assertTrue(all(0 < blow.at < 300 for blow in blows))


class LedgerTests(LiveTestCase):
    timeout = 180.0

    async def play(self, world: World, seconds: float, blows: list[Blow]) -> None:
        """A run that is clean, in which something happened."""
        sys.stderr.write(f"ledger: IMCONNECT_LEDGER_SEED={SEED}\n")
        self.addCleanup(world.end)
        self.processes += world.ours.values()
        outcome = await run(world, SEED, seconds, blows, Record())
        self.assertEqual(outcome.violations, [], f"seed {SEED}\n{table(outcome.violations)}")
        self.assertGreater(outcome.facts["messages stored"], 10 * seconds)

    async def test_embedded(self) -> None:
        """One process, killed at a random moment."""
        world = World(self.reactor, self.folder, SETTINGS)
        at = random.Random(SEED).uniform(2, 6)
        await self.play(world, 9, [Blow(at, "gateway", "kill", 0.1)])

    async def test_whole(self) -> None:
        """Gateway and business are killed in the same second, the database a little later."""
        try:
            broker = await deferToThread(rocketmq_broker.shared)
            database = await deferToThread(mariadb.shared)
        except CannotRun as error:
            missing(str(error))
        world = Whole(self.reactor, self.folder, WHOLE_SETTINGS, broker, database)
        blows = [Blow(3.0, name, "kill", 0.2) for name in ("gateway", "business")]
        await self.play(world, 12, [*blows, Blow(6.0, "database", "kill", 0.2)])
