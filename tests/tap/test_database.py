"""The part that keeps the database, and the jobs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from imconnect.backends.sql.migrate import SchemaTooNew, SchemaTooOld, ensure_schema
from imconnect.business.rows import Source
from imconnect.config import Config
from imconnect.errors import ConfigError, Damaged, Unavailable
from imconnect.model import Applied
from imconnect.observe.metrics import Metrics
from imconnect.tap import database as module
from imconnect.tap import jobs as jobs_module
from imconnect.tap.database import Database
from imconnect.tap.jobs import Jobs, Keeping
from tests.business.made import NOW, T0, ack, in_database, sent
from tests.support import ReactorTestCase


class Told:
    def __init__(self) -> None:
        self.applied: list[Applied] = []

    def tell(self, applied: Applied) -> None:
        self.applied.append(applied)


class DatabaseTestCase(ReactorTestCase):
    timeout = 30

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def database(self, url_or_path: str, **options: Any) -> Database:
        database = Database(self.reactor, Config(), url_or_path, lambda: NOW, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(database.stop()))
        return database

    async def until(self, true: Any) -> None:
        end = self.reactor.seconds() + 10
        while not true():
            if self.reactor.seconds() > end:
                self.fail("it did not happen")
            await deferLater(self.reactor, 0.01)


class DatabaseTests(DatabaseTestCase):
    async def test_one_that_is_away_is_waited_for(self) -> None:
        """The start goes on trying, says that it waits, and is done when the database is there."""
        self.patch(module, "FIRST_RETRY", 0.02)
        path = self.folder / "later" / "business.db"
        database = self.database(f"sqlite:///{path}", if_away="wait")
        started: list[Any] = []
        Deferred.fromCoroutine(database.start()).addBoth(started.append)
        await self.until(lambda: database.away)
        await deferLater(self.reactor, 0.2)
        self.assertEqual(started, [])
        path.parent.mkdir()
        await self.until(lambda: started)
        self.assertEqual((started, database.away), ([None], ""))
        await database.writer.run(database.rules.apply, [sent(7)])
        self.assertEqual([row.msg_id for row in in_database(database.engine).messages], [7])

    async def test_waiting_can_be_ended(self) -> None:
        """A process that is stopped meanwhile stops."""
        database = self.database(f"sqlite:///{self.folder}/never/business.db", if_away="wait")
        start = Deferred.fromCoroutine(database.start())
        await self.until(lambda: database.away)
        start.cancel()
        await self.assertFailure(start, CancelledError)
        await database.stop()

    async def test_the_start_goes_on_without(self) -> None:
        """The start is over at once, nothing is written meanwhile, and who asked is called when it is there."""
        self.patch(module, "FIRST_RETRY", 0.02)
        path = self.folder / "later" / "business.db"
        database = self.database(f"sqlite:///{path}", if_away="go on")
        await database.start()
        self.assertIn("unable to open", database.away)
        called: list[str] = []
        database.when_there(lambda: called.append("then"))
        refused = Deferred.fromCoroutine(self.applied(database))
        self.assertIn("unable to open", str(self.failureResultOf(refused, Unavailable).value))
        path.parent.mkdir()
        await self.until(lambda: called)
        database.when_there(lambda: called.append("at once"))
        self.assertEqual((called, database.away), (["then", "at once"], ""))
        await self.applied(database)

    async def test_an_answer_that_does_not_come(self) -> None:
        """A start that may go on without waits for a short while only; when the answer comes, all is well."""
        self.patch(module, "FIRST_ANSWER", 0.05)
        answer = threading.Event()
        self.addCleanup(answer.set)

        def late(engine: Any) -> None:
            answer.wait(20)
            ensure_schema(engine)

        self.patch(module, "ensure_schema", late)
        database = self.database(str(self.folder / "business.db"), if_away="go on")
        await database.start()
        self.assertIn("no answer", database.away)
        answer.set()
        await self.until(lambda: not database.away)
        await self.applied(database)

    async def test_a_schema_that_is_not_this_version_s(self) -> None:
        """Without it, business does not start: with a gateway around, that goes on; else the start ends."""
        self.patch(module, "FIRST_RETRY", 0.02)
        states: list[Exception] = [SchemaTooOld("run `imconnect db upgrade` once"), SchemaTooNew("a newer one")]

        def ensure(engine: Any) -> None:
            if states:
                raise states.pop(0)

        self.patch(module, "ensure_schema", ensure)
        waiting = self.database(str(self.folder / "business.db"), if_away="wait")
        refused: Any = self.assertFailure(Deferred.fromCoroutine(waiting.start()), ConfigError)
        self.assertEqual((await refused).key, "business.database")
        states.insert(0, SchemaTooOld("run `imconnect db upgrade` once"))
        database = self.database(str(self.folder / "business.db"), if_away="go on")
        await database.start()
        self.assertIn("imconnect db upgrade", database.away)
        await self.until(lambda: not database.away)

    async def applied(self, database: Database) -> None:
        """Something is written."""
        await database.writer.run(database.rules.apply, [sent(7)])

    async def test_without_patience_it_fails(self) -> None:
        """As a gateway with business inside wants it."""
        database = self.database(f"sqlite:///{self.folder}/never/business.db")
        await self.assertFailure(Deferred.fromCoroutine(database.start()), Unavailable)

    def test_a_file_that_is_not_ours(self) -> None:
        """Found before anything runs."""
        path = self.folder / "business.db"
        path.write_bytes(b"something else entirely, and long" * 99)
        error = self.assertRaises(Damaged, Database, self.reactor, Config(), str(path), lambda: NOW)
        self.assertIn(str(path), str(error))


class JobsTests(DatabaseTestCase):
    async def test_early_events_and_the_stock(self) -> None:
        """The first round comes at the start: what waits is settled, told, and counted."""
        database = self.database(str(self.folder / "business.db"))
        await database.start()
        await database.writer.run(database.rules.apply, [ack(8, 3, by_business=True)])
        await database.writer.run(database.rules.park, Source("T", 0, 0, b"body"), "poison")
        told = Told()
        jobs = Jobs(self.reactor, database, lambda: NOW, 0, told)
        jobs.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(jobs.stop()))
        await self.until(lambda: jobs.parked == 1)
        keeping, metrics = Keeping(database, jobs), Metrics()
        keeping.register(metrics)
        self.assertEqual([metrics.gauges[f"business_{name}_rows"]() for name in ("parked", "early")], [1, 1])
        self.assertEqual(keeping.degraded(), ["parked"])
        self.assertEqual((keeping.stats()["parked_rows"], keeping.stats()["business"]["events"]), (1, 1))
        self.assertEqual((told.applied, jobs.trouble), ([Applied()], ""))

    async def test_the_retention(self) -> None:
        """With keep_days, old messages that nobody is owed go; without, they stay."""
        database = self.database(str(self.folder / "business.db"))
        await database.start()
        await database.writer.run(database.rules.apply, [sent(7), ack(7, 4), sent(8)])
        self.patch(jobs_module, "PURGE", 0.05)
        later = T0 + 40 * 86_400_000
        for keep_days, kept in ((0, [7, 8]), (50, [7, 8]), (30, [8])):
            jobs = Jobs(self.reactor, database, lambda: later, keep_days, Told())
            jobs.start()
            await deferLater(self.reactor, 0.3)
            await jobs.stop()
            self.assertEqual([row.msg_id for row in in_database(database.engine).messages], kept)

    async def test_a_database_that_is_away(self) -> None:
        """Said, and tried again in the next round."""
        database = self.database(str(self.folder / "business.db"))
        jobs = Jobs(self.reactor, database, lambda: NOW, 0, Told())
        self.patch(jobs_module, "SETTLE", 0.05)
        jobs.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(jobs.stop()))
        await self.until(lambda: jobs.trouble)
        await database.start()
        await self.until(lambda: not jobs.trouble)
