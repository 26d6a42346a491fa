"""The jobs that tidy up the database of business, and what a process that has them says about it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.logger import Logger

from imconnect.business.rows import Stock
from imconnect.business.service import PIECE
from imconnect.core.background import Background
from imconnect.core.ports import Pushback
from imconnect.errors import Unavailable
from imconnect.observe.metrics import Metrics
from imconnect.tap.database import Database

_log = Logger()

#: Seconds between two rounds of the jobs: what two consumers let slip, and the retention.
SETTLE, PURGE = 60.0, 3600.0


class Jobs:
    """A part of the service tree: applies early events whose message is here after all, deletes what is too old
    (`keep_days`, 0: nothing), and looks at how much lies aside."""

    def __init__(
        self, reactor: Any, database: Database, now_ms: Callable[[], int], keep_days: int, pushback: Pushback
    ) -> None:
        self._database, self._writer, self._rules = database, database.writer, database.rules
        self._now_ms, self._keep_days = now_ms, keep_days
        self._pushback = pushback
        self._background = Background(reactor)
        self._busy: set[str] = set()
        self._stock: Stock | None = None
        #: Why the last round failed; empty if it did not.
        self.trouble = ""

    def start(self) -> None:
        self._database.when_there(lambda: self._begin("early events", self._settle))
        self._background.every(SETTLE, lambda: self._begin("early events", self._settle), "early events")
        if self._keep_days:
            self._background.every(PURGE, lambda: self._begin("retention", self._purge), "retention")

    async def stop(self) -> None:
        await self._background.stop()

    @property
    def parked(self) -> int:
        """Events that wait for a person."""
        return self._stock.parked if self._stock else 0

    @property
    def early(self) -> int:
        """Events that wait for their message."""
        return self._stock.early if self._stock else 0

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


class Keeping:
    """The database and its jobs, to be looked at."""

    def __init__(self, database: Database, jobs: Jobs) -> None:
        self.database, self.jobs = database, jobs

    def degraded(self) -> list[str]:
        """What is away, or waits for a person."""
        found = ["database"] if self.database.away or self.jobs.trouble else []
        return [*found, "parked"] if self.jobs.parked else found

    def stats(self) -> dict[str, Any]:
        """What `/stats` shows of it."""
        return {"business": attrs.asdict(self.database.rules.counts), "parked_rows": self.jobs.parked}

    def register(self, metrics: Metrics) -> None:
        """Everything that is asked at scrape time."""
        counts, jobs = self.database.rules.counts, self.jobs
        metrics.gauges.update(
            {
                "business_events": lambda: counts.events,
                "business_parked": lambda: counts.parked,
                "business_early_kept": lambda: counts.early_kept,
                "business_early_dropped": lambda: counts.early_dropped,
                "business_parked_rows": lambda: jobs.parked,
                "business_early_rows": lambda: jobs.early,
            }
        )
