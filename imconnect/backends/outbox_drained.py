"""A mark in the log of a gateway that does not come back: everything in it was brought to the queue, nothing is to follow.

Without it somebody who starts that gateway again later, perhaps on a copy, would have two nodes in one's place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

from imconnect.backends import outbox_schema
from imconnect.backends.outbox_schema import READ_ERRORS
from imconnect.errors import ConfigError, Damaged

_MARK = "INSERT OR REPLACE INTO outbox_state (name, value) VALUES ('drained_ms', ?)"
_READ = "SELECT value FROM outbox_state WHERE name = 'drained_ms'"


def mark(path: str, now_ms: Callable[[], int]) -> None:
    """Durable when this returns. The caller holds the data_dir. Raises Damaged."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute(_MARK, (now_ms(),))
    except READ_ERRORS as error:
        raise Damaged(path, str(error)) from error


def refuse(path: str) -> None:
    """Raises ConfigError where this log has the mark, Damaged where it cannot be read. No file is fine."""
    if outbox_schema.is_new(path):
        return
    try:
        with closing(outbox_schema.connect_reader(path)) as db:
            found = db.execute(_READ).fetchone()
    except READ_ERRORS as error:
        raise Damaged(path, str(error)) from error
    if found is not None:
        when = datetime.fromtimestamp(found[0] / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise ConfigError(
            "data_dir",
            f"expected one that is in use: {path} was drained for good by `imconnect outbox drain` ({when}); to use the "
            "folder for a new gateway, move outbox.db, outbox.db-wal and outbox.db-shm away",
        )
