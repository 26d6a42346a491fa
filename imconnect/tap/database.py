"""The database that business keeps and the jobs that tidy it up: the same in a gateway and in imbusiness."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.logger import Logger

from imconnect.backends.sql.engine import make_engine, sqlite_path
from imconnect.backends.sql.migrate import SchemaTooNew, SchemaTooOld, check_file, ensure_schema
from imconnect.backends.store_sql import SqlStore
from imconnect.backends.threads import Pool
from imconnect.business.rows import Stock
from imconnect.business.rules import Terms
from imconnect.business.service import PIECE, BusinessRules
from imconnect.config import Config
from imconnect.core.background import Background, sleep
from imconnect.core.ports import Pushback
from imconnect.errors import ConfigError, Unavailable

_log = Logger()

#: Seconds between two rounds of the jobs: what two consumers let slip, and the retention.
SETTLE, PURGE = 60.0, 3600.0
#: Seconds until a database that is away at the start is tried again; doubles up to the second figure.
FIRST_RETRY, LAST_RETRY = 0.5, 10.0


class Database:
    """A part of the service tree: one engine, and one thread that writes, on which the rules are applied.

    `patient`: a database that is away at the start is waited for; else the start fails. ConfigError for a bad URL.
    """

    def __init__(
        self, reactor: Any, config: Config, url_or_path: str, now_ms: Callable[[], int], *, patient: bool = False
    ) -> None:
        self._reactor = reactor
        self._patient = patient
        #: The start waits for a database that is away.
        self.waiting = False
        self.engine = make_engine(url_or_path, config.outbox.sync)
        if self.engine.dialect.name == "sqlite":
            check_file(sqlite_path(self.engine))
        self.writer = Pool(reactor, "business", 1)
        terms = Terms(
            withdraw_window=int(config.limits.withdraw_window * 1000), always_tell=config.profile == "xzll"
        )
        self.rules = BusinessRules(SqlStore(self.engine), now_ms, terms)

    async def start(self) -> None:
        """The schema is in place. Errors: Damaged, ConfigError (an older schema: which command upgrades it)."""
        self.writer.start()
        wait = FIRST_RETRY
        while not await self._ensured():
            await sleep(self._reactor, wait)
            wait = min(LAST_RETRY, wait * 2)
        if self.waiting:
            self.waiting = False
            _log.info("the database is there")

    async def stop(self) -> None:
        await self.writer.stop()
        self.engine.dispose()

    async def _ensured(self) -> bool:
        try:
            await self.writer.run(ensure_schema, self.engine)
        except (SchemaTooOld, SchemaTooNew) as error:
            raise ConfigError("business.database", str(error)) from None
        except Unavailable as error:
            if not self._patient:
                raise
            if not self.waiting:
                self.waiting = True
                _log.warn("the start waits for the database: {why}", why=str(error))
            return False
        return True

    def gauges(self) -> dict[str, Callable[[], float]]:
        """What the rules count."""
        counts = self.rules.counts
        return {
            "business_events": lambda: counts.events,
            "business_parked": lambda: counts.parked,
            "business_early_kept": lambda: counts.early_kept,
            "business_early_dropped": lambda: counts.early_dropped,
        }


class Jobs:
    """A part of the service tree: applies early events whose message is here after all, deletes what is too old
    (`keep_days`, 0: nothing), and looks at how much lies aside."""

    def __init__(
        self, reactor: Any, database: Database, now_ms: Callable[[], int], keep_days: int, pushback: Pushback
    ) -> None:
        self._writer, self._rules = database.writer, database.rules
        self._now_ms, self._keep_days = now_ms, keep_days
        self._pushback = pushback
        self._background = Background(reactor)
        self._busy: set[str] = set()
        self._stock: Stock | None = None
        #: Why the last round failed; empty if it did not.
        self.trouble = ""

    def start(self) -> None:
        self._begin("early events", self._settle)
        self._background.every(SETTLE, lambda: self._begin("early events", self._settle), "early events")
        if self._keep_days:
            self._background.every(PURGE, lambda: self._begin("retention", self._purge), "retention")

    async def stop(self) -> None:
        await self._background.stop()

    def gauges(self) -> dict[str, Callable[[], float]]:
        """How much lies aside in the database, whoever put it there."""
        return {
            "business_parked_rows": lambda: self.parked,
            "business_early_rows": lambda: self._stock.early if self._stock else 0,
        }

    @property
    def parked(self) -> int:
        """Events that wait for a person."""
        return self._stock.parked if self._stock else 0

    def _begin(self, what: str, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """One round, unless the one before still waits for the database."""
        if what not in self._busy:
            self._background.run(self._round(what, job), what)

    async def _round(self, what: str, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._busy.add(what)
        try:
            await job()
        except Unavailable as error:
            if not self.trouble:
                _log.warn("{what}: waiting for the database: {why}", what=what, why=str(error))
            self.trouble = str(error)
        else:
            if self.trouble:
                _log.info("{what}: the database answers again", what=what)
            self.trouble = ""
        finally:
            self._busy.discard(what)

    async def _settle(self) -> None:
        self._pushback.tell(await self._writer.run(self._rules.settle_early, self._now_ms()))
        self._stock = await self._writer.run(self._rules.stock)

    async def _purge(self) -> None:
        deleted, piece = 0, PIECE
        try:
            while piece == PIECE:
                piece = await self._writer.run(self._rules.purge, self._now_ms(), self._keep_days)
                deleted += piece
        finally:
            if deleted:
                _log.info("{count} messages older than business.keep_days were deleted", count=deleted)
