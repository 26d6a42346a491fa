"""The schema on a real MariaDB: made, upgraded, refused, and by two at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from imconnect.backends.sql import migrate
from imconnect.backends.sql.migrate import SCRIPTS, SchemaTooNew, SchemaTooOld, ensure_schema
from imconnect.backends.sql.schema import VERSION_TABLE, metadata
from imconnect.backends.store_sql import SqlStore
from imconnect.business.service import BusinessRules
from imconnect.errors import Unavailable
from tests.backends.later_schema import later_scripts
from tests.business.made import NOW, in_database, sent
from tests.live.mariadb import empty_database
from tests.live.processes import clean_environment, script
from tests.support import TestCase


def revisions() -> list[str]:
    """The newest last."""
    return [each.revision for each in ScriptDirectory(str(SCRIPTS)).walk_revisions()][::-1]


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


class MigrationTestCase(TestCase):
    def setUp(self) -> None:
        self.engine = empty_database(self, "migrated")

    def differences(self) -> list[object]:
        """Between the database and what the statements expect."""
        with self.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            return list(compare_metadata(context, metadata))

    def bring_to(self, revision: str) -> None:
        """As an older version left it."""
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        with self.engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            connection.commit()

    def later(self, then: str = "pass") -> Path:
        return later_scripts(self, revisions()[-1], then)

    def columns(self) -> set[str]:
        return {column["name"] for column in inspect(self.engine).get_columns("im_session")}


class SchemaTests(MigrationTestCase):
    def test_from_empty(self) -> None:
        """Exactly the tables, columns and indexes of the metadata; every text utf8mb4 and compared byte by byte."""
        ensure_schema(self.engine)
        self.assertEqual(self.differences(), [])
        collations = (
            "SELECT DISTINCT collation_name FROM information_schema.columns WHERE table_schema = DATABASE() "
            f"AND collation_name IS NOT NULL AND table_name != '{VERSION_TABLE}'"
        )
        engines = "SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = DATABASE()"
        with self.engine.connect() as connection:
            self.assertEqual(connection.execute(text(collations)).all(), [("utf8mb4_bin",)])
            self.assertEqual(connection.execute(text(engines)).all(), [("InnoDB",)])

    def test_from_every_older_revision(self) -> None:
        """Each ends where an empty database ends."""
        for revision in revisions():
            self.engine = empty_database(self, "migrated")
            self.bring_to(revision)
            ensure_schema(self.engine, upgrade=True)
            self.assertEqual(self.differences(), [], revision)

    def test_again(self) -> None:
        """A database that is up to date stays as it is."""
        ensure_schema(self.engine)
        BusinessRules(SqlStore(self.engine), lambda: NOW).apply([sent(7)])
        before = in_database(self.engine)
        ensure_schema(self.engine, upgrade=True)
        self.assertEqual(in_database(self.engine), before)

    def test_older_is_upgraded_by_command_only(self) -> None:
        """The error names the command and nothing changes; with the command the rows are kept."""
        ensure_schema(self.engine)
        BusinessRules(SqlStore(self.engine), lambda: NOW).apply([sent(7)])
        later = self.later()
        error = self.assertRaises(SchemaTooOld, ensure_schema, self.engine, scripts=later)
        self.assertIn("imconnect db upgrade", str(error))
        self.assertNotIn("muted", self.columns())
        ensure_schema(self.engine, upgrade=True, scripts=later)
        self.assertIn("muted", self.columns())
        with self.engine.connect() as connection:
            self.assertEqual(connection.execute(text("SELECT count(*) FROM im_session")).scalar_one(), 2)

    def test_newer_is_refused(self) -> None:
        """By the start and by the command."""
        ensure_schema(self.engine, scripts=self.later())
        for upgrade in (False, True):
            error = self.assertRaises(SchemaTooNew, ensure_schema, self.engine, upgrade=upgrade)
            self.assertIn("schema later of a newer version", str(error))

    def test_foreign_is_refused(self) -> None:
        """Tables of our names that somebody else made are left alone."""
        with self.engine.begin() as connection:
            connection.execute(text("CREATE TABLE im_session (x INT)"))
        self.assertIn("tables of our names", str(self.assertRaises(SchemaTooNew, ensure_schema, self.engine)))
        self.assertEqual(self.columns(), {"x"})

    def test_killed_while_it_was_made(self) -> None:
        """The server keeps what was made so far, and no revision: the next start begins anew, unless rows are there."""
        for rows, raised in ((False, None), (True, SchemaTooNew)):
            self.engine = empty_database(self, "migrated")
            ensure_schema(self.engine)
            with self.engine.begin() as connection:
                connection.execute(text(f"DELETE FROM {VERSION_TABLE}"))
                connection.execute(text("DROP TABLE im_event_early"))
                if rows:
                    connection.execute(text("INSERT INTO im_session VALUES (1, 'c', 2, 3, 4, 5)"))
            if raised:
                self.assertRaises(raised, ensure_schema, self.engine)
            else:
                ensure_schema(self.engine)
                self.assertEqual(self.differences(), [])

    def test_somebody_else_holds_it(self) -> None:
        """A schema that another process is changing is waited for, and never touched beside it."""
        self.patch(migrate, "_SCHEMA_LOCK", 1)
        with self.engine.connect() as other:
            other.execute(text("SELECT GET_LOCK('imconnect_schema', 0)"))
            error = self.assertRaises(Unavailable, ensure_schema, self.engine)
            self.assertIn("another process", str(error))
            self.assertEqual(inspect(self.engine).get_table_names(), [])
            other.execute(text("SELECT RELEASE_LOCK('imconnect_schema')"))
        ensure_schema(self.engine)


class CommandTests(MigrationTestCase):
    """`imconnect db upgrade`."""

    def begin(self, engine: Engine) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [script("imconnect"), "db", "upgrade", "--env", "test", "--set", f"business.database={url_of(engine)}"],
            env=clean_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def test_two_on_an_empty_one_and_again(self) -> None:
        """One makes the tables, the other finds them; nor is there anything to do when it is called again."""
        processes = [self.begin(self.engine) for _ in range(2)]
        processes += [self.begin(self.engine)] if [each.wait(60) for each in processes] == [0, 0] else []
        for process in processes:
            out, err = process.communicate(timeout=60)
            self.assertEqual((process.returncode, out, err), (0, "the database has the schema of this version\n", ""))
        self.assertEqual((len(processes), self.differences()), (3, []))

    def test_newer(self) -> None:
        """One line, exit 1."""
        ensure_schema(self.engine, scripts=self.later())
        process = self.begin(self.engine)
        out, err = process.communicate(timeout=30)
        self.assertEqual((process.returncode, out, err), (1, "", "the database has schema later of a newer version\n"))

    def test_two_upgrade_at_once(self) -> None:
        """One changes the tables, slowly; the other waits and finds them changed."""
        ensure_schema(self.engine)
        later = self.later("op.execute('DO SLEEP(1)')")
        code = (
            "import sys; from pathlib import Path; from imconnect.backends.sql.engine import make_engine; "
            "from imconnect.backends.sql.migrate import ensure_schema; "
            "ensure_schema(make_engine(sys.argv[1]), upgrade=True, scripts=Path(sys.argv[2]))"
        )
        command_line = [sys.executable, "-c", code, url_of(self.engine), str(later.absolute())]
        processes = [subprocess.Popen(command_line, text=True, stderr=subprocess.PIPE) for _ in range(2)]
        for process in processes:
            _, err = process.communicate(timeout=60)
            self.assertEqual((process.returncode, err), (0, ""))
        self.assertIn("muted", self.columns())
