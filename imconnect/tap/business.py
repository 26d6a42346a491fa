"""Business in the gateway's own process: the embedded queue, the database, and the jobs that tidy up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from imconnect.backends.datadir import DataDir
from imconnect.backends.producer_embedded import EmbeddedProducer
from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import ensure_schema
from imconnect.backends.store_sql import SqlPendingStore, SqlStore
from imconnect.backends.threads import Pool
from imconnect.business.rules import Terms
from imconnect.business.service import PIECE, BusinessRules
from imconnect.config import Config
from imconnect.core.background import Background
from imconnect.core.node import Node
from imconnect.errors import Unavailable

_log = Logger()

#: Seconds between two rounds of the jobs: what two consumers let slip, and the retention.
SETTLE, PURGE = 60.0, 3600.0
#: Threads that read what users are owed.
READERS = 4


class EmbeddedBusiness:
    """A part of the service tree. Writes on one thread, reads on a few others; one engine for both."""

    def __init__(self, reactor: Any, config: Config, folder: DataDir, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._keep_days = config.business.keep_days
        self._engine = make_engine(config.business.database or folder.file("business.db"), config.outbox.sync)
        self._writer = Pool(reactor, "business", 1)
        self._readers = Pool(reactor, "store", READERS)
        terms = Terms(withdraw_window=int(config.limits.withdraw_window * 1000))
        self._rules = BusinessRules(SqlStore(self._engine), now_ms, terms)
        self._background = Background(reactor)
        self._node: Node | None = None
        self._purging = False
        self.producer = EmbeddedProducer(self._rules, self._writer, self)
        self.store = SqlPendingStore(self._engine, self._readers)

    def tell_through(self, node: Node) -> None:
        """Where people are told things."""
        self._node = node

    def tell(self, applied: Any) -> None:
        """The port Pushback."""
        if self._node is not None:
            self._node.tell(applied)

    def gauges(self) -> dict[str, Callable[[], float]]:
        """What this side counts."""
        counts = self._rules.counts
        return {
            "business_events": lambda: counts.events,
            "business_parked": lambda: counts.parked,
            "business_early_dropped": lambda: counts.early_dropped,
        }

    async def start(self) -> None:
        """The schema in place, then events are taken. Errors: Damaged, ConfigError."""
        self._writer.start()
        self._readers.start()
        await self._writer.run(ensure_schema, self._engine)
        self._background.every(SETTLE, lambda: self._background.run(self._settle(), "early events"), "early events")
        self._background.every(PURGE, self._purge_all, "retention")

    async def stop(self) -> None:
        await self._background.stop()
        await self._writer.stop()
        await self._readers.stop()
        self._engine.dispose()

    async def _settle(self) -> None:
        try:
            self.tell(await self._writer.run(self._rules.settle_early, self._now_ms()))
        except Unavailable as error:
            _log.warn("early events wait: {why}", why=str(error))

    def _purge_all(self) -> None:
        if self._keep_days and not self._purging:
            self._purging = True
            self._background.run(self._purge(), "retention")

    async def _purge(self) -> None:
        deleted = 0
        try:
            while True:
                piece = await self._writer.run(self._rules.purge, self._now_ms(), self._keep_days)
                deleted += piece
                if piece < PIECE:
                    break
        except Unavailable as error:
            _log.warn("the retention job waits: {why}", why=str(error))
        finally:
            self._purging = False
        if deleted:
            _log.info("{count} messages older than business.keep_days were deleted", count=deleted)
