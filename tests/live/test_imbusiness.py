"""`twistd imbusiness` against a real RocketMQ: from the topic into the database, whatever happens meanwhile.

Skipped where there is no Java, except in CI.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from imconnect.edge.grpc_server import GrpcServer
from imconnect.events.dialect import java_queue
from imconnect.events.seed import SEED
from imconnect.events.values import Event
from imconnect.model import Applied, Receipt, Withdrawal
from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Producer
from imconnect.rocketmq.routes import Queue
from imconnect.tap.listening import bind
from tests.business.made import ANN, BEN, ack, client_id, offlined, sent, withdraw
from tests.business.poison import POISON, good
from tests.live.case import LiveTestCase
from tests.live.notified import Notified
from tests.live.processes import BusinessProcess, GatewayProcess, is_alive, until
from tests.servers import rocketmq_broker
from tests.servers.mariadb import MariaDb
from tests.servers.private import CannotRun

_no_java = shutil.which("java") is None or shutil.which("mvn") is None
_skip = (
    "RocketMQ needs a JDK and Maven (make test installs them as root)" if _no_java and "CI" not in os.environ else ""
)
QUEUES = 4


class ImbusinessTestCase(LiveTestCase):
    """A topic and a group of its own per test, and a producer in this process."""

    timeout = 300.0
    if _skip:
        skip = _skip

    async def setUp(self) -> None:
        super().setUp()
        self.broker = await deferToThread(rocketmq_broker.shared)
        self.topic = f"T{os.urandom(8).hex()}"
        await deferToThread(self.broker.create_topic, self.topic, QUEUES)
        self.client = Client(self.reactor, self.broker.namesrv)
        self.producer = Producer(self.client, "P")
        self.queues = await self.producer.queues(self.topic)
        self.url = f"sqlite:///{self.folder}/business.db"

    async def tearDown(self) -> None:
        await self.client.close(1.0)

    def business(self, launcher: Sequence[str] = ("twistd", "-n", "--pidfile="), **settings: Any) -> BusinessProcess:
        """One member of the group, not started."""
        values = {
            "rocketmq.server_addr": self.broker.namesrv,
            "rocketmq.topic": self.topic,
            "rocketmq.consumer.group_name": f"G{self.topic}",
            "rocketmq.consumer.max_attempts": 3,
            "business.database": self.url,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        name = f"business-{len(self.processes)}"
        made: BusinessProcess = self._owned(
            BusinessProcess(self.reactor, self.folder, values, name=name, launcher=launcher)
        )
        return made

    async def up(self, **settings: Any) -> BusinessProcess:
        """One that consumes."""
        business = self.business(**settings)
        await business.start()
        return business

    async def put(self, queue: Queue, *bodies: bytes) -> None:
        """Bodies as they are, into one queue."""
        await self.store(queue, [Message(body=body) for body in bodies])

    async def write(self, *events: Event) -> None:
        """Events as a gateway writes them: the queue by the chat."""
        for event in events:
            body = SEED.encode(event)
            queue = self.queues[java_queue(SEED.queue_key(event), len(self.queues))]
            message = Message(body=body.body, keys=body.keys, tags=body.tag, properties=body.properties)
            await self.store(queue, [message])

    async def store(self, queue: Queue, messages: Sequence[Message]) -> None:
        receipts = await self.producer.send(queue, messages)
        self.assertTrue(all(receipt.stored for receipt in receipts), receipts)

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Of the database, whichever it is; nothing where there are no tables yet."""

        def ask() -> list[tuple[Any, ...]]:
            path = self.folder / "business.db"
            if not path.exists():
                return []
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
                return database.execute(sql).fetchall()

        return await deferToThread(ask)

    async def holds(self, ids: Sequence[int], within: float = 30.0) -> None:
        """Until exactly these messages are in the database."""
        wanted = sorted(ids)

        async def same() -> bool:
            return [row[0] for row in await self.query("SELECT msg_id FROM im_c2c_message ORDER BY msg_id")] == wanted

        await until(self.reactor, same, f"{len(wanted)} messages are in the database", within)

    async def owns(self, business: BusinessProcess | GatewayProcess, count: int, within: float = 40.0) -> None:
        async def it_does() -> bool:
            return len(json.loads((await business.get("/stats")).body)["queues"]) == count

        await until(self.reactor, it_does, f"{business.name} has {count} queues", within)


class EventTests(ImbusinessTestCase):
    async def test_events_reach_the_database_and_people(self) -> None:
        """All four events, rows as the seed wants them; gateways hear what business has to tell, once each."""
        told: list[list[Applied]] = [[], []]
        servers = [GrpcServer(self.reactor, bind("127.0.0.1", 0, "x"), told[i].append, f"g{i}") for i in (0, 1)]
        for server in servers:
            server.start()
            self.addCleanup(server.stop)
        gateways = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        business = await self.up(business__gateways=f"[{gateways}]")
        await self.write(sent(1), sent(2), sent(3), offlined(4), ack(1, 3), ack(2, 4, by_business=True), withdraw(3))
        await self.holds([1, 2, 3, 4])

        async def done() -> bool:
            rows = await self.query("SELECT msg_id, msg_status, withdraw_flag FROM im_c2c_message ORDER BY msg_id")
            return rows == [(1, 3, 0), (2, 4, 0), (3, 1, 1), (4, 2, 0)]

        await until(self.reactor, done, "statuses are as the events say")
        self.assertEqual(await self.query("SELECT user_id, msg_id FROM im_offline_message"), [(BEN, 4)])
        wanted = ([Receipt(2, client_id(2), ANN, BEN, 4)], [Withdrawal(3, ANN, BEN)], [BEN])
        for heard in told:

            def all_heard(heard: list[Applied] = heard) -> bool:
                receipts = [receipt for applied in heard for receipt in applied.receipts]
                withdrawals = [withdrawal for applied in heard for withdrawal in applied.withdrawals]
                hints = [hint for applied in heard for hint in applied.hints]
                return (receipts, withdrawals, hints) == wanted

            await until(self.reactor, all_heard, f"the gateway was told: {heard}")
        page = (await business.get("/metrics")).body
        for line in (
            f'imconnect_pushback_failed_total{{gateway="127.0.0.1:{servers[0].port}"}} 0.0',
            f"imconnect_consumer_queues {QUEUES}.0",
            "imconnect_business_events 7.0",
            "imconnect_business_commit_events_sum 7.0",
        ):
            self.assertIn(line, page)
        self.assertEqual((await business.get("/ready")).body, '{"ready":true,"degraded":[]}')
        self.assertEqual(await business.stop(), -15)
        self.assertEqual(business.errors(), "")

    async def test_poison_of_every_kind(self) -> None:
        """Parked with its place and its body; what stands behind it goes on, and the offset is behind it all."""
        business = await self.up()
        queue = self.queues[2]
        await self.put(queue, good(1), *POISON.values(), good(2))
        await self.put(queue, good(2, "a contradiction"), good(3))
        await self.holds([1, 2, 3])
        bodies = [*POISON.values(), good(2, "a contradiction")]
        rows = await self.query('SELECT topic, queue, body FROM im_event_parked ORDER BY "offset"')
        self.assertEqual([(topic, number, bytes(body)) for topic, number, body in rows],
                         [(self.topic, 2, body) for body in bodies])  # fmt: skip
        admin = Admin(self.client)

        async def committed() -> bool:
            return await admin.consumer_offset(f"G{self.topic}", queue) == len(POISON) + 4

        await until(self.reactor, committed, "the offset is committed")
        self.assertEqual((await business.stats())["business"]["parked"], len(bodies))
        self.assertNotIn("Traceback", business.output())
        self.assertNotIn("contradiction", business.output())

    async def test_no_gateway_answers(self) -> None:
        """Events are stored all the same, and `/ready` says so."""
        business = await self.up(business__gateways="[127.0.0.1:9]")
        await self.write(*(offlined(number) for number in range(1, 50)))
        await self.holds(range(1, 50))

        async def said() -> bool:
            return '"degraded":["gateways"]' in (await business.get("/ready")).body

        await until(self.reactor, said, "/ready says that a gateway is away")


class LaunchTests(ImbusinessTestCase):
    async def test_daemon(self) -> None:
        """`twistd` without -n forks: threads of gRPC and of the database begin after that, and everything works."""
        told: list[Applied] = []
        server = GrpcServer(self.reactor, bind("127.0.0.1", 0, "x"), told.append, "g")
        server.start()
        self.addCleanup(server.stop)
        pidfile, logfile = self.folder / "run.pid", self.folder / "run.log"
        business = self.business(
            ("twistd", f"--pidfile={pidfile}", f"--logfile={logfile}"),
            business__gateways=f"[127.0.0.1:{server.port}]",
        )
        business.spawn()
        self.assertEqual(await business.wait(30), 0)
        pid = int(await until(self.reactor, lambda: pidfile.exists() and pidfile.read_text(), "the pid file"))
        self.addCleanup(self.end_daemon, pid, business)
        await until(self.reactor, business.is_ready, "the daemon is ready", 20)
        await self.write(offlined(1))
        await self.holds([1])
        await until(self.reactor, lambda: told == [Applied(hints=(BEN,))], "the gateway was told")
        os.kill(pid, signal.SIGTERM)
        await until(self.reactor, lambda: not is_alive(pid), "the daemon has ended")
        self.assertEqual((business.output(), business.errors()), ("", ""))
        self.assertNotIn("Traceback", logfile.read_text())

    def end_daemon(self, pid: int, business: BusinessProcess) -> None:
        """It has left the group of the process that started it; ended by its own id, if it is still it."""
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and f"http.port={business.http_port}".encode() in command.read_bytes():
            os.kill(pid, signal.SIGKILL)

    async def test_two_with_the_same_port(self) -> None:
        """The second says which key, in one line."""
        first = await self.up()
        second = self.business()
        outcome = await self.outcome([*second.command, "--set", f"http.port={first.http_port}"])
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertEqual(outcome.err, f"http.port: 127.0.0.1:{first.http_port} is in use\n")

    async def test_a_schema_that_is_not_ours(self) -> None:
        """It refuses to start and names the file, which stays as it is."""
        path = self.folder / "business.db"
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE im_session (x)")
        before = path.read_bytes()
        outcome = await self.outcome(self.business().command)
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertIn(str(path), outcome.err)
        self.assertEqual(path.read_bytes(), before)


class SharingTests(ImbusinessTestCase):
    async def pair(self) -> tuple[BusinessProcess, BusinessProcess]:
        """Two that have half of the queues each."""
        one, two = await self.up(), await self.up()
        await self.owns(one, QUEUES // 2)
        await self.owns(two, QUEUES // 2)
        return one, two

    async def load(self, first: int, count: int) -> None:
        """So many messages over all queues."""
        shares = [
            self.put(
                queue, *(good(number) for number in range(first, first + count) if number % QUEUES == queue.number)
            )
            for queue in self.queues
        ]
        for share in shares:
            await share

    async def test_killed_and_started_again(self) -> None:
        """kill -9 of one of two in the middle of the work; under its old name it has its queues back at once."""
        one, _ = await self.pair()
        loading = Deferred.fromCoroutine(self.load(1, 4000))

        async def working() -> bool:
            ((count,),) = await self.query("SELECT count(*) FROM im_c2c_message")
            return int(count) > 100

        await until(self.reactor, working, "the work has begun")
        await one.kill9()
        await loading
        await one.start()
        await self.holds(range(1, 4001), within=40)
        self.assertEqual(await self.unread(), 4000)

    async def test_killed_and_taken_over(self) -> None:
        """The other one goes on with its own at once and has the rest when the broker lets the locks expire (60 s)."""
        one, two = await self.pair()
        await self.load(1, 2000)
        await one.kill9()
        await self.load(2001, 400)
        await self.owns(two, QUEUES, within=100)
        await self.holds(range(1, 2401), within=30)
        self.assertEqual((await self.unread(), await self.query("SELECT * FROM im_event_parked")), (2400, []))

    async def test_stopped_and_taken_over(self) -> None:
        """SIGTERM gives the queues back at once."""
        one, two = await self.pair()
        await self.load(1, 1000)
        self.assertEqual(await one.stop(), -15)
        await self.owns(two, QUEUES, within=15)
        await self.holds(range(1, 1001))

    async def unread(self) -> int:
        """What the receiver is told he has not read: counted once per message, whatever came twice."""
        ((count,),) = await self.query(f"SELECT unread_count FROM im_session WHERE user_id = {BEN}")
        return int(count)


class DatabaseTests(ImbusinessTestCase):
    """On MariaDB, which goes away."""

    async def setUp(self) -> None:
        await super().setUp()
        folder = Path(tempfile.mkdtemp(prefix="imconnect-mariadb-"))
        folder.chmod(0o755)  # the server runs as a user of its own
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.server = MariaDb(folder)
        self.addCleanup(deferToThread, self.server.kill9)
        self.url = self.server.url()

    async def serve(self) -> None:
        try:
            await deferToThread(self.server.start)
        except CannotRun as error:
            if os.environ.get("CI"):
                raise
            self.skipTest(str(error))

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        return await deferToThread(self.server.query, sql)

    async def test_away_at_the_start_and_later(self) -> None:
        """It waits for the first answer, systemd hears of it then; and again when the server dies; nothing is parked,
        nothing is missing."""
        business = self.business()
        systemd = Notified(business)
        self.addCleanup(systemd.close)
        business.spawn()

        async def waiting() -> bool:
            answer = await business.get("/ready")
            return answer.code == 503 and "waiting for the database" in answer.body

        await until(self.reactor, waiting, "it waits for the database", 20)
        self.assertFalse(systemd.says("READY=1"))
        await self.write(sent(1))
        await self.serve()
        await until(self.reactor, lambda: systemd.says("READY=1"), "it is ready", 40)
        self.assertTrue(await business.is_ready())
        await self.holds([1])
        await deferToThread(self.server.kill9)
        await self.write(*(sent(number) for number in range(2, 300)))

        async def noticed() -> bool:
            answer = await business.get("/ready")
            return answer.code == 200 and '"database"' in answer.body

        await until(self.reactor, noticed, "/ready says that the database is away")
        await self.serve()
        await self.holds(range(1, 300), within=60)
        self.assertEqual(await self.query("SELECT * FROM im_event_parked"), [])
        self.assertEqual((await self.query(f"SELECT unread_count FROM im_session WHERE user_id={BEN}")), [(299,)])
        self.assertFalse(systemd.says("STOPPING=1"))
        await business.stop()
        self.assertTrue(systemd.says("STOPPING=1"))
        self.assertNotIn("Traceback", business.output())
