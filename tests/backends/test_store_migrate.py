"""Engines, migrations, and files that are not ours."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from imconnect.backends.sql.engine import make_engine, sqlite_path
from imconnect.backends.sql.migrate import SCRIPTS, SchemaTooOld, Step, bring, ensure_schema, plan
from imconnect.backends.sql.schema import VERSION_TABLE, metadata
from imconnect.backends.store_sql import SqlStore
from imconnect.business.service import BusinessRules
from imconnect.errors import ConfigError, Damaged
from tests.backends.later_schema import later_scripts
from tests.business.made import NOW, in_database, sent
from tests.support import TestCase


class _Files(TestCase):
    def path(self) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        return folder / "business.db"

    def engine(self, path: Path) -> Engine:
        engine = make_engine(str(path))
        self.addCleanup(engine.dispose)
        return engine

    def later_scripts(self, then: str = "pass") -> Path:
        head = ScriptDirectory(str(SCRIPTS)).get_current_head()
        return later_scripts(self, str(head), then)


class SchemaTests(_Files):
    """What the migrations make."""

    def test_same_as_the_metadata(self) -> None:
        """Migrations and metadata say the same, down to the text of each table and index."""
        migrated = self.engine(self.path())
        ensure_schema(migrated)
        made = self.engine(self.path())
        metadata.create_all(made)

        def texts(engine: Engine) -> dict[str, str]:
            with engine.connect() as connection:
                rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
            return {name: re.sub(r"\s+", " ", sql) for name, sql in rows if name != VERSION_TABLE}

        self.assertEqual(texts(migrated), texts(made))
        with migrated.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            self.assertEqual(compare_metadata(context, metadata), [])

    def test_same_for_mysql(self) -> None:
        """The text of every table and index for MariaDB/MySQL is the same from both, utf8mb4 included."""
        output = StringIO()
        config = Config(output_buffer=output)
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["dialect"] = "mysql"
        command.upgrade(config, "head", sql=True)
        migrated = re.sub(r"\s+", " ", output.getvalue())
        self.assertIn("COLLATE utf8mb4_bin", migrated)
        for table in metadata.sorted_tables:
            items: list[ExecutableDDLElement] = [CreateTable(table), *(CreateIndex(index) for index in table.indexes)]
            for item in items:
                wanted = re.sub(r"\s+", " ", str(item.compile(dialect=mysql.dialect()))).strip()
                self.assertIn(wanted, migrated)

    def test_settings(self) -> None:
        """WAL and synchronous=FULL on every connection; `normal` where it is asked for."""
        path = self.path()
        engine = self.engine(path)
        ensure_schema(engine)
        with engine.connect() as one, engine.connect() as two:
            for connection in (one, two):
                self.assertEqual(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one(), "wal")
                self.assertEqual(connection.exec_driver_sql("PRAGMA synchronous").scalar_one(), 2)
        other = make_engine(str(path), sync="normal")
        self.addCleanup(other.dispose)
        with other.connect() as connection:
            self.assertEqual(connection.exec_driver_sql("PRAGMA synchronous").scalar_one(), 1)

    def test_again(self) -> None:
        """A database that is up to date stays as it is."""
        engine = self.engine(self.path())
        ensure_schema(engine)
        BusinessRules(SqlStore(engine), lambda: NOW).apply([sent(7)])
        before = in_database(engine)
        ensure_schema(engine)
        self.assertEqual(in_database(engine), before)

    def test_odd_path(self) -> None:
        """Percent signs, spaces and question marks in the folder's name."""
        folder = Path(self.mktemp()) / "100% sure? #1"
        folder.mkdir(parents=True)
        for _ in range(2):
            ensure_schema(self.engine(folder / "business.db"))
        self.assertEqual(sqlite_path(self.engine(folder / "business.db")).name, "business.db")
        self.assertTrue((folder / "business.db").stat().st_size)


class UpgradeTests(_Files):
    """Older and newer databases."""

    def test_older_is_upgraded(self) -> None:
        """On SQLite at once, rows kept."""
        path = self.path()
        engine = self.engine(path)
        ensure_schema(engine)
        BusinessRules(SqlStore(engine), lambda: NOW).apply([sent(7)])
        ensure_schema(engine, scripts=self.later_scripts())
        self.assertIn("muted", {column["name"] for column in inspect(engine).get_columns("im_session")})
        with engine.connect() as connection:
            self.assertEqual(connection.exec_driver_sql("SELECT count(*) FROM im_session").scalar_one(), 2)

    def test_failed_upgrade_changes_nothing(self) -> None:
        """A migration that fails half-way leaves the older schema whole."""
        engine = self.engine(self.path())
        ensure_schema(engine)
        self.assertRaises(RuntimeError, ensure_schema, engine, scripts=self.later_scripts("raise RuntimeError"))
        self.assertNotIn("muted", {column["name"] for column in inspect(engine).get_columns("im_session")})
        ensure_schema(engine)

    def test_newer_is_refused(self) -> None:
        """The file of a newer version is named and left as it is."""
        path = self.path()
        engine = self.engine(path)
        ensure_schema(engine, scripts=self.later_scripts())
        engine.dispose()
        before = path.read_bytes()
        error = self.assertRaises(Damaged, ensure_schema, engine)
        self.assertEqual((error.path, "newer version" in error.what), (str(path.absolute()), True))
        engine.dispose()
        self.assertEqual(path.read_bytes(), before)

    def test_plan(self) -> None:
        """What each state of a database asks for; only a newer or foreign one is hopeless."""
        known = {"0001", "0002"}
        for current, ours, automatic, step in (
            (None, False, False, Step.CREATE),
            (None, True, True, Step.TOO_NEW),
            ("0002", True, False, Step.NOTHING),
            ("0001", True, True, Step.UPGRADE),
            ("0001", True, False, Step.TOO_OLD),
            ("0003", True, True, Step.TOO_NEW),
        ):
            self.assertIs(plan(current, ours, known, "0002", automatic), step)

    def test_older_on_a_server(self) -> None:
        """Where it is not upgraded by itself, the error names the command and nothing changes."""
        engine = self.engine(self.path())
        ensure_schema(engine)
        with engine.begin() as connection:
            error = self.assertRaises(SchemaTooOld, bring, connection, self.later_scripts(), False)
        self.assertIn("imconnect db upgrade", str(error))
        self.assertNotIn("muted", {column["name"] for column in inspect(engine).get_columns("im_session")})


class FileTests(_Files):
    """Files that cannot be used are named and left as they are."""

    def check_refused(self, path: Path, what: str) -> None:
        before = path.read_bytes()
        engine = self.engine(path)
        error = self.assertRaises(Damaged, ensure_schema, engine)
        self.assertEqual(error.path, str(path.absolute()))
        self.assertIn(what, error.what)
        engine.dispose()
        self.assertEqual(path.read_bytes(), before)
        self.assertEqual([entry.name for entry in path.parent.iterdir()], [path.name])

    def test_garbage(self) -> None:
        """Not SQLite at all."""
        path = self.path()
        path.write_bytes(b"these are my notes, and they are dear to me\n" * 100)
        self.check_refused(path, "not an intact SQLite database")

    def test_foreign(self) -> None:
        """SQLite, but of another program."""
        path = self.path()
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE recipes (name TEXT)")
        other.commit()
        other.close()
        self.check_refused(path, "some other program")

    def test_cut_off(self) -> None:
        """A file of ours that lost its end."""
        path = self.path()
        engine = self.engine(path)
        ensure_schema(engine)
        BusinessRules(SqlStore(engine), lambda: NOW).apply([sent(i) for i in range(1, 500)])
        engine.dispose()
        os.truncate(path, path.stat().st_size // 2)
        self.check_refused(path, "")

    def test_overwritten_page(self) -> None:
        """A file of ours with a page of noise in it."""
        path = self.path()
        engine = self.engine(path)
        ensure_schema(engine)
        engine.dispose()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\x7f" * 4096)
        self.check_refused(path, "")

    def test_folder(self) -> None:
        """A folder where the file should be."""
        path = self.path()
        path.mkdir()
        error = self.assertRaises(Damaged, ensure_schema, self.engine(path))
        self.assertEqual(error.path, str(path.absolute()))

    def test_empty_file(self) -> None:
        """An empty file becomes a database."""
        path = self.path()
        path.touch()
        engine = self.engine(path)
        ensure_schema(engine)
        self.assertEqual(in_database(engine).messages, [])

    def test_after_kill(self) -> None:
        """A file and its WAL as a killed process leaves them: opened without help, with everything committed."""
        path = self.path()
        engine = self.engine(path)
        ensure_schema(engine)
        BusinessRules(SqlStore(engine), lambda: NOW).apply([sent(7)])
        copy = self.path()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        reopened = self.engine(copy)
        ensure_schema(reopened)
        self.assertEqual([row.msg_id for row in in_database(reopened).messages], [7])


class EngineTests(TestCase):
    """What can be named as a database."""

    def test_other_databases(self) -> None:
        """One line that names the key."""
        for url, expected in (
            ("postgresql://host/name", "not of postgresql"),
            ("mysql+nonsense://host/name", "no driver named mysql+nonsense"),
            ("://", "expected a SQLAlchemy URL"),
            ("mysql+pymysql://me:hunter2@host:port/name", "expected a SQLAlchemy URL"),
        ):
            error = self.assertRaises(ConfigError, make_engine, url)
            self.assertIn("business.database: ", str(error))
            self.assertIn(expected, str(error))

    def test_password_is_not_shown(self) -> None:
        """A bad URL is not quoted."""
        error = self.assertRaises(ConfigError, make_engine, "mysql+nonsense://me:hunter2@host/name")
        self.assertNotIn("hunter2", str(error))

    def test_sqlite_url(self) -> None:
        """A path and a URL of SQLite name the same."""
        path = Path(self.mktemp()).absolute()
        for name in (str(path), f"sqlite:///{path}"):
            engine = make_engine(name)
            self.addCleanup(engine.dispose)
            self.assertEqual(sqlite_path(engine), path)

    def test_sync(self) -> None:
        """Only the two that mean something."""
        self.assertRaises(ValueError, make_engine, "x.db", "off")

    def test_writers_take_the_lock_at_once(self) -> None:
        """What a unit reads cannot be outdated when it writes: a second writer does not even begin."""
        engine = make_engine(self.mktemp())
        self.addCleanup(engine.dispose)
        ensure_schema(engine)
        with SqlStore(engine).transaction(), engine.connect() as other:
            other.execute(text("PRAGMA busy_timeout=1"))
            with self.assertRaisesRegex(Exception, "locked"):
                other.exec_driver_sql("INSERT INTO im_session VALUES (1, 'c', 2, 3, 4, 5)")
