"""The file behind the SQLite outbox: its tables, its checks, and what is read from it.

One row per batch; the numbers of the batches follow each other without a hole, because only the oldest ones leave.
Whatever is wrong with the file raises Damaged and leaves it as it is: everything here but `create` only reads.
"""

from __future__ import annotations

import gc
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from imconnect.core.ports import Entry, Recovered
from imconnect.errors import Damaged
from imconnect.events.records import NewerRecord, RecordError, unpack
from imconnect.events.values import Event

APPLICATION_ID = 0x494D4F42  # "IMOB", in the header of the file
FORMAT = 1  # user_version
PAGE_BYTES = 4096
#: A file up to this many bytes is checked page by page at start (about 0.2 s); the batches always are, by their crc.
QUICK_CHECK_BYTES = 64 * 1024 * 1024

#: What reading a file may raise where it is damaged: a wrong byte can turn a number into a text, or a text into none.
READ_ERRORS = (sqlite3.Error, TypeError, ValueError, OverflowError)

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE outbox_batch (
    position INTEGER PRIMARY KEY,  -- number of the first event
    count INTEGER NOT NULL,
    created INTEGER NOT NULL,      -- ms
    events BLOB NOT NULL
);
CREATE TABLE outbox_lane (lane INTEGER PRIMARY KEY, position INTEGER NOT NULL);
-- last: highest number that left the log; reserved_ms: ids up to here may be out; fence: see outbox_writer;
-- drained_ms: see outbox_drained
CREATE TABLE outbox_state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox_parked (
    position INTEGER PRIMARY KEY,
    created INTEGER NOT NULL,
    reason TEXT NOT NULL,
    event BLOB NOT NULL
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
COMMIT;
"""

# From the batch that holds the event after `?` on, or the next one where that has left.
_BATCHES_AFTER = """
SELECT position, count, events FROM outbox_batch
WHERE position >= coalesce((SELECT max(position) FROM outbox_batch WHERE position <= ? + 1), 0) ORDER BY position
"""


@contextmanager
def advising() -> Iterator[None]:
    """What a gateway says of a damaged log also names the command that shows what can be saved."""
    try:
        yield
    except Damaged as error:
        folder = shlex.quote(os.path.dirname(os.path.abspath(error.path)))
        advice = f"`imconnect outbox check --data-dir {folder}` shows what can be saved"
        raise Damaged(error.path, f"{error.what}; left as it is, {advice}") from error


@advising()
def inspect(path: str) -> None:
    """Raise Damaged where this file cannot be our log. Cheap, blocking, holds nothing open; no file is fine."""
    try:
        new = is_new(path)
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
            raise Damaged(path, "its folder is missing or cannot be written")
        if not new:
            if not os.access(path, os.R_OK | os.W_OK):
                raise Damaged(path, "cannot be read and written")
            connect_reader(path).close()
    except OSError as error:
        raise Damaged(path, error.strerror or str(error)) from error


def is_new(path: str) -> bool:
    """Whether there is no log yet. Raises Damaged where it is empty, or its WAL there without it (SQLite would delete
    that)."""
    if _size(path) > 0:
        return False
    if _size(path + "-wal") > 0:
        raise Damaged(path, "is missing or empty, but its -wal file is there: put the file back beside it")
    if os.path.exists(path):
        # `create` makes a log whole or not at all, so this was one once.
        raise Damaged(path, "is empty, which a log of ours never is: put it back, or remove it to start anew")
    return True


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def create(path: str) -> None:
    """Make an empty log, whole or not at all: a process that dies here leaves nothing that looks like one."""
    draft = path + ".new"
    for leftover in (draft, draft + "-wal", draft + "-shm", draft + "-journal"):
        if os.path.exists(leftover):
            os.unlink(leftover)
    with closing(sqlite3.connect(draft, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise Damaged(path, "SQLite cannot keep a WAL on this file system")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
    os.replace(draft, path)
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def connect_reader(path: str) -> sqlite3.Connection:
    """A connection that cannot write, not even by accident at its end. Raises Damaged where the file is not ours."""
    try:
        db = sqlite3.connect(Path(path).absolute().as_uri() + "?mode=ro", uri=True, check_same_thread=False)
        try:
            _check_identity(db, path)
        except BaseException:
            db.close()
            raise
    except READ_ERRORS as error:
        raise Damaged(path, str(error)) from error
    return db


def _check_identity(db: sqlite3.Connection, path: str) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise Damaged(path, "is a SQLite database, but not an outbox of imconnect")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise Damaged(path, f"has format {version}, but this version of imconnect knows only up to {FORMAT}")
    if version < FORMAT:
        raise Damaged(path, f"has the unknown format {version}")
    db.execute("SELECT position FROM outbox_batch LIMIT 1").fetchone()


def recover(db: sqlite3.Connection, path: str, thorough: bool = False) -> tuple[Recovered, dict[int, int]]:
    """Everything in the log, checked, and the relay positions. `thorough`: page by page too, whatever it takes.

    Raises Damaged.
    """
    collecting = gc.isenabled()
    gc.disable()  # it would walk the growing list again and again, for more time than the reading takes
    try:
        _check_pages(db, path, thorough)
        state = dict(db.execute("SELECT name, value FROM outbox_state"))
        positions = dict(db.execute("SELECT lane, position FROM outbox_lane"))
        entries, last = _everything(db, path)
        parked(db, path)  # only to know that they can be read
    except READ_ERRORS as error:
        raise Damaged(path, str(error)) from error
    finally:
        if collecting:
            gc.enable()
    gone = state.get("last", 0)
    if last and last < gone:
        raise Damaged(path, f"the events {last + 1} to {gone} are missing")
    return Recovered(entries, max(last, gone), state.get("reserved_ms", 0)), positions


def _everything(db: sqlite3.Connection, path: str) -> tuple[list[Entry], int]:
    last = 0
    entries: list[Entry] = []
    for position, count, blob in db.execute("SELECT position, count, events FROM outbox_batch ORDER BY position"):
        if last and position != last + 1:
            raise Damaged(path, f"the batch behind event {last} is at {position}")
        entries += _entries(path, position, count, blob)
        last = position + count - 1
    return entries, last


def _check_pages(db: sqlite3.Connection, path: str, thorough: bool) -> None:
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    if thorough or pages * PAGE_BYTES <= QUICK_CHECK_BYTES:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Damaged(path, " ".join(verdict.split()))


def read(db: sqlite3.Connection, path: str, after: int, limit: int) -> list[Entry]:
    """See `Outbox.read`. Raises Damaged, READ_ERRORS."""
    batches = []
    found = 0
    # Nothing is unpacked while the statement is open: it keeps the WAL from being reset.
    with closing(db.execute(_BATCHES_AFTER, (after,))) as rows:
        for position, count, blob in rows:
            batches.append((position, count, blob))
            found += position + count - 1 - max(after, position - 1)
            if found >= limit:
                break
    return [entry for batch in batches for entry in _entries(path, *batch) if entry[0] > after]


def parked(db: sqlite3.Connection, path: str) -> list[tuple[int, Event, str]]:
    """See `Outbox.parked`. Raises Damaged, READ_ERRORS."""
    rows = db.execute("SELECT position, reason, event FROM outbox_parked ORDER BY position").fetchall()
    return [(position, event, reason) for position, reason, blob in rows for _, event in _entries(path, position, 1, blob)]


def _entries(path: str, position: int, count: int, blob: bytes) -> Iterator[Entry]:
    try:
        events = unpack(blob)
    except NewerRecord as error:
        raise Damaged(path, f"the batch at event {position} was written by a newer version of imconnect") from error
    except RecordError as error:
        raise Damaged(path, f"the batch at event {position} is damaged: {error}") from error
    if len(events) != count:
        raise Damaged(path, f"the batch at event {position} holds {len(events)} events instead of {count}")
    return zip(range(position, position + count), events, strict=True)
