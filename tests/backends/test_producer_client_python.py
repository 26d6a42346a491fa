"""rocketmq-client-python against the fake broker on loopback: its contract, and its faults tamed."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.protocol import Factory, Protocol

from imconnect.backends import librocketmq, producer_client_python
from imconnect.backends.librocketmq_sender import EVENT_ID
from imconnect.backends.producer_client_python import BREAK, BREAKER
from imconnect.config.tree import Producer as Sending
from imconnect.config.tree import Rocketmq
from imconnect.core.ports import Answer, Producer
from imconnect.errors import ConfigError, Unavailable
from imconnect.events.dialect import Dialect
from imconnect.events.seed import SEED
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Request
from imconnect.rocketmq.messages import decode_properties
from tests.backends.client_python import ConfiguredCase, why_not
from tests.business.made import sent
from tests.contracts.producer import RocketmqContract, numbered, stored
from tests.rocketmq.fake_broker import FakeCluster, Fault
from tests.support import TestCase

_skip = why_not()


class OnLoopback(ConfiguredCase):
    """A name server and its brokers on real sockets."""

    brokers: tuple[str, ...] = ("broker-a",)
    transport = "client-python"
    timeout = 120
    if _skip:
        skip = _skip

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self._topics = count()
        self._ports: dict[str, Any] = {}
        self.cluster = FakeCluster(self.reactor, dict.fromkeys(self.brokers, ""))
        for name, broker in self.cluster.brokers.items():
            broker.address = self.listen(name, broker.peer)
        self.broker = self.cluster.brokers["broker-a"]
        self.name_server = self.listen("names", self.cluster.name_server)

    def listen(self, name: str, make: Any, port: int = 0) -> str:
        """host:port. A second call with the port of the first makes it listen again."""
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        factory.buildProtocol = lambda _: make()  # type: ignore[method-assign,assignment]
        self._ports[name] = self.reactor.listenTCP(port, factory, interface="127.0.0.1")
        return f"127.0.0.1:{self._ports[name].getHost().port}"

    def tearDown(self) -> Any:
        return gatherResults([maybeDeferred(port.stopListening) for port in self._ports.values()])

    def new_topic(self) -> str:
        return f"Topic{os.getpid()}x{id(self)}x{next(self._topics)}"

    def client(self) -> Client:
        client = Client(self.reactor, self.name_server)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close(0.1)))
        return client

    def producer(self, settings: Rocketmq, dialect: Dialect, data_dir: str) -> Producer:
        return self.configured(self.name_server, settings, dialect, data_dir)

    async def break_queue(self) -> None:
        for name, broker in self.cluster.brokers.items():
            await maybeDeferred(self._ports[name].stopListening)
            broker.kill()

    async def mend_queue(self) -> None:
        for name, broker in self.cluster.brokers.items():
            self.listen(name, broker.peer, int(broker.address.rpartition(":")[2]))


class ClientPythonContractTests(OnLoopback, RocketmqContract):
    """The same as with our own client, but for the event's id."""

    id_property = EVENT_ID


class TamedTests(OnLoopback):
    """What the library does wrong, and what becomes of it."""

    def setUp(self) -> None:
        super().setUp()
        self.topic = self.new_topic()
        self.cluster.topics[self.topic] = 4

    async def opened(self, **options: Any) -> Any:
        folder = self.mktemp()
        os.mkdir(folder)
        sending = Sending(group_name=f"P{self.topic}", **{"send_timeout": 1.0, **options})
        settings = Rocketmq(topic=self.topic, producer=sending)
        producer = self.producer(settings, SEED, folder)
        await producer.open()
        return producer

    def kept(self, number: int) -> list[str]:
        """KEYS of what lies in this queue."""
        return [decode_properties(kept.properties)["KEYS"] for kept in self.broker.store[self.topic, number]]

    async def test_an_answer_that_is_not_good(self) -> None:
        """Busy: the library does not say why, so the label is `none`; sent again, stored once."""
        producer = await self.opened()
        lane = producer.lane(sent(1))
        self.broker.faults = [Fault(code=Request.SEND, answer=2)]
        entries = numbered([sent(1), sent(2)])
        self.assertEqual(list(await producer.send(lane, entries)), stored(entries))
        self.assertEqual(self.kept(lane - 1), ["1", "2"])
        self.assertEqual(dict(producer.codes), {"none": 1})

    async def test_what_was_stored_is_answered(self) -> None:
        """The second of three fails to the end: the first is stored, the third never left."""
        producer = await self.opened(retry_times=2)
        lane = producer.lane(sent(1))
        self.broker.faults = [Fault(code=Request.SEND, answer=0), Fault(code=Request.SEND, times=2, answer=2)]
        answers = list(await producer.send(lane, numbered([sent(1), sent(2), sent(3)])))
        self.assertEqual(answers, [Answer(1, True), Answer(2, False), Answer(3, False)])
        self.assertEqual(self.kept(lane - 1), ["1"])

    async def test_a_reply_that_never_comes(self) -> None:
        """It is waited for as long as send_timeout says, then the event is sent again."""
        producer = await self.opened()
        lane = producer.lane(sent(1))
        self.broker.faults = [Fault(code=Request.SEND, silent=True)]
        begun = self.reactor.seconds()
        self.assertEqual(list(await producer.send(lane, [(1, sent(1))])), [Answer(1, True)])
        self.assertApproximates(self.reactor.seconds() - begun, 1.2, 0.7)
        self.assertEqual(self.kept(lane - 1), ["1", "1"])

    async def test_the_breaker(self) -> None:
        """After failures in a row nothing is sent for a while: a hanging library must not pile up calls."""
        producer = await self.opened(retry_times=1)
        lane = producer.lane(sent(1))
        self.broker.faults = [Fault(code=Request.SEND, times=BREAKER, answer=2)]
        for _ in range(BREAKER):
            with self.assertRaises(Unavailable):
                await producer.send(lane, [(1, sent(1))])
        sends = self.broker.count(Request.SEND)
        with self.assertRaises(Unavailable) as caught:
            await producer.send(lane, [(1, sent(1))])
        self.assertIn("too many sends failed", str(caught.exception))
        self.assertEqual(self.broker.count(Request.SEND), sends)
        await self.wait(BREAK + 0.1)
        self.assertEqual(list(await producer.send(lane, [(1, sent(1))])), [Answer(1, True)])

    async def test_a_broker_that_left(self) -> None:
        """Its lane waits at once; nothing is sent elsewhere."""
        producer = await self.opened(retry_times=1)
        self.broker.registered = False
        self.cluster.slaves["broker-z"] = "127.0.0.1:1"
        lane = producer.lane(sent(1))
        await producer._client.routes.refresh(self.topic)
        with self.assertRaises(Unavailable) as caught:
            await producer.send(lane, [(1, sent(1))])
        self.assertIn("no route names a master of broker-a", str(caught.exception))
        self.assertEqual(self.broker.count(Request.SEND), 0)

    async def test_a_library_that_hangs_does_not_hold_up_the_stop(self) -> None:
        """It is left behind, with a line in the log."""
        self.patch(producer_client_python, "CLOSE_DEADLINE", 0.2)
        producer = await self.opened(retry_times=1, send_timeout=2.0)
        self.broker.faults = [Fault(code=Request.SEND, silent=True)]
        sending = producer.send(producer.lane(sent(1)), [(1, sent(1))])
        begun = self.reactor.seconds()
        await producer.close()
        self.assertLess(self.reactor.seconds() - begun, 1.0)
        await self.assertFailure(sending, Unavailable)


class TwoBrokerTests(OnLoopback):
    """The library's list of queues is that of the name server, sorted as ours is."""

    brokers = ("broker-b", "broker-a")

    async def test_each_to_its_queue(self) -> None:
        """Every chat lies in the very queue that its lane stands for."""
        topic, folder = self.new_topic(), self.mktemp()
        self.cluster.topics[topic] = 3
        os.mkdir(folder)
        settings = Rocketmq(topic=topic, producer=Sending(group_name=f"P{topic}"))
        producer = self.producer(settings, SEED, folder)
        await producer.open()
        expected: dict[tuple[str, int], list[str]] = {}
        for number in range(1, 41):
            event = sent(number, receiver=3000 + number)
            lane = producer.lane(event)
            await producer.send(lane, [(number, event)])
            name = "broker-a" if lane <= 3 else "broker-b"
            expected.setdefault((name, (lane - 1) % 3), []).append(str(number))
        found = {
            (name, number): [decode_properties(kept.properties)["KEYS"] for kept in kept_here]
            for name, broker in self.cluster.brokers.items()
            for (_, number), kept_here in broker.store.items()
        }
        self.assertEqual(found, expected)
        self.assertEqual(len(found), 6)


class LibraryTests(TestCase):
    """A library that cannot be used is a mistake in the configuration, in one line with the way out."""

    def setUp(self) -> None:
        self.home = self.mktemp()
        os.mkdir(self.home)

    def refused(self, library: str) -> str:
        with self.assertRaises(ConfigError) as caught:
            librocketmq.load(library, self.home)
        text = str(caught.exception)
        self.assertIn("`make librocketmq`", text)
        self.assertIn("rocketmq.transport: native", text)
        self.assertNotIn("\n", text)
        return text

    def test_another_version_of_the_package(self) -> None:
        """Only the version that the facts are about."""
        self.patch(librocketmq, "VERSION", "9.9")
        self.assertTrue(
            self.refused("").startswith("rocketmq.transport: client-python needs rocketmq-client-python 9.9")
        )

    def test_unusable_files(self) -> None:
        """None there, no library at all, and a library of something else."""
        if _skip:
            raise SkipTest(_skip)
        missing = os.path.join(self.home, "missing.so")
        self.assertIn(f"rocketmq.library: expected a file, got {missing!r}", self.refused(missing))
        text = os.path.join(self.home, "text.so")
        with open(text, "w", encoding="utf-8") as file:
            file.write("no library")
        self.assertIn("cannot be used", self.refused(text))
        other = next(name for name in Path("/proc/self/maps").read_text("utf-8").split() if "/libc.so" in name)
        self.assertIn("lacks CreateProducer", self.refused(other))

    def test_logs_of_dead_processes_go(self) -> None:
        """The library writes one file per process and removes none."""
        if _skip:
            raise SkipTest(_skip)
        logs = os.path.join(self.home, "logs", "rocketmq-cpp")
        os.makedirs(logs)
        for pid in (os.getpid(), 4194305):
            with open(os.path.join(logs, f"{pid}_rocketmq-cpp.log.0"), "w", encoding="utf-8"):
                """Empty is enough."""
        librocketmq.load("", self.home)
        self.assertEqual(os.listdir(logs), [f"{os.getpid()}_rocketmq-cpp.log.0"])

    def test_what_is_missing_says_so(self) -> None:
        """The functions that this library lacks are there for the import, and raise when they are called."""
        if _skip:
            raise SkipTest(_skip)
        native = librocketmq.load("", self.home)
        with self.assertRaises(NotImplementedError):
            native.client.Producer("group", orderly=True)
