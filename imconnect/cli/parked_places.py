"""Where parked events lie and how each of them is called: the outbox of a data_dir, the database of business."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs
import click

from imconnect.backends.datadir import DataDir
from imconnect.backends.outbox_salvage import Parked
from imconnect.backends.sql.engine import make_engine, sqlite_path
from imconnect.backends.sql.migrate import SchemaTooNew, SchemaTooOld, check_file, ensure_schema
from imconnect.backends.store_sql import SqlStore
from imconnect.business.rows import ParkedKey
from imconnect.business.service import BusinessRules
from imconnect.cli.options import configured, refusing
from imconnect.cli.outbox import OUTBOX, opened
from imconnect.config.profiles import terms_of
from imconnect.config.tree import Config
from imconnect.errors import ConfigError
from imconnect.tap.clock import now_ms

#: How the embedded queue, which has no topic, is called in an id.
_EMBEDDED = "embedded"

Key = int | ParkedKey


@attrs.frozen
class Places:
    """Where parked events lie: an outbox (None: not asked for, or there is none), and a database."""

    config: Config
    folder: str
    outbox: str | None
    database: str | None
    #: The database is a file of the data_dir's gateway.
    own: bool


@contextmanager
def places_at(
    env: str | None, path: str | None, settings: tuple[str, ...], data_dir: str | None, database: str | None
) -> Iterator[Places]:
    """Where these options point to. What goes wrong inside is one line and status 1."""
    with refusing(SchemaTooOld, SchemaTooNew):
        config = configured(env, path, settings)
        folder = data_dir or config.data_dir
        url = database or ("" if data_dir else config.business.database)
        own = os.path.join(folder, "business.db")
        outbox = os.path.join(folder, OUTBOX) if data_dir or not database else None
        if data_dir and not os.path.isdir(data_dir):
            raise ConfigError("--data-dir", f"{data_dir} is not a folder")
        yield Places(
            config,
            folder,
            outbox if outbox and any(os.path.exists(outbox + end) for end in ("", "-wal")) else None,
            url or (own if os.path.exists(own) else None),
            not url,
        )


@contextmanager
def alone(places: Places, needed: bool) -> Iterator[None]:
    """Keeps a gateway from starting on the files that are about to change."""
    folder = DataDir(places.folder) if needed else None
    try:
        yield
    finally:
        if folder is not None:
            folder.release()


def in_outbox(places: Places) -> Sequence[Parked]:
    """What the queue refused; of a damaged log what can be read."""
    if places.outbox is None:
        return ()
    with opened(places.outbox) as log:
        if log.trouble:
            click.echo(f"{places.outbox}: damaged: {log.trouble}", err=True)
        return log.parked


@contextmanager
def rules_of(places: Places, *, writes: bool = False) -> Iterator[BusinessRules]:
    """Business's own rules over the database; for writing only where it has the schema of this version."""
    if places.database is None:
        raise ConfigError("business.database", f"there is none, and no business.db in {places.folder}")
    engine = make_engine(places.database)
    try:
        if engine.dialect.name == "sqlite":
            if not sqlite_path(engine).exists():
                raise ConfigError("business.database", f"{sqlite_path(engine)} does not exist")
            check_file(sqlite_path(engine))
        rules = BusinessRules(SqlStore(engine), now_ms, terms_of(places.config))
        if writes:
            rules.stock()  # it is business's: an empty one would be filled now
            ensure_schema(engine)
        yield rules
    finally:
        engine.dispose()


def key_of(identity: str) -> Key:
    """What an ID names: a number in the outbox, or a place in the table. Raises ConfigError."""
    if number := re.fullmatch(r"outbox/([0-9]{1,18})", identity):
        return int(number[1])
    if parts := re.fullmatch(r"([^/]+)/(-?[0-9]{1,9})/(-?[0-9]{1,19})", identity):
        return "" if parts[1] == _EMBEDDED else parts[1], int(parts[2]), int(parts[3])
    raise ConfigError("ID", f"expected outbox/NUMBER or TOPIC/QUEUE/OFFSET, not {identity!r}")


def name_of(key: Key) -> str:
    """The ID."""
    if isinstance(key, int):
        return f"outbox/{key}"
    topic, queue, offset = key
    return f"{topic or _EMBEDDED}/{queue}/{offset}"


def not_parked(key: Key) -> ConfigError:
    """There is no such event."""
    return ConfigError("ID", f"nothing is parked at {name_of(key)}")
