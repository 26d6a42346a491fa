"""The outbox on SQLite: WAL, one row per batch. Three threads of its own: one writes, one reads, one looks after the WAL."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from imconnect.backends import outbox_schema
from imconnect.backends.outbox_calls import Append, Report, Write
from imconnect.backends.outbox_upkeep import Upkeep
from imconnect.backends.outbox_writer import Writer
from imconnect.backends.threads import Pool, Reactor
from imconnect.core.ports import Entry, Recovered
from imconnect.errors import Damaged, Unavailable
from imconnect.events.records import pack
from imconnect.events.values import Event

_log = Logger()
_R = TypeVar("_R")

Sync = Literal["full", "normal", "off"]

#: How long relay positions and trimming wait for a transaction to ride with (seconds); after a failed one; between pieces.
RIDE_SECONDS = 0.2
RETRY_SECONDS = 1.0
PIECE_SECONDS = 0.05

_RESERVE = (
    "INSERT INTO outbox_state (name, value) VALUES ('reserved_ms', ?) "
    "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)"
)
_PARK = "INSERT OR REPLACE INTO outbox_parked (position, created, reason, event) VALUES (?, ?, ?, ?)"


class SqliteOutbox:
    """`imconnect.core.ports.Outbox` in the file `path`. Nothing is opened or started before `open()`.

    `sync` is SQLite's `synchronous`: with `full` a commit survives the loss of power, with `normal` and `off` only
    the death of the process. `lost` is called, after a line in the log, when the file could not be synced to the
    disk: the process has to end, and recovers at its next start. What waited is neither accepted nor refused.
    """

    def __init__(
        self, reactor: Reactor, path: str, sync: Sync = "full", lost: Callable[[], None] = lambda: None
    ) -> None:
        self._reactor = reactor
        self._lost = lost
        self.path = os.path.abspath(path)
        self._sync = sync
        self._order = DeferredLock()  # open and close, one after the other
        self._reading = Pool(reactor, "outbox-reader", 1)
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._upkeep: Upkeep | None = None
        self._open = False
        self._closed = False
        self._positions: dict[int, int] = {}
        self._timer: IDelayedCall | None = None

    def open(self) -> Deferred[Recovered]:
        """See `Outbox.open`. Once; Unavailable after `close()`."""
        return self._order.run(self._start)

    async def _start(self) -> Recovered:
        if self._closed or self._writer is not None:
            raise Unavailable("the outbox was opened before")
        self._reading.start()
        try:
            recovered, self._positions = await self._reading.run(self._recover)
            writer = Writer(self._reactor, self.path, self._sync, recovered.last, self._report, self._give_up)
            await writer.start()
        except Exception:
            await self._release()
            raise
        self._writer = writer
        self._upkeep = Upkeep(self._reactor, self.path, self._sync, writer.gate, self._give_up)
        self._open = not self._closed
        return recovered

    def _recover(self) -> tuple[Recovered, dict[int, int]]:
        """On the reader's thread. Everything is read and checked before anything could write to the file."""
        outbox_schema.inspect(self.path)
        with outbox_schema.advising():
            try:
                if outbox_schema.is_new(self.path):
                    outbox_schema.create(self.path)
            except (OSError, sqlite3.Error) as error:
                raise Damaged(self.path, str(error)) from error
            self._reader = outbox_schema.connect_reader(self.path)
            return outbox_schema.recover(self._reader, self.path)

    def append(self, events: Sequence[Event]) -> Deferred[int]:
        """See `Outbox.append`."""
        if not self._open or self._writer is None:
            return fail(Unavailable("the outbox is not open"))
        if not events:
            raise ValueError("an empty batch has no number")
        deferred: Deferred[int] = Deferred()
        self._writer.put(Append(deferred, pack(events), len(events), self._now()))
        return deferred

    def read(self, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        """See `Outbox.read`. Errback: Damaged, Unavailable."""
        return self._query(lambda reader: outbox_schema.read(reader, self.path, after, limit))

    def done(self, positions: Mapping[int, int]) -> None:
        """See `Outbox.done`."""
        if self._open and self._writer is not None:
            self._positions.update(positions)
            self._writer.done(dict(positions))
            self._ride(RIDE_SECONDS)

    def positions(self) -> Mapping[int, int]:
        """See `Outbox.positions`."""
        return dict(self._positions)

    def park(self, parked: Iterable[tuple[int, Event, str]]) -> Deferred[None]:
        """See `Outbox.park`. Errback: Unavailable."""
        now = self._now()
        return self._write(_PARK, [(number, now, reason, pack([event])) for number, event, reason in parked])

    def parked(self) -> Deferred[Sequence[tuple[int, Event, str]]]:
        """See `Outbox.parked`. Errback: Damaged, Unavailable."""
        return self._query(lambda reader: outbox_schema.parked(reader, self.path))

    def forget(self, below: int) -> None:
        """See `Outbox.forget`."""
        if self._open and self._writer is not None and below > self._writer.below:
            self._writer.below = below
            self._ride(RIDE_SECONDS)

    def reserve(self, until_ms: int) -> Deferred[None]:
        """See `Outbox.reserve`. Errback: Unavailable."""
        return self._write(_RESERVE, [(until_ms,)])

    def size(self) -> int:
        """See `Outbox.size`."""
        return sum(_file_size(self.path + suffix) for suffix in ("", "-wal"))

    def close(self) -> Deferred[None]:
        """See `Outbox.close`. May be called twice, and while opening."""
        self._open = False
        self._closed = True
        return self._order.run(self._release)

    async def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._reading.stop()
        if self._reader is not None:
            self._reader.close()
        writer, self._writer = self._writer, None
        upkeep, self._upkeep = self._upkeep, None
        # The writer's connection goes last: the last one to close empties the WAL, which takes a while.
        if upkeep is not None:
            await upkeep.stop()
        if writer is not None:
            await writer.stop()
        if upkeep is not None:
            upkeep.release()

    def _now(self) -> int:
        return int(self._reactor.seconds() * 1000)

    def _write(self, sql: str, rows: Sequence[Sequence[Any]]) -> Deferred[None]:
        if not self._open or self._writer is None:
            return fail(Unavailable("the outbox is not open"))
        if not rows:
            return succeed(None)
        deferred: Deferred[None] = Deferred()
        self._writer.put(Write(deferred, (sql, rows)))
        return deferred

    def _query(self, question: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        if not self._open or self._reader is None:
            return fail(Unavailable("the outbox is not open"))
        return self._reading.run(self._ask, question, self._reader)

    def _ask(self, question: Callable[[sqlite3.Connection], _R], reader: sqlite3.Connection) -> _R:
        """On the reader's thread."""
        try:
            return question(reader)
        except outbox_schema.READ_ERRORS as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, I/O
                raise Unavailable(f"outbox: {error}") from error
            raise Damaged(self.path, str(error)) from error

    def _report(self, report: Report) -> None:
        """On the reactor, once per transaction."""
        for deferred, result in report.results:
            if isinstance(result, Exception):
                deferred.errback(result)
            else:
                deferred.callback(result)
        if self._open and report.more:
            self._ride(RETRY_SECONDS if report.failed else PIECE_SECONDS)
        if self._open and report.checkpoint and self._upkeep is not None:
            self._upkeep.checkpoint()

    def _give_up(self, why: str) -> None:
        if self._open:
            self._open = False
            _log.critical(
                "outbox {path} could not be synced to the disk: {why}. Nothing is accepted any more and the process "
                "ends; everything that was acknowledged is there at the next start",
                path=self.path,
                why=why,
            )
            self._lost()

    def _ride(self, delay: float) -> None:
        if self._timer is None:
            self._timer = self._reactor.callLater(delay, self._ridden)

    def _ridden(self) -> None:
        self._timer = None
        if self._writer is not None:
            self._writer.put(None)


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
