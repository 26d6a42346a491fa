"""`twistd imbusiness`, and people who chat, over a MariaDB that fails: from the topic to the rows.

IMCONNECT_AWAY_SECONDS is how long the database is away while people chat: 8, and a minute in `make test-away`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pymysql
from alembic.script import ScriptDirectory
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import SCRIPTS, ensure_schema
from imconnect.backends.store_memory import MemoryStore
from imconnect.business.service import BusinessRules
from imconnect.events.dialect import java_queue
from imconnect.events.seed import SEED
from imconnect.events.values import Event
from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.messages import Message
from tests.backends.later_schema import later_scripts
from tests.business.made import ANN, BEN, NOW, Everything, ack, in_database, in_memory, offlined, sent, withdraw
from tests.live.mariadb import engine_for, forget, server
from tests.live.processes import BusinessProcess, GatewayProcess, until
from tests.live.test_imbusiness import ImbusinessTestCase
from tests.servers.mariadb import MariaDb

AWAY = float(os.environ.get("IMCONNECT_AWAY_SECONDS", "8"))
#: Chats that the events are about, so that all queues are busy.
CHATS = 40


def chat(first: int, count: int, text: str) -> list[Event]:
    """Messages with everything that becomes of messages; the n-th chat has every CHATS-th of them."""
    events: list[Event] = []
    for number in range(first, first + count):
        receiver = BEN + number % CHATS
        events.append(sent(number, receiver=receiver, content=text))
        if number % 3 == 0:
            events.append(offlined(number, receiver=receiver, content=text))
        if number % 2:
            events += [ack(number, 3, actor=receiver), ack(number, 4, actor=receiver)]
        if number % 10 == 0:
            events.append(withdraw(number, receiver=receiver))
    return events


class MariaDbTestCase(ImbusinessTestCase):
    """A database of its own on the server that all share, made with its tables."""

    async def setUp(self) -> None:
        await super().setUp()
        self.server = await deferToThread(self.serve)
        self.engine = await deferToThread(self.made)
        self.url = self.engine.url.render_as_string(hide_password=False)
        self.written: list[Event] = []

    def serve(self) -> MariaDb:
        """Blocking."""
        return server()

    def made(self) -> Any:
        return engine_for(self, "away")

    async def put_chat(self, count: int, text: str = "hello, 世界 😀") -> None:
        """The next messages of everybody, in batches."""
        first = 1 + sum(type(event).__name__ == "Sent" for event in self.written)
        events = chat(first, count, text)
        self.written += events
        lanes: list[list[Message]] = [[] for _ in self.queues]
        for event in events:
            body = SEED.encode(event)
            message = Message(body=body.body, keys=body.keys, tags=body.tag, properties=body.properties)
            lanes[java_queue(SEED.queue_key(event), len(lanes))].append(message)
        for queue, lane in zip(self.queues, lanes, strict=True):
            await self.store(queue, lane)

    def wanted(self) -> Everything:
        """What is in a store that got every event once."""
        memory = MemoryStore()
        BusinessRules(memory, lambda: NOW).apply(self.written)
        return timeless(in_memory(memory.tables))

    async def everything_once(self, within: float = 40.0) -> None:
        """Until the database holds just that, every offset is behind it all, and nothing lies aside."""
        wanted = self.wanted()

        async def same() -> bool:
            return timeless(await deferToThread(in_database, self.engine)) == wanted

        await until(self.reactor, same, "the rows are those of events applied once", within)
        admin = Admin(self.client)

        async def committed() -> bool:
            for queue in self.queues:
                if await admin.consumer_offset(f"G{self.topic}", queue) != await admin.max_offset(queue):
                    return False
            return True

        await until(self.reactor, committed, "every offset is behind the last event", 15)

    async def degraded(self, process: BusinessProcess | GatewayProcess, word: str, within: float = 20.0) -> None:
        async def said() -> bool:
            answer = await process.get("/ready")
            return answer.code == 200 and f'"{word}"' in answer.body

        await until(self.reactor, said, f"/ready of {process.name} says {word}", within)

    async def well(self, process: BusinessProcess | GatewayProcess, within: float = 20.0) -> None:
        async def said() -> bool:
            answer = await process.get("/ready")
            return (answer.code, answer.body) == (200, '{"ready":true,"degraded":[]}')

        await until(self.reactor, said, f"/ready of {process.name} complains of nothing", within)

    async def back(self) -> None:
        if not self.server.runs:
            await deferToThread(self.server.start)


def timeless(rows: Everything) -> Everything:
    """Without what depends on business's clock."""
    return rows._replace(notices=[row._replace(time=0) for row in rows.notices])


class FaultTests(MariaDbTestCase):
    async def test_one_fault_after_the_other(self) -> None:
        """Under load: connections killed, none given, hung, killed -9. Each time `/ready` says so and comes back, and
        at the end every event was applied once."""
        business = await self.up()
        self.addCleanup(self.back)
        for fault in (self.connections_killed, self.no_connections, self.hung, self.dead):
            loading = Deferred.fromCoroutine(self.put_chat(300))
            await fault(business)
            await loading
            await self.well(business)
            await self.everything_once()
        self.assertEqual(business.status, None)
        self.assertNotIn("Traceback", business.output() + business.errors())

    async def connections_killed(self, business: BusinessProcess) -> None:
        """Whatever they are just doing."""
        theirs = f"SELECT id FROM information_schema.processlist WHERE db = '{self.engine.url.database}'"
        for _ in range(10):
            for (number,) in await deferToThread(self.server.query, theirs):
                with contextlib.suppress(pymysql.err.OperationalError):  # gone meanwhile
                    await deferToThread(self.server.query, f"KILL {number}")
            await deferLater(self.reactor, 0.05)

    async def no_connections(self, business: BusinessProcess) -> None:
        """max_connections, by others who take every one that business lets go."""
        ((limit,),) = await deferToThread(self.server.query, "SELECT @@GLOBAL.max_connections")
        held: list[Any] = []
        await deferToThread(self.server.query, "SET GLOBAL max_connections = 10")
        try:
            await deferToThread(self.take_all, held)
            await self.put_chat(10)
            await self.degraded(business, "database")
        finally:
            # On one that is held: business would be faster than a new one.
            held[0].cursor().execute(f"SET GLOBAL max_connections = {limit}")
            for connection in held:
                connection.close()

    def take_all(self, held: list[Any]) -> None:
        """Every connection is ours; blocking."""
        url = self.engine.url
        theirs = f"SELECT id FROM information_schema.processlist WHERE db = '{url.database}'"
        while len(held) < 50:
            try:
                held.append(
                    pymysql.connect(host=url.host, port=url.port or 0, user=url.username, password=url.password or "")
                )
            except pymysql.err.OperationalError as error:
                self.assertEqual(error.args[0], 1040)
                with held[0].cursor() as cursor:
                    cursor.execute(theirs)
                    left = [number for (number,) in cursor.fetchall()]
                    if not left:
                        return
                    for number in left:
                        with contextlib.suppress(pymysql.err.OperationalError):  # gone meanwhile
                            cursor.execute(f"KILL {number}")

    async def hung(self, business: BusinessProcess) -> None:
        """SIGSTOP; in the long form for longer than an answer may take (20 s)."""
        self.server.pause()
        try:
            await self.put_chat(50)
            if AWAY > 25:
                await self.degraded(business, "database", 45)
            else:
                await deferLater(self.reactor, 2.0)
        finally:
            self.server.resume()

    async def dead(self, business: BusinessProcess) -> None:
        """kill -9, and back."""
        await deferToThread(self.server.kill9)
        await self.put_chat(50)
        await self.degraded(business, "database")
        await deferToThread(self.server.start)


class FullTests(MariaDbTestCase):
    """A server whose tablespace does not grow."""

    def serve(self) -> MariaDb:
        folder = Path(tempfile.mkdtemp(prefix="imconnect-mariadb-"))
        folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        made = MariaDb(folder, settings={"innodb_file_per_table": "0", "innodb_data_file_path": "ibdata1:16M"})
        self.addCleanup(deferToThread, made.kill9)
        return server(made.start)

    def made(self) -> Any:
        engine = make_engine(self.server.url())
        self.addCleanup(engine.dispose)
        ensure_schema(engine)
        return engine

    async def test_full(self) -> None:
        """No room for a row: events wait and `/ready` says so; with room again all of them are applied."""
        business = await self.up()
        await self.put_chat(50)
        await self.everything_once()
        await deferToThread(self.fill)
        await self.put_chat(400, "x" * 3000)
        await self.degraded(business, "database")
        self.assertIn("is full", business.output())
        await deferToThread(self.enlarge)
        await self.everything_once()
        await self.well(business)
        self.assertNotIn("Traceback", business.output() + business.errors())

    def enlarge(self) -> None:
        """As an operator would."""
        self.server.stop()
        self.server.settings["innodb_data_file_path"] = "ibdata1:16M;ibdata2:16M"
        self.server.start()

    def fill(self) -> None:
        """Until there is room for a few small rows at most."""
        self.server.query("CREATE TABLE filler (x LONGTEXT) ENGINE=InnoDB")
        with self.assertRaisesRegex(pymysql.err.OperationalError, "1114"):
            while True:
                self.server.query("INSERT INTO filler VALUES (REPEAT('x', 200000))")


class SchemaTests(MariaDbTestCase):
    """A database of another version: imbusiness refuses to start and one line says why."""

    async def refused(self, business: BusinessProcess) -> str:
        outcome = await self.outcome(business.command)
        self.assertEqual((outcome.status, outcome.err), (1, ""))
        (line,) = [line for line in outcome.out.splitlines() if "start failed" in line]
        self.assertIn("business.database", line)
        self.assertNotIn("Traceback", outcome.out)
        return line

    def scripts(self) -> Path:
        return later_scripts(self, str(ScriptDirectory(str(SCRIPTS)).get_current_head())).absolute()

    async def test_newer(self) -> None:
        """Of a later version."""
        await deferToThread(ensure_schema, self.engine, upgrade=True, scripts=self.scripts())
        self.addCleanup(deferToThread, forget, "away")
        self.assertIn("schema later of a newer version", await self.refused(self.business()))

    async def test_older(self) -> None:
        """Seen by a later version: the line names the command."""
        later = self.folder / "later.py"
        later.write_text(
            "import sys\nfrom pathlib import Path\nfrom imconnect.backends.sql.migrate import ensure_schema\n"
            f"ensure_schema.__defaults__ = (False, Path({str(self.scripts())!r}))\n"
            "from twisted.scripts.twistd import run\nsys.exit(run())\n"
        )
        python = Path(sys.executable).name
        line = await self.refused(self.business((python, str(later), "-n", "--pidfile=")))
        self.assertIn("run `imconnect db upgrade` once", line)


class ChatTests(MariaDbTestCase):
    async def test_away_while_people_chat(self) -> None:
        """People go on as if nothing were: sends are accepted, shown and receipted. When the database is back every
        message and its end is in it, once."""
        gateway = await self.started(
            {
                "rocketmq.server_addr": self.broker.namesrv,
                "rocketmq.topic": self.topic,
                "business.mode": "off",
                "business.database": self.url,
                "grpc.port": 0,
            }
        )
        business = await self.up()
        self.addCleanup(self.back)
        ann, ben = await self.online(gateway, ANN), await self.online(gateway, BEN)
        await ann.send(BEN, "before")
        await ben.has("before")
        await deferToThread(self.server.kill9)
        texts = ["before"]
        until_then = self.reactor.seconds() + AWAY
        while self.reactor.seconds() < until_then:
            text = f"away {len(texts)}"
            texts.append(text)
            result = await ann.send(BEN, text)
            await ben.has(text)
            await ann.told(result.msg_id, 3)
            await deferLater(self.reactor, 0.05)
        await self.degraded(business, "database")
        cat = await self.online(gateway, 1003)  # what he is owed cannot be read now: he is signed in all the same
        result = await ann.send(1003, "hello")
        await cat.has("hello")
        await deferToThread(self.server.start)
        statement = "SELECT content, msg_status FROM im_c2c_message ORDER BY msg_id"

        async def all_there() -> bool:
            rows = await deferToThread(self.server.query, statement, str(self.engine.url.database))
            return [row for row in rows if row[1] >= 3] == [(t, rows[0][1]) for t in [*texts, "hello"]]

        await until(self.reactor, all_there, "every message and its end is in the database", 60)
        await self.well(business)
        await self.well(gateway)
        rows = await deferToThread(in_database, self.engine)
        self.assertEqual((rows.owed, rows.parked, rows.early), ([], [], []))
        self.assertNotIn("Traceback", business.output() + gateway.output())
