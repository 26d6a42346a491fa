"""`imconnect parked`: what was put aside, in an outbox and in a database."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner, Result
from sqlalchemy import Engine

from imconnect.backends import outbox_schema
from imconnect.backends.datadir import DataDir
from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import ensure_schema
from imconnect.backends.store_sql import SqlStore
from imconnect.business.rows import Source
from imconnect.business.service import BusinessRules
from imconnect.cli.main import main
from imconnect.events import seed
from imconnect.events.records import pack
from imconnect.events.values import Event
from tests.business.made import BEN, NOW, ack, in_database, offlined, sent, withdraw
from tests.support import TestCase

_BATCH = "INSERT INTO outbox_batch VALUES (?, ?, 0, ?)"
_PARKED = "INSERT INTO outbox_parked VALUES (?, 0, ?, ?)"


class ParkedCase(TestCase):
    """A data_dir with an outbox of three batches."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = str(self.folder / "outbox.db")
        outbox_schema.create(self.path)
        for first in (1, 3, 5):
            self.write(_BATCH, first, 2, pack([sent(first), sent(first + 1)]))

    def write(self, sql: str, *values: object) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute(sql, values)

    def parked(self, *arguments: str) -> Result:
        result = CliRunner().invoke(main, ["parked", *arguments, "--data-dir", str(self.folder)])
        self.assertNotIsInstance(result.exception, Exception)
        return result

    def refused(self, result: Result, words: str) -> None:
        self.assertEqual((result.exit_code, result.stdout, result.stderr.count("\n")), (1, "", 1), result.output)
        self.assertIn(words, result.stderr)

    def log(self) -> list[tuple[int, Event]]:
        """What the next start reads."""
        with closing(outbox_schema.connect_reader(self.path)) as db:
            return list(outbox_schema.recover(db, self.path)[0].entries)

    def in_outbox(self) -> list[int]:
        with closing(outbox_schema.connect_reader(self.path)) as db:
            return [position for position, _, _ in outbox_schema.parked(db, self.path)]

    def database(self, url: str = "") -> Engine:
        """The gateway's own business.db, or the one that is named."""
        engine = make_engine(url or str(self.folder / "business.db"))
        self.addCleanup(engine.dispose)
        ensure_schema(engine)
        return engine

    def rules(self, engine: Engine) -> BusinessRules:
        return BusinessRules(SqlStore(engine), lambda: NOW)

    def put_aside(self, engine: Engine, body: bytes, offset: int, topic: str = "T", queue: int = 3) -> None:
        self.rules(engine).park(Source(topic, queue, offset, body), "the reason")


class OutboxTests(ParkedCase):
    """What the queue refused."""

    def setUp(self) -> None:
        super().setUp()
        self.write(_PARKED, 2, "message body too large", pack([sent(2, content="a secret")]))
        self.write(_PARKED, 4, "illegal\nmessage", pack([ack(4, 3)]))

    def test_list(self) -> None:
        """One line each: id, kind, message, reason; no text."""
        result = self.parked("list")
        lines = "outbox/2  sent 2  message body too large\noutbox/4  acknowledged 4  illegal message\n"
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, lines, ""))

    def test_show(self) -> None:
        """The event, with its text."""
        result = self.parked("show", "outbox/2")
        shown = json.loads(result.stdout)
        self.assertEqual((shown["event"], shown["msg_id"], shown["content"]), ("Sent", 2, "a secret"))
        self.assertEqual(result.stderr, "message body too large\n")

    def test_replay(self) -> None:
        """Behind everything that is in the log, in order, and no longer parked."""
        result = self.parked("replay", "outbox/4", "outbox/2")
        self.assertEqual((result.exit_code, result.stdout.count("back in the outbox")), (0, 2))
        self.assertEqual(self.log()[-2:], [(7, sent(2, content="a secret")), (8, ack(4, 3))])
        self.assertEqual((len(self.log()), self.in_outbox()), (8, []))

    def test_replay_all(self) -> None:
        """Every one; again there is nothing to do."""
        self.assertEqual(self.parked("replay", "--all").exit_code, 0)
        self.assertEqual((len(self.log()), self.in_outbox()), (8, []))
        self.assertEqual(self.parked("replay", "--all").exit_code, 0)
        self.assertEqual(len(self.log()), 8)

    def test_replay_into_an_empty_log(self) -> None:
        """No number is given out twice: it goes on where the log once was."""
        self.write("DELETE FROM outbox_batch")
        self.write("INSERT INTO outbox_state VALUES ('last', 6)")
        self.parked("replay", "outbox/2")
        self.assertEqual(self.log(), [(7, sent(2, content="a secret"))])

    def test_one_that_is_not_there(self) -> None:
        """All or none."""
        self.refused(self.parked("replay", "outbox/2", "outbox/3"), "nothing is parked at outbox/3")
        self.refused(self.parked("show", "outbox/3"), "nothing is parked at outbox/3")
        self.assertEqual((len(self.log()), self.in_outbox()), (6, [2, 4]))

    def test_while_a_gateway_runs(self) -> None:
        """Looking is fine; changing its log is not."""
        lock = DataDir(str(self.folder))
        self.addCleanup(lock.release)
        self.assertEqual(self.parked("list").exit_code, 0)
        self.refused(self.parked("replay", "--all"), "is in use by another process")
        self.assertEqual((len(self.log()), self.in_outbox()), (6, [2, 4]))

    def test_damaged_log(self) -> None:
        """What can be read is listed; nothing is written into a damaged log."""
        self.write("UPDATE outbox_batch SET count = 9 WHERE position = 3")
        before = Path(self.path).read_bytes()
        listed = self.parked("list")
        self.assertEqual((listed.exit_code, listed.stdout.count("\n")), (0, 2))
        self.assertIn("damaged", listed.stderr)
        again = self.parked("replay", "outbox/2")
        self.assertEqual((again.exit_code, again.stdout), (1, ""))
        self.assertEqual(Path(self.path).read_bytes(), before)


class DatabaseTests(ParkedCase):
    """What business put aside."""

    def setUp(self) -> None:
        super().setUp()
        self.engine = self.database()

    def keys(self) -> list[int]:
        return [row.offset for row in in_database(self.engine).parked]

    def test_list_and_show(self) -> None:
        """No text in the list; the body as it came."""
        body = seed.SEED.encode(sent(7, content="a secret")).body
        self.put_aside(self.engine, body, 5)
        self.put_aside(self.engine, b"\xff\x00 no event", 6)
        listed = self.parked("list")
        self.assertEqual(listed.exit_code, 0)
        first, second = listed.stdout.splitlines()
        self.assertEqual(first, f"T/3/5  since 2025-11-24 16:00:01Z, {len(body)} bytes  the reason")
        self.assertTrue(second.startswith("T/3/6  "))
        shown = self.parked("show", "T/3/6")
        self.assertEqual((shown.exit_code, shown.stdout_bytes, shown.stderr), (0, b"\xff\x00 no event\n", "the reason\n"))

    def test_replay(self) -> None:
        """By the rules of business, and only what applied leaves the table."""
        self.rules(self.engine).apply([sent(8)])
        for offset, event in ((1, sent(7)), (2, ack(8, 4)), (3, withdraw(9)), (4, sent(8, content="else"))):
            self.put_aside(self.engine, seed.SEED.encode(event).body, offset)
        self.put_aside(self.engine, b"no event", 5)
        result = self.parked("replay", "--all")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(result.stdout, "T/3/1  applied\nT/3/2  applied\nT/3/3  applied\n")
        self.assertEqual(
            result.stderr,
            "T/3/4  stays: the message is stored with another content\nT/3/5  stays: body is not JSON\n",
        )
        found = in_database(self.engine)
        self.assertEqual([(row.msg_id, row.msg_status) for row in found.messages], [(7, 1), (8, 4)])
        self.assertEqual([(row.user_id, row.msg_id) for row in found.owed], [(BEN, 7)])
        self.assertEqual(([row.msg_id for row in found.early], self.keys()), ([9], [4, 5]))

    def test_replay_of_the_embedded_queue(self) -> None:
        """Where no queue wrote a body, business wrote the event down itself."""
        rules = self.rules(self.engine)
        rules.apply([sent(7)])
        rules.apply([offlined(7, content="else")])
        [row] = in_database(self.engine).parked
        name = f"embedded/0/{row.offset}"
        self.assertIn(name, self.parked("list").stdout)
        self.assertIn("stays: the message is stored", self.parked("replay", name).stderr)
        with self.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM im_c2c_message")
        self.assertEqual(self.parked("replay", name).stdout, f"{name}  applied\n")
        found = in_database(self.engine)
        self.assertEqual(([row.content for row in found.messages], found.parked), (["else"], []))

    def test_more_than_a_page(self) -> None:
        """However many there are."""
        for offset in range(250):
            self.put_aside(self.engine, seed.SEED.encode(sent(offset + 1)).body if offset % 2 else b"bad", offset)
        self.assertEqual(len(self.parked("list").stdout.splitlines()), 250)
        result = self.parked("replay", "--all")
        self.assertEqual((len(result.stdout.splitlines()), len(result.stderr.splitlines())), (125, 125))
        self.assertEqual(self.keys(), list(range(0, 250, 2)))

    def test_while_a_gateway_runs(self) -> None:
        """The gateway's own file is not written under its hands."""
        self.put_aside(self.engine, seed.SEED.encode(sent(7)).body, 5)
        lock = DataDir(str(self.folder))
        self.addCleanup(lock.release)
        self.refused(self.parked("replay", "T/3/5"), "is in use by another process")

    def test_one_that_is_not_there(self) -> None:
        """One line; nothing is applied before all were found."""
        self.put_aside(self.engine, seed.SEED.encode(sent(7)).body, 5)
        self.refused(self.parked("replay", "T/3/5", "T/3/6"), "nothing is parked at T/3/6")
        self.refused(self.parked("show", "T/3/6"), "nothing is parked at T/3/6")
        self.assertEqual(self.keys(), [5])


class PlaceTests(ParkedCase):
    """Where it looks, and what is wrong."""

    def run_it(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["parked", *arguments])

    def test_nothing(self) -> None:
        """Nothing parked, or nothing there at all."""
        for result in (self.parked("list"), self.run_it("list", "--set", f"data_dir={self.mktemp()}")):
            self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, "", "nothing is parked\n"))

    def test_as_configured(self) -> None:
        """Both places of a configuration; with a URL only that database."""
        url = f"sqlite:///{Path(self.mktemp()).absolute()}"
        self.put_aside(self.database(url), b"body", 5)
        self.write(_PARKED, 2, "why", pack([sent(2)]))
        both = self.run_it("list", "--set", f"data_dir={self.folder}", "--set", f"business.database={url}")
        self.assertEqual([line.split()[0] for line in both.stdout.splitlines()], ["outbox/2", "T/3/5"])
        one = self.run_it("list", "--database", url)
        self.assertEqual([line.split()[0] for line in one.stdout.splitlines()], ["T/3/5"])
        self.assertEqual(self.run_it("replay", "--all", "--database", url).exit_code, 1)

    def test_mistakes(self) -> None:
        """Ids, addresses and folders that are none: one line each, status 1, nothing made."""
        missing = Path(self.mktemp()).absolute()
        for arguments, words in (
            (("show", "7"), "ID: expected outbox/NUMBER"),
            (("replay", "outbox/x"), "ID: expected outbox/NUMBER"),
            (("replay",), "ID: expected one or more, or --all"),
            (("replay", "--all", "outbox/1"), "ID: expected one or more, or --all"),
            (("list", "--database", "postgresql://u:hush@h/d"), "business.database"),
            (("list", "--database", "no url://"), "business.database"),
            (("list", "--database", f"sqlite:///{missing}"), "does not exist"),
            (("list", "--data-dir", str(missing)), "is not a folder"),
            (("show", "T/1/2", "--data-dir", str(self.folder)), "business.database"),
            (("replay", "T/1/2", "--data-dir", str(self.folder)), "business.database"),
            (("list", "--set", "data_dirr=x"), "data_dirr"),
        ):
            with_folder = arguments if "--" in " ".join(arguments[1:]) else (*arguments, "--data-dir", str(self.folder))
            result = self.run_it(*with_folder)
            self.refused(result, words)
            self.assertNotIn("hush", result.output)
        self.assertFalse(missing.exists())

    def test_a_database_of_somebody_else(self) -> None:
        """Neither read nor filled."""
        path = Path(self.mktemp()).absolute()
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE recipes (name TEXT)")
        before = path.read_bytes()
        self.refused(self.run_it("replay", "--all", "--database", f"sqlite:///{path}"), "some other program")
        self.assertEqual(path.read_bytes(), before)
