"""The producers' contract on a real broker, with both transports; brokers and processes that are killed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from imconnect.backends.librocketmq_sender import EVENT_ID
from imconnect.config.tree import Rocketmq
from imconnect.core.ports import Producer
from imconnect.events.dialect import Dialect
from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from tests.backends.client_python import ConfiguredCase, why_not
from tests.contracts.producer import RocketmqContract
from tests.live import relay_child
from tests.live.test_rocketmq_real import RealBrokerTestCase


class OnRealBroker(RealBrokerTestCase, ConfiguredCase):
    """Producers as tap makes them, on the broker that all tests of this process share."""

    _killed = False

    def client(self) -> Client:
        return self.new_client()

    def producer(self, settings: Rocketmq, dialect: Dialect, data_dir: str) -> Producer:
        return self.configured(self.broker.namesrv, settings, dialect, data_dir)

    async def break_queue(self) -> None:
        """kill -9."""
        await deferToThread(self.broker.kill9)
        self._killed = True
        self.addCleanup(lambda: Deferred.fromCoroutine(self.mend_queue()))

    async def mend_queue(self) -> None:
        if self._killed:
            self._killed = False
            await deferToThread(self.broker.start)


class NativeRealTests(OnRealBroker, RocketmqContract):
    """Our own client."""


class ClientPythonRealTests(OnRealBroker, RocketmqContract):
    """rocketmq-client-python, where it could be installed."""

    transport: Literal["native", "client-python"] = "client-python"
    id_property = EVENT_ID
    if why_not():
        skip = why_not()


class Child(ProcessProtocol):
    """`relay_child`, and what it said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors = b""
        self.ended: Deferred[int] = Deferred()
        self._rest = b""
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def durable(self) -> int:
        """Everything up to this msgId was said to be durable."""
        return max((int(line.split()[1]) for line in self.lines if line.startswith("durable")), default=0)

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode() for line in lines]
        for true, waiter in list(self._waiting):
            if true():
                self._waiting.remove((true, waiter))
                waiter.callback(None)

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def until(self, true: Callable[[], bool]) -> Deferred[None]:
        """Fires at the line that makes it true."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append((true, waiter))
        return waiter

    def processEnded(self, reason: Failure) -> None:
        end: Any = reason.value
        self.ended.callback(end.exitCode if end.signal is None else -end.signal)


class KilledProcess(RealBrokerTestCase):
    """The process of the gateway dies while it sends."""

    transport = "native"

    async def test_nothing_that_was_durable_is_lost(self) -> None:
        """kill -9 three times in the middle: in the end every durable event is in the topic, each chat in order."""
        client, topic, folder = self.new_client(), self.new_topic(), Path(self.mktemp()).resolve()
        folder.mkdir()
        await Admin(client).create_topic(topic, 4)
        durable = 0
        for _ in range(3):
            child = self.spawn(topic, folder, durable + 1, 100_000)
            goal = durable + 500
            await child.until(lambda child=child, goal=goal: child.durable >= goal)  # type: ignore[misc]
            child.transport.signalProcess("KILL")  # type: ignore[union-attr]
            self.assertEqual(await child.ended, -9, child.errors)
            durable = child.durable
        last = self.spawn(topic, folder, durable + 10_001, 20)
        self.assertEqual(await last.ended, 0, last.errors)
        self.assertEqual(last.lines[-1], "drained")
        found, copies = await self.read(client, topic)
        for _ in range(100):  # a broker shows a message a moment after it took it
            if len({number for chat in found.values() for number in chat}) >= durable + 20:
                break
            await deferLater(client.clock, 0.1)
            found, copies = await self.read(client, topic)
        ids = {number for chat in found.values() for number in chat}
        self.assertEqual(set(range(1, durable + 1)) - ids, set())
        for chat in found.values():
            first = list(dict.fromkeys(chat))
            self.assertEqual(first, sorted(first))
        # At most what was in flight in each queue when it was killed: a piece of the relay.
        self.assertLess(copies - len(ids), 3 * 4 * 500)

    async def read(self, client: Client, topic: str) -> tuple[dict[int, list[int]], int]:
        """Chat -> msgIds in the order of its queue, and how many messages there are."""
        found: dict[int, list[int]] = {}
        copies = 0
        for queue in (await client.route(topic)).readable:
            for message in await Admin(client).read_all(queue):
                data = json.loads(json.loads(message.body)["data"])
                found.setdefault(int(data["toUserId"]), []).append(int(data["msgId"]))
                copies += 1
        return found, copies

    def spawn(self, topic: str, folder: Path, first: int, count: int) -> Child:
        from twisted.internet import reactor

        child = Child()
        arguments = [self.transport, self.broker.namesrv, topic, str(folder), str(first), str(count)]
        command = [sys.executable, "-m", relay_child.__name__, *arguments]
        where = str(Path(__file__).parents[2])
        reactor.spawnProcess(child, sys.executable, command, dict(os.environ), where)
        return child


class KilledClientPythonProcess(KilledProcess):
    """The same with the library that may take the process with it."""

    transport = "client-python"
    if why_not():
        skip = why_not()
