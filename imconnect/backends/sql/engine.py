"""Engines with the settings that the promises rest on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from imconnect.errors import ConfigError

#: Execution option of a connection that writes: its transaction takes SQLite's write lock at once, so that what it
#: reads cannot be outdated when it writes.
WRITES = "imconnect_writes"

_KEY = "business.database"


#: Seconds that a server may take for an answer; longer than it may wait for a lock.
ANSWER_WITHIN = 20.0


def make_engine(url_or_path: str, sync: str = "full", *, answer_within: float = ANSWER_WITHIN) -> Engine:
    """An engine for a SQLAlchemy URL, or for an SQLite file where there is no `://` in it. Connects to nothing yet.

    `sync` is SQLite's `synchronous`: full (survives power loss) or normal (survives kill -9). A server that takes
    longer than `answer_within` (seconds) for one statement is away.
    Errors: ConfigError for another database than SQLite, MariaDB or MySQL, for a bad URL or a driver that is missing.
    """
    if sync not in ("full", "normal"):
        raise ValueError(f"sync must be full or normal, not {sync!r}")
    url = _url(url_or_path)
    backend = url.get_backend_name()
    if backend == "sqlite":
        return _sqlite(url, sync)
    if backend in ("mysql", "mariadb"):
        return _mysql(url, answer_within)
    raise ConfigError(_KEY, f"expected a URL of MariaDB, MySQL or SQLite, not of {backend}")


def sqlite_path(engine: Engine) -> Path:
    """The file of an SQLite engine."""
    return Path(engine.url.database or "")


def _url(url_or_path: str) -> URL:
    if "://" not in url_or_path:
        return URL.create("sqlite", database=str(Path(url_or_path).absolute()))
    try:
        return make_url(url_or_path)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        # The library's text would quote the URL, password and all.
        raise ConfigError(_KEY, "expected a SQLAlchemy URL such as mysql+pymysql://user:password@host/name") from None


def _create(url: URL, **options: Any) -> Engine:
    try:
        # Parameters are message bodies: they must not end up in an exception's text.
        return create_engine(url, hide_parameters=True, **options)
    except NoSuchModuleError:
        raise ConfigError(_KEY, f"there is no driver named {url.drivername}") from None
    except ModuleNotFoundError as error:
        raise ConfigError(_KEY, f"{url.drivername} needs the Python package {error.name}") from None


def _sqlite(url: URL, sync: str) -> Engine:
    engine = _create(url, pool_size=4, max_overflow=4, connect_args={"timeout": 10.0})

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: object) -> None:
        # The driver would begin transactions by itself, and not before the first write.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA synchronous={sync}")
        cursor.execute("PRAGMA cache_size=-16384")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _mysql(url: URL, answer_within: float) -> Engine:
    arguments: dict[str, Any] = {}
    if url.get_driver_name() == "pymysql":
        arguments = {
            "charset": "utf8mb4",
            "connect_timeout": 5,
            "read_timeout": answer_within,
            "write_timeout": answer_within,
            # A value that does not fit is an error, never cut; a lock is waited for shorter than a reply.
            "init_command": "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES'), "
            f"SESSION innodb_lock_wait_timeout = {max(1, min(10, int(answer_within / 2)))}",
        }
    # READ COMMITTED: rows that are not there are not locked, and a repeat sees what another consumer committed.
    return _create(
        url,
        connect_args=arguments,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        # Whoever takes a connection ends his transaction himself: another rollback would be one more round trip, and
        # a traceback on stderr where the server has gone away meanwhile.
        pool_reset_on_return=None,
        pool_recycle=1800,
        pool_size=4,
        max_overflow=4,
        pool_timeout=10,
    )
