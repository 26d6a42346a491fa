"""`imconnect db`: the schema of the database that business keeps."""

from __future__ import annotations

import click

from imconnect.backends.datadir import DataDir
from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import SchemaTooNew, ensure_schema
from imconnect.cli.options import configuration, configured, refusing
from imconnect.config import Config

#: Seconds for one statement: an index on a large table takes its time.
STATEMENT_WITHIN = 86_400.0


@click.group()
def db() -> None:
    """The database that business keeps (business.database)."""


@db.command()
@configuration
def upgrade(env: str | None, path: str | None, settings: tuple[str, ...]) -> None:
    """Bring the database to the schema of this version; run it once after an update, with imbusiness stopped.

    An empty database is filled, one that is up to date is left as it is. Make a backup first.
    """
    with refusing(SchemaTooNew):
        _upgrade(configured(env, path, settings))
    click.echo("the database has the schema of this version")


def _upgrade(config: Config) -> None:
    if config.business.database:
        _bring(config.business.database)
        return
    folder = DataDir(config.data_dir)  # the gateway's own file: not under its hands
    try:
        _bring(folder.file("business.db"))
    finally:
        folder.release()


def _bring(url_or_path: str) -> None:
    engine = make_engine(url_or_path, answer_within=STATEMENT_WITHIN)
    try:
        ensure_schema(engine, upgrade=True)
    finally:
        engine.dispose()
