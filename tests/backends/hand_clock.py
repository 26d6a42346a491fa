"""Real threads, but time passes by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.backends.threads import Reactor
from tests.support import ReactorTestCase


def real_reactor() -> Reactor:
    """The reactor that runs the tests, with the type that backends ask for."""
    from twisted.internet import reactor

    return cast(Reactor, reactor)


class HandClock(Clock):
    """Real threads, but time passes by hand; counts what the threads report."""

    def __init__(self) -> None:
        super().__init__()
        self.reports = 0
        self._waiting: list[Deferred[None]] = []

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        real_reactor().callFromThread(self._call, callable, args, kwargs)

    def _call(self, callable: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.reports += 1
        waiting, self._waiting = self._waiting, []
        callable(*args, **kwargs)
        for reported in waiting:
            reported.callback(None)

    def reported(self) -> Deferred[None]:
        """Fires with the next report of a thread."""
        self._waiting.append(Deferred())
        return self._waiting[-1]


class SqliteCase(ReactorTestCase):
    """Outboxes on such a clock."""

    def setUp(self) -> None:
        self.clock = HandClock()

    async def opened(self, path: str = "") -> SqliteOutbox:
        outbox = SqliteOutbox(self.clock, path or self.mktemp())
        self.addCleanup(outbox.close)
        await outbox.open()
        return outbox

    def ask(self, outbox: SqliteOutbox, sql: str) -> list[Any]:
        """What another program finds in the file."""
        with closing(sqlite3.connect(outbox.path)) as db:
            return db.execute(sql).fetchall()
