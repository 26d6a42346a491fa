"""Brings a database to the schema of this version, or says why not."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from enum import Enum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from imconnect.backends.sql.engine import WRITES, sqlite_path
from imconnect.backends.sql.errors import translated
from imconnect.backends.sql.schema import VERSION_TABLE, metadata
from imconnect.errors import Damaged, Unavailable

#: The Alembic scripts; they ship in the package.
SCRIPTS = Path(__file__).with_name("migrations")

#: SQLite's application_id of our files ("IMcb"): whose file is this?
APPLICATION_ID = 0x494D6362

# Seconds in which another process that changes the schema must be done; shorter than an answer of the server may take.
_SCHEMA_LOCK = 15

# Checking a larger file page by page would hold up the start.
_CHECK_BYTES = 64 * 1024 * 1024


class SchemaTooOld(Exception):
    """The database has an older schema. `str()` names the command that upgrades it."""


class SchemaTooNew(Exception):
    """The database has the schema of a newer version of this program, or tables that are not ours."""


class Step(Enum):
    """What a database needs."""

    NOTHING = "nothing"
    CREATE = "create"
    UPGRADE = "upgrade"
    TOO_OLD = "too old"
    TOO_NEW = "too new"


def plan(current: str | None, ours: bool, known: Collection[str], head: str, automatic: bool) -> Step:
    """`current` is the revision found, `ours` whether any table of our names is there, `automatic` whether an older
    schema may be upgraded now."""
    if current is None:
        return Step.TOO_NEW if ours else Step.CREATE
    if current == head:
        return Step.NOTHING
    if current not in known:
        return Step.TOO_NEW
    return Step.UPGRADE if automatic else Step.TOO_OLD


def ensure_schema(engine: Engine, upgrade: bool = False, scripts: Path = SCRIPTS) -> None:
    """Call it before anything else uses the engine. An empty database is filled; an older one is upgraded on SQLite,
    elsewhere only with `upgrade` (`imconnect db upgrade`).

    Errors: SchemaTooOld, SchemaTooNew; of an SQLite file Damaged (damaged, foreign, or from a newer version), which
    names the file and leaves it as it is; Unavailable.
    """
    sqlite = engine.dialect.name == "sqlite"
    if sqlite:
        check_file(sqlite_path(engine), scripts)
        _make_wal(engine)
    with translated(), engine.connect() as connection:
        connection = connection.execution_options(**{WRITES: True})
        with connection.begin(), nullcontext() if sqlite else _alone(connection):
            bring(connection, scripts, sqlite or upgrade)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Two processes that start on an empty database: one creates, the other finds. On SQLite the write lock does it."""
    connection.execute(text(f"SET SESSION lock_wait_timeout = {_SCHEMA_LOCK}"))
    if connection.execute(text(f"SELECT GET_LOCK('imconnect_schema', {_SCHEMA_LOCK})")).scalar_one() != 1:
        raise Unavailable("database: another process is changing its schema")
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.execute(text("SELECT RELEASE_LOCK('imconnect_schema')"))


def bring(connection: Connection, scripts: Path, automatic: bool) -> None:
    """The same inside a transaction; an older schema is upgraded only where that is `automatic`."""
    directory = ScriptDirectory(str(scripts))
    known = {script.revision for script in directory.walk_revisions()}
    head = directory.get_current_head() or ""
    names = set(inspect(connection).get_table_names())
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    current = context.get_current_revision()
    if current is None and VERSION_TABLE in names and connection.dialect.name != "sqlite":
        names.difference_update(_drop_unfinished(connection, names & metadata.tables.keys()))
    step = plan(current, bool(names & metadata.tables.keys()), known, head, automatic)
    if step is Step.TOO_OLD:
        raise SchemaTooOld(
            f"the database has schema {current}, this version needs {head}: run `imconnect db upgrade` once"
        )
    if step is Step.TOO_NEW:
        what = f"schema {current} of a newer version" if current else "tables of our names that we did not make"
        if connection.dialect.name == "sqlite":
            raise Damaged(str(sqlite_path(connection.engine)), f"has {what}; left as it is")
        raise SchemaTooNew(f"the database has {what}")
    if step is not Step.NOTHING:
        _upgrade(connection, scripts)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _drop_unfinished(connection: Connection, ours: Collection[str]) -> Collection[str]:
    """A server does not undo CREATE TABLE: a creation that was killed leaves empty tables and no revision. They go,
    unless there is a row in one of them, so that the next start needs no hand. -> those that are gone"""
    if any(connection.execute(text(f"SELECT 1 FROM {name} LIMIT 1")).first() for name in ours):
        return ()
    for name in ours:
        connection.execute(text(f"DROP TABLE {name}"))
    return ours


def _upgrade(connection: Connection, scripts: Path) -> None:
    config = Config()
    # The option file's syntax: a percent sign is written twice.
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _make_wal(engine: Engine) -> None:
    """The journal mode is a property of the file and cannot be set inside a transaction."""
    try:
        raw = engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.close()
        finally:
            raw.close()
    except sqlite3.Error as error:  # past SQLAlchemy, so in the driver's own words
        raise Unavailable(f"database: {type(error).__name__}: {error}") from error


def check_file(path: Path, scripts: Path = SCRIPTS) -> None:
    """Is this a file that we may write to? Looks without writing. Raises Damaged.

    A file that is not there, or is empty, is fine.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise Damaged(str(path), f"cannot be read: {error.strerror}") from error
    if size == 0:
        return
    try:
        # Without a WAL there is nothing to recover, and a reader need not leave files of its own beside it.
        wal = Path(f"{path}-wal")
        rest = "" if wal.exists() and wal.stat().st_size else "&immutable=1"
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{rest}", uri=True)
        try:
            _check_contents(connection, path, size)
            _check_revision(connection, path, scripts)
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise Damaged(str(path), f"cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Damaged(str(path), f"is not an intact SQLite database ({error}); left as it is") from error


def _check_contents(connection: sqlite3.Connection, path: Path, size: int) -> None:
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and found != APPLICATION_ID:
        raise Damaged(str(path), "is an SQLite database of some other program; left as it is")
    if size <= _CHECK_BYTES:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Damaged(str(path), f"is damaged ({' '.join(verdict.split())}); left as it is")


def _check_revision(connection: sqlite3.Connection, path: Path, scripts: Path) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (VERSION_TABLE,)).fetchone():
        return
    known = {script.revision for script in ScriptDirectory(str(scripts)).walk_revisions()}
    for (revision,) in connection.execute(f"SELECT version_num FROM {VERSION_TABLE}"):
        if revision not in known:
            raise Damaged(str(path), f"has schema {revision} of a newer version; left as it is")
