"""Copies the WAL of the SQLite outbox into its file, on a thread of its own and out of the way of the commits."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from threading import Lock

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.backends.outbox_errors import NotSynced, not_synced
from imconnect.backends.outbox_schema import PAGE_BYTES
from imconnect.backends.threads import Pool, Reactor

_log = Logger()

#: A WAL beyond this starts anew under the writer's gate, because a copy beside a busy writer never reaches its end.
RESTART_BYTES = 64 * 1024 * 1024
#: Beyond this its file is made small again too; a smaller one is written over.
TRUNCATE_BYTES = 256 * 1024 * 1024


class Upkeep:
    """One checkpoint at a time. `gate` is held by whoever writes; `lost`: the file could not be synced."""

    def __init__(self, reactor: Reactor, path: str, sync: str, gate: Lock, lost: Callable[[str], None]) -> None:
        self._path = path
        self._sync = sync
        self._gate = gate
        self._lost = lost
        self._pool = Pool(reactor, "outbox-upkeep", 1)
        self._pool.start()
        self._db: sqlite3.Connection | None = None
        self._file: int | None = None
        self._running = False
        self._failing = False

    def checkpoint(self) -> None:
        """Copy what was committed so far, unless a copy is running. A failure is logged; the WAL only grows meanwhile."""
        if not self._running:
            self._running = True
            self._pool.run(self._checkpoint).addCallbacks(self._finished, self._failed)

    def stop(self) -> Deferred[None]:
        """Finish the copy and close the connection. While the writer's is still open: the last one takes longer."""
        return self._pool.stop().addCallback(self._close)

    def release(self) -> None:
        """When the last connection to the file is closed: closing any descriptor of it earlier drops SQLite's locks."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _close(self, _: None) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _checkpoint(self) -> None:
        """On the thread."""
        if self._db is None:
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=0.05)
            self._db.execute(f"PRAGMA synchronous = {self._sync}")
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        frames = self._copy(self._db, "PASSIVE")
        if frames * PAGE_BYTES > RESTART_BYTES:
            # The second copy leaves little for the third, during which appends wait.
            self._copy(self._db, "PASSIVE")
            with self._gate:
                self._copy(self._db, "TRUNCATE" if frames * PAGE_BYTES > TRUNCATE_BYTES else "RESTART")

    def _copy(self, db: sqlite3.Connection, mode: str) -> int:
        frames = int(db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[1])
        if mode == "PASSIVE" and self._sync != "off" and self._file is not None:
            # SQLite itself syncs the file only at the very end, with the gate closed.
            try:
                os.fsync(self._file)
            except OSError as error:
                raise NotSynced(str(error)) from error
        return frames

    def _finished(self, _: None) -> None:
        self._running = self._failing = False

    def _failed(self, failure: Failure) -> None:
        self._running = False
        if not_synced(failure.value):
            self._lost(failure.getErrorMessage())
        elif not self._failing:
            self._failing = True
            _log.warn("outbox {path}: checkpoint: {error}", path=self._path, error=failure.getErrorMessage())
