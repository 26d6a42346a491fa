"""Events that the broker refused for good, back into the log: by hand, while no gateway has it open."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing

from imconnect.backends import outbox_schema
from imconnect.backends.outbox_schema import READ_ERRORS
from imconnect.errors import Damaged

_NEXT = """
SELECT 1 + max(coalesce((SELECT max(position + count - 1) FROM outbox_batch), 0),
               coalesce((SELECT value FROM outbox_state WHERE name = 'last'), 0))
"""
_MOVE = "INSERT INTO outbox_batch SELECT ?, 1, ?, event FROM outbox_parked WHERE position = ?"


def replay(path: str, positions: Collection[int], now_ms: Callable[[], int]) -> None:
    """Put these behind everything that is in the log, in their order, all or none; the next start relays them.

    The caller holds the data_dir. KeyError for one that is not parked. Raises Damaged, and touches nothing then.
    """
    with closing(outbox_schema.connect_reader(path)) as reader:
        outbox_schema.recover(reader, path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            number = db.execute(_NEXT).fetchone()[0]
            for at, position in enumerate(sorted(positions)):
                if db.execute(_MOVE, (number + at, now_ms(), position)).rowcount != 1:
                    raise KeyError(position)
                db.execute("DELETE FROM outbox_parked WHERE position = ?", (position,))
            db.execute("COMMIT")
    except READ_ERRORS as error:
        raise Damaged(path, str(error)) from error
