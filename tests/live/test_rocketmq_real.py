"""The RocketMQ client against a real broker.

Skipped where there is no Java, except in CI. IMCONNECT_ROCKETMQ_VERSION picks another version of the broker.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet import ssl
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Outcome, Request
from imconnect.rocketmq.connection import Credentials
from imconnect.rocketmq.consumer import GroupConsumer
from imconnect.rocketmq.lane import Settings
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Producer
from imconnect.rocketmq.routes import Queue
from tests.rocketmq.behaviours import Behaviours, Log, stored_in
from tests.servers import rocketmq_broker
from tests.servers.rocketmq_broker import DevBroker
from tests.support import ReactorTestCase

_no_java = shutil.which("java") is None or shutil.which("mvn") is None
_skip = (
    "RocketMQ needs a JDK and Maven (make test installs them as root)" if _no_java and "CI" not in os.environ else ""
)
DELETE_TOPIC = 215  # a request that only tests make


class RealBrokerTestCase(ReactorTestCase):
    """Clients of a real broker, closed when the test ends."""

    timeout = 300
    if _skip:
        skip = _skip

    def setUp(self) -> Any:
        self.clients: list[Client] = []
        return deferToThread(self.start_broker).addCallback(self.started)

    def start_broker(self) -> DevBroker:
        """Blocking."""
        return rocketmq_broker.shared()

    def started(self, broker: DevBroker) -> None:
        self.broker = broker

    def tearDown(self) -> Any:
        return gatherResults([Deferred.fromCoroutine(client.close(1.0)) for client in self.clients])

    def new_client(self, client_id: str = "", **options: Any) -> Client:
        from twisted.internet import reactor

        client = Client(reactor, self.broker.namesrv, client_id=client_id, **options)
        self.clients.append(client)
        return client

    def new_topic(self) -> str:
        return f"T{os.urandom(8).hex()}"

    def play(self, scenario: Coroutine[Any, Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(scenario)


class RealBehaviourTests(RealBrokerTestCase, Behaviours):
    """Everything in `Behaviours`."""


class Load:
    """Sends numbered batches to each queue, in order, again until stored; remembers what was acknowledged."""

    def __init__(self, clock: Any, producer: Producer, queues: tuple[Queue, ...]) -> None:
        self.clock, self.producer, self.queues = clock, producer, queues
        self.acknowledged: dict[Queue, list[bytes]] = {queue: [] for queue in queues}
        self.stopping = False
        self.retries = 0

    def run(self) -> Deferred[Any]:
        return gatherResults([Deferred.fromCoroutine(self._lane(queue)) for queue in self.queues])

    async def _lane(self, queue: Queue) -> None:
        number = 0
        while not self.stopping:
            bodies = [b"%d.%d" % (queue.number, number + i) for i in range(16)]
            number += 16
            waiting = [Message(body=body, unique_id=body.decode()) for body in bodies]
            while waiting:
                receipts = await self.producer.send(queue, waiting)
                stored = sum(receipt.stored for receipt in receipts)
                self.acknowledged[queue] += [message.body for message in waiting[:stored]]
                waiting = waiting[stored:]
                if waiting:
                    self.retries += 1
                    await deferLater(self.clock, 0.2)

    @property
    def total(self) -> int:
        return sum(len(bodies) for bodies in self.acknowledged.values())


class RealFaultTests(RealBrokerTestCase):
    """The broker dies, stops, and comes back."""

    async def load(self, **options: Any) -> tuple[Load, Admin, Client]:
        client = self.new_client()
        admin, topic = Admin(client), self.new_topic()
        route = await admin.create_topic(topic, 4)
        producer = Producer(client, "P" + topic, **options)
        return Load(client.clock, producer, route.writable), admin, client

    async def until(self, client: Client, true: Any, seconds: float = 120.0) -> None:
        deadline = client.clock.seconds() + seconds
        while not true():
            if client.clock.seconds() > deadline:
                raise AssertionError("it did not happen")
            await deferLater(client.clock, 0.05)

    async def check(self, load: Load, admin: Admin) -> None:
        """Everything acknowledged is there; the first copies of all are in order."""
        await deferLater(admin.clock, 1.0)  # a broker shows a message some moments after it has stored it
        for queue in load.queues:
            acknowledged = load.acknowledged[queue]
            bodies = [message.body for message in await stored_in(admin, queue, len(acknowledged))]
            first = list(dict.fromkeys(bodies))
            self.assertEqual(first[: len(acknowledged)], acknowledged)

    async def test_kill_nine_loses_nothing_that_was_acknowledged(self) -> None:
        """Killed under load and started again: producer and consumer go on by themselves, in order, nothing missing."""
        load, admin, client = await self.load(timeout=3.0)
        topic, log = load.queues[0].topic, Log()
        consumer = GroupConsumer(self.new_client("reader"), "G" + topic, topic, log)
        await consumer.start()
        sending = load.run()
        await self.until(client, lambda: load.total > 2000 and len(log.handled) > 500)
        await deferToThread(self.broker.kill9)
        before = load.total
        await deferLater(client.clock, 1.0)
        self.assertGreater(load.retries, 0)
        await deferToThread(self.broker.restart)
        await self.until(client, lambda: load.total > before + 1000)
        load.stopping = True
        await sending
        await self.check(load, admin)
        seen = {queue: set(load.acknowledged[queue]) for queue in load.queues}
        await self.until(client, lambda: all(seen[q] <= set(log.bodies(q)) for q in load.queues))
        for queue in load.queues:
            first = list(dict.fromkeys(log.bodies(queue)))
            self.assertEqual(first[: len(load.acknowledged[queue])], load.acknowledged[queue])
        await consumer.stop()

    async def test_a_stopped_broker_is_waited_for_on_the_same_connection(self) -> None:
        """SIGSTOP: sends run into their deadline, the connection stays, late replies are dropped; SIGCONT: on it goes."""
        load, admin, client = await self.load(timeout=0.5)
        sending = load.run()
        await self.until(client, lambda: load.total > 200)
        connects = client.counters.connects
        self.broker.pause()
        try:
            await deferLater(client.clock, 4.0)
        finally:
            self.broker.resume()
        before = load.total
        await self.until(client, lambda: load.total > before + 200)
        load.stopping = True
        await sending
        self.assertGreater(load.retries, 0)
        self.assertGreater(client.counters.late_replies, 0)
        self.assertEqual(client.counters.connects, connects)
        await self.check(load, admin)

    async def test_tls(self) -> None:
        """The same over TLS; a development broker has a certificate of its own making."""
        load, admin, _ = await self.load()
        secure = self.new_client(tls=lambda host: ssl.CertificateOptions())
        producer = Producer(secure, "PSecure")
        (queue, *_) = await producer.queues(load.queues[0].topic)
        (receipt,) = await producer.send(queue, [Message(body=b"x")])
        self.assertEqual((receipt.outcome, receipt.reason), (Outcome.STORED, ""))
        self.assertEqual([m.body for m in await stored_in(admin, queue, 1)], [b"x"])


class LostEndTests(RealBrokerTestCase):
    """Messages that get numbers which the consumer has passed."""

    async def send(self, producer: Producer, queue: Queue, name: str, count: int) -> list[bytes]:
        """-> what was stored."""
        bodies = [f"{name}{number}".encode() for number in range(count)]
        receipts = await producer.send(queue, [Message(body=body, unique_id=body.decode()) for body in bodies])
        self.assertTrue(all(receipt.stored for receipt in receipts), receipts)
        return bodies

    async def until(self, log: Log, true: Callable[[], bool]) -> None:
        clock = self.clients[0].clock
        deadline = clock.seconds() + 60
        while not true():
            self.assertLess(clock.seconds(), deadline, log.calls)
            await deferLater(clock, 0.05)

    async def until_handled(self, log: Log, bodies: list[bytes]) -> None:
        await self.until(log, lambda: set(bodies) <= set(log.bodies()))

    async def test_more_is_written_than_was_lost(self) -> None:
        """The queue begins anew and grows beyond our offset, then the connection breaks, as after a restart: all that
        is new is seen, in order."""
        producing, consuming, topic, log = self.new_client(), self.new_client("reader"), self.new_topic(), Log()
        (queue,) = (await Admin(producing).create_topic(topic, 1)).writable
        producer = Producer(producing, "P")
        consumer = GroupConsumer(consuming, "G" + topic, topic, log, settings=Settings(batch=1, buffered=1))
        await consumer.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(consumer.stop(0.0)))
        await self.until_handled(log, await self.send(producer, queue, "old", 5))
        gate = log.gate = Deferred()
        last = await self.send(producer, queue, "last", 2)
        # One in hand, the other fills the window: no pull is under way.
        await self.until(log, lambda: log.calls[-1][1] == last[:1] and not consuming.in_flight())
        # 1: deleted, but for the timers, which development brokers do not have.
        await producing.call(self.broker.address, DELETE_TOPIC, {"topic": topic}, good=(0, 1))
        await Admin(producing).create_topic(topic, 1)
        self.assertEqual(await Admin(producing).max_offset(queue), 0)
        new = await self.send(producer, queue, "new", 12)
        consuming.channel(self.broker.address).abort()
        log.gate = None
        gate.callback(None)
        await self.until_handled(log, new)
        self.assertEqual(list(dict.fromkeys(log.bodies()))[5:], [*last, *new])


class LauncherTests(ReactorTestCase):
    """`python -m tests.servers.rocketmq_broker`, as `make rocketmq` runs it."""

    timeout = 300
    if _skip:
        skip = _skip

    def test_it_ends_with_its_stdin(self) -> Any:
        """READY once it serves, topics there; when stdin closes the JVM is gone at once."""
        return deferToThread(self.run_launcher).addCallback(self.assertEqual, 0)

    def run_launcher(self) -> int:
        """Its exit status."""
        root = Path(rocketmq_broker.__file__).resolve().parents[2]
        store = Path(self.mktemp()).resolve()
        ports = ["--namesrv-port", "0", "--listen-port", "0"]
        command = [
            sys.executable,
            "-m",
            "tests.servers.rocketmq_broker",
            "--store",
            str(store),
            *ports,
            "--topic",
            "T:3",
        ]
        with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as launcher:
            assert launcher.stdin is not None and launcher.stdout is not None
            words = launcher.stdout.readline().decode().split()
            told = dict(word.split("=", 1) for word in words[1:])
            self.assertEqual((words[0], sorted(told)), ("READY", ["broker", "namesrv", "pid"]))
            fields = {"topic": "T", "acceptStandardJsonOnly": "true"}
            self.assertIn(b'"writeQueueNums":3', rocketmq_broker.call(told["namesrv"], Request.ROUTE, fields).body)
            launcher.stdin.close()
            status = launcher.wait(timeout=20)
        self.assertRaises(ProcessLookupError, os.kill, int(told["pid"]), 0)
        return status


class DocumentTests(RealBrokerTestCase):
    """docs/rocketmq-client.md."""

    async def test_the_example_works(self) -> None:
        """Run as it stands, against this broker and a topic of its own."""
        topic = self.new_topic()
        await Admin(self.new_client()).create_topic(topic, 4)
        root = Path(rocketmq_broker.__file__).resolve().parents[2]
        text = (root / "docs" / "rocketmq-client.md").read_text()
        code = text.split("```python\n", 1)[1].split("```", 1)[0]
        code = code.replace("127.0.0.1:9876", self.broker.namesrv).replace('"Example"', f'"{topic}"')
        code = code.replace("ExampleGroup", "G" + topic)
        command = [sys.executable, "-c", code]
        done = await deferToThread(subprocess.run, command, cwd=root, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.stdout, done.stderr), ("Outcome.STORED 0\n[b'hello']\n", ""))


class RealAccessTests(RealBrokerTestCase):
    """A broker that asks who is there."""

    def start_broker(self) -> DevBroker:
        package = "org.apache.rocketmq.auth.authentication.provider."
        properties = {
            "authenticationEnabled": "true",
            "authenticationProvider": package + "DefaultAuthenticationProvider",
            "authenticationMetadataProvider": package + "LocalAuthenticationMetadataProvider",
            "initAuthenticationUser": '{"username":"admin","password":"s3cret"}',
            "innerClientAuthenticationCredentials": '{"accessKey":"admin","secretKey":"s3cret"}',
        }
        broker = DevBroker(Path(self.mktemp()).resolve(), properties=properties)
        self.addCleanup(deferToThread, broker.kill9)
        return broker.start(create_topic=False)

    async def test_only_who_signs_right_is_let_in(self) -> None:
        """A wrong secret is refused; the right one creates a topic, sends and reads."""
        topic = self.new_topic()
        known = self.new_client(credentials=Credentials("admin", "s3cret"))
        admin = Admin(known)
        (queue,) = (await admin.create_topic(topic, 1)).writable
        producer = Producer(known, "P")
        (receipt,) = await producer.send(queue, [Message(body=b"x")])
        self.assertEqual(receipt.outcome, Outcome.STORED)
        self.assertEqual([m.body for m in await stored_in(admin, queue, 1)], [b"x"])
        stranger = Producer(self.new_client(credentials=Credentials("admin", "wrong")), "P")
        await stranger.queues(topic)
        (receipt,) = await stranger.send(queue, [Message(body=b"y")])
        self.assertEqual(receipt.outcome, Outcome.RETRY)
        self.assertEqual(len(await admin.read_all(queue)), 1)
