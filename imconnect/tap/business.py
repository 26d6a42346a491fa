"""Business in the gateway's own process: the embedded queue, the database, and the jobs that tidy up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imconnect.backends.datadir import DataDir
from imconnect.backends.producer_embedded import EmbeddedProducer
from imconnect.backends.store_sql import SqlPendingStore
from imconnect.backends.threads import Pool
from imconnect.config import Config
from imconnect.core.node import Node
from imconnect.tap.database import Database, Jobs

#: Threads that read what users are owed.
READERS = 4


class EmbeddedBusiness:
    """A part of the service tree. Writes on one thread, reads on a few others; one engine for both."""

    def __init__(self, reactor: Any, config: Config, folder: DataDir, now_ms: Callable[[], int]) -> None:
        self._database = Database(reactor, config, config.business.database or folder.file("business.db"), now_ms)
        self._readers = Pool(reactor, "store", READERS)
        self._jobs = Jobs(reactor, self._database, now_ms, config.business.keep_days, self)
        self._node: Node | None = None
        self.producer = EmbeddedProducer(self._database.rules, self._database.writer, self)
        self.store = SqlPendingStore(self._database.engine, self._readers)

    def tell_through(self, node: Node) -> None:
        """Where people are told things."""
        self._node = node

    def tell(self, applied: Any) -> None:
        """The port Pushback."""
        if self._node is not None:
            self._node.tell(applied)

    def gauges(self) -> dict[str, Callable[[], float]]:
        """What this side counts."""
        return {**self._database.gauges(), **self._jobs.gauges()}

    async def start(self) -> None:
        """The schema in place, then events are taken. Errors: Damaged, ConfigError, Unavailable."""
        self._readers.start()
        await self._database.start()
        self._jobs.start()

    async def stop(self) -> None:
        await self._jobs.stop()
        await self._readers.stop()
        await self._database.stop()
