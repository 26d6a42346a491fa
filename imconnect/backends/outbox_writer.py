"""The thread that writes the SQLite outbox: everything that waits goes into one transaction (group commit)."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Event as Signal
from threading import Lock, Thread
from time import monotonic, sleep

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from imconnect.backends.outbox_calls import Append, Report, Result, Statement, Write
from imconnect.backends.outbox_errors import not_synced, nothing_written
from imconnect.backends.outbox_schema import PAGE_BYTES
from imconnect.backends.threads import Reactor
from imconnect.errors import Damaged, Unavailable

_log = Logger()

#: The WAL is copied into the file each time about this much was written to it.
CHECKPOINT_BYTES = 8 * 1024 * 1024
#: Batches that leave the log in one transaction: a bounded piece, because appends wait meanwhile.
TRIM_BATCHES = 64
#: How long an answer may wait until it is certain that a failed commit left nothing (seconds).
FENCE_SECONDS = 5.0
#: How long a transaction waits where another program (a backup) holds the file (seconds).
LOCKED_SECONDS = 5.0

_INSERT = "INSERT INTO outbox_batch (position, count, created, events) VALUES (?, ?, ?, ?)"
_DONE = "INSERT OR REPLACE INTO outbox_lane (lane, position) VALUES (?, ?)"
_STATE = "INSERT OR REPLACE INTO outbox_state (name, value) VALUES (?, ?)"
_TRIM = """
DELETE FROM outbox_batch WHERE position IN
(SELECT position FROM outbox_batch WHERE position < ?1 AND position + count <= ?1 ORDER BY position LIMIT ?2)
"""
_UNWRITE = "DELETE FROM outbox_batch WHERE position > ?"
_BUMP = "INSERT INTO outbox_state (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"


class Writer:
    """One thread, one connection. `put` and `stop` are called by the reactor, `report` is called on it."""

    #: Replaced where a test needs a disk that fails.
    connection: type[sqlite3.Connection] = sqlite3.Connection

    def __init__(
        self,
        reactor: Reactor,
        path: str,
        sync: str,
        last: int,
        report: Callable[[Report], None],
        lost: Callable[[str], None],
    ) -> None:
        """`lost`: the file could not be synced; nothing is written any more, and what waits is never answered."""
        self._reactor = reactor
        self._path = path
        self._sync = sync
        self._last = last
        self._report = report
        self._tell_lost = lost
        self._lost = False
        self._queue: SimpleQueue[Append | Write | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="outbox-writer", daemon=True)
        self._ready: Deferred[None] = Deferred()
        self._ended: Deferred[None] = Deferred()
        self._stopping = Signal()
        #: Held during each transaction; who resets the WAL takes it, so that neither runs into SQLite's busy wait.
        self.gate = Lock()
        #: Everything below may leave the log; set by the reactor.
        self.below = 0
        self._trimmed = 0
        self._done: deque[Mapping[int, int]] = deque()
        self._positions: dict[int, int] = {}  # not written yet
        self._grown = 0
        self._failing = False
        self._db: sqlite3.Connection

    def start(self) -> Deferred[None]:
        """Fires when the connection is open. Errback: Damaged."""
        self._thread.start()
        return self._ready

    def put(self, call: Append | Write | None) -> None:
        """Write this, in the order of the calls. None: nothing but what waits anyway (positions, trimming)."""
        self._queue.put(call)

    def done(self, positions: Mapping[int, int]) -> None:
        """Written with the next transaction, whatever it is for."""
        self._done.append(positions)

    def stop(self) -> Deferred[None]:
        """Fires when everything put before is finished and the connection is closed."""
        self._stopping.set()
        self._queue.put(None)
        return self._ended.addCallback(lambda _: self._thread.join())  # it ends right behind the call that fired this

    def _run(self) -> None:
        try:
            self._db = self._connect()
        except sqlite3.Error as error:
            self._reactor.callFromThread(self._ready.errback, Damaged(self._path, str(error)))
            return
        self._reactor.callFromThread(self._ready.callback, None)
        stopping = False
        while not stopping:
            calls = self._take()
            stopping = self._stopping.is_set() and self._queue.empty()
            if not self._lost:
                self._transact(calls)
        if not self._lost:
            self._db.close()  # this empties the WAL
        self._reactor.callFromThread(self._ended.callback, None)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=LOCKED_SECONDS, isolation_level=None, factory=self.connection)
        db.execute(f"PRAGMA synchronous = {self._sync}")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        try:
            # A process that died may have left in the WAL what was never synced: before anybody is told that it is in
            # the log, it is written once more, into the file.
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError as error:
            if not_synced(error):
                raise
            _log.warn("outbox {path}: checkpoint at start: {error}", path=self._path, error=str(error))
        return db

    def _take(self) -> list[Append | Write | None]:
        """Everything that waits, at least one call."""
        calls = [self._queue.get()]
        try:
            while True:
                calls.append(self._queue.get_nowait())
        except Empty:
            return calls

    def _transact(self, calls: Sequence[Append | Write | None]) -> None:
        while self._done:
            self._positions.update(self._done.popleft())
        statements, results, last = self._plan(calls)
        below = self.below
        trims = None in calls and below > self._trimmed
        if trims:
            statements += [(_STATE, [("last", last)]), (_TRIM, [(below, TRIM_BATCHES)])]
        if not statements:
            return
        more = failed = False
        try:
            deleted = self._commit(statements)
        except Exception as error:  # a bug too must reach those who wait, and leave this thread alive
            failed = more = True
            try:
                self._undo(error)
            except sqlite3.Error as lost:
                # Neither yes nor no would be true: it may be in the log after a crash, or not.
                self._lost = True
                self._reactor.callFromThread(self._tell_lost, str(lost))
                return
            why = Unavailable(f"outbox: {error}") if isinstance(error, sqlite3.Error) else error
            results = [(call.deferred, why) for call in calls if call is not None]
        else:
            self._last = last
            self._positions.clear()
            if trims:
                more = deleted == TRIM_BATCHES
                self._trimmed = self._trimmed if more else below
            if self._failing:
                self._failing = False
                _log.info("outbox {path} can be written again", path=self._path)
        # A full disk may have room again once the WAL is reset.
        checkpoint = self._grown > CHECKPOINT_BYTES or failed
        if checkpoint:
            self._grown = 0
        self._reactor.callFromThread(self._report, Report(results, failed, checkpoint, more))

    def _plan(self, calls: Sequence[Append | Write | None]) -> tuple[list[Statement], list[Result], int]:
        last = self._last
        rows: list[tuple[int, int, int, bytes]] = []
        results: list[Result] = []
        others: list[Statement] = []
        for call in calls:
            if isinstance(call, Append):
                rows.append((last + 1, call.size, call.created, call.blob))
                results.append((call.deferred, last + 1))
                last += call.size
            elif call is not None:
                others.append(call.statement)
                results.append((call.deferred, None))
        statements: list[Statement] = [(_INSERT, rows)] if rows else []
        if self._positions:
            statements.append((_DONE, list(self._positions.items())))
        self._grown += sum(len(row[3]) for row in rows) + PAGE_BYTES * (len(rows) + len(others) + 1)
        return statements + others, results, last

    def _commit(self, statements: Sequence[Statement]) -> int:
        """Write all or nothing. Returns how many rows the last statement changed."""
        changed = 0
        # One statement is a transaction of its own: each further call into SQLite may wait for the interpreter's lock.
        alone = sum(len(rows) for _, rows in statements) == 1
        with self.gate:
            if not alone:
                self._db.execute("BEGIN IMMEDIATE")
            for sql, rows in statements:
                changed = self._db.executemany(sql, rows).rowcount
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        return changed

    def _undo(self, error: Exception) -> None:
        """Make sure that nothing of a failed transaction is in the log, now or after a crash. Raises what cannot be
        undone: an fsync that failed."""
        if not_synced(error):
            raise error
        if not self._failing:
            self._failing = True
            _log.error("outbox {path} cannot be written: {error}", path=self._path, error=str(error))
        self._rollback()
        if nothing_written(error):
            return
        # The next transaction is written over the failed one in the WAL, so one that says nothing takes its place.
        deadline = monotonic() + FENCE_SECONDS
        while True:
            try:
                self._commit([(_UNWRITE, [(self._last,)]), (_STATE, [("last", self._last)]), (_BUMP, [("fence",)])])
                return
            except sqlite3.Error as again:
                self._rollback()
                if not_synced(again):
                    raise
                if monotonic() > deadline:
                    break
                sleep(0.1)
        _log.critical("outbox {path}: refused events after {last} may come back", path=self._path, last=self._last)

    def _rollback(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:  # the transaction has ended all the same
            _log.error("outbox {path}: rollback: {error}", path=self._path, error=str(error))
