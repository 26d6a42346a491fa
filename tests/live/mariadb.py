"""Databases on the MariaDB that the tests of one process share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine
from twisted.trial.unittest import SynchronousTestCase

from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import ensure_schema
from imconnect.backends.sql.schema import metadata
from tests.live.case import missing
from tests.servers import mariadb
from tests.servers.mariadb import MariaDb
from tests.servers.private import CannotRun

#: Name -> URL of those that have the schema already.
_MADE: dict[str, str] = {}


def server(start: Callable[[], MariaDb] = mariadb.shared) -> MariaDb:
    """It runs after this; a machine that has none skips the test, except in CI."""
    try:
        return start()
    except CannotRun as error:
        missing(f"MariaDB: {error}")
        raise


def engine_for(case: SynchronousTestCase, name: str = "rules", **settings: Any) -> Engine:
    """An engine on the database of this name, with its schema and without rows; `settings` as `make_engine` takes."""
    url = _MADE.get(name) or server().create_database(name)
    engine = make_engine(url, **settings)
    case.addCleanup(engine.dispose)
    if name not in _MADE:
        ensure_schema(engine)
        _MADE[name] = url
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            connection.execute(table.delete())
    return engine


def forget(name: str) -> None:
    """The database of this name is made anew for the next who asks for it."""
    server().query(f"DROP DATABASE IF EXISTS `{name}`")
    _MADE.pop(name, None)


def empty_database(case: SynchronousTestCase, name: str) -> Engine:
    """An engine on a new database without a table."""
    forget(name)
    engine = make_engine(server().create_database(name))
    case.addCleanup(engine.dispose)
    return engine
