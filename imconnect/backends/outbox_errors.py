"""What an error of SQLite says about the outbox's file: nothing was written, or what was written is lost, or neither."""

from __future__ import annotations

import sqlite3

# After these the commit record surely is not in the WAL. After any other error it may be.
_NOTHING_WRITTEN = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL}
_NOT_SYNCED = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}


class NotSynced(Exception):
    """An fsync of our own failed."""


def nothing_written(error: BaseException) -> bool:
    """Whether a transaction that failed like this surely left nothing in the file, now or after a crash."""
    code = _code(error)
    return code == sqlite3.SQLITE_IOERR_WRITE or code & 0xFF in _NOTHING_WRITTEN


def not_synced(error: BaseException | None) -> bool:
    """Whether an fsync failed. The system then forgets which pages were meant, and the next fsync says yes without
    having written them: this process must not touch the file any more. The next one reads it and writes it anew."""
    return isinstance(error, NotSynced) or _code(error) in _NOT_SYNCED


def _code(error: BaseException | None) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK))
