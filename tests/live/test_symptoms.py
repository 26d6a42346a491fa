"""The symptoms that docs/ROCKETMQ_INTEGRATION_GUIDE.md lists, produced with real processes.

What a reader would see, a log line, a field of `/ready` or `/stats`, a metric, stands in a test as the guide quotes it,
word for word; `<word>` stands for whatever there is in its place. Each is looked for in the guide and in its Chinese
twin as well, so neither can say what no process says.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.python.reflect import namedAny

from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import ensure_schema
from imconnect.events.dialect import java_queue
from imconnect.events.seed import SEED
from imconnect.wire.client_codec import encode_send
from tests.business.made import sent
from tests.live.case import LiveTestCase
from tests.live.processes import HOST, BusinessProcess, GatewayProcess, ServerProcess, free_port
from tests.live.raw import frame
from tests.live.test_imbusiness import QUEUES, ImbusinessTestCase
from tests.servers.private import CannotRun
from tests.servers.rocketmq_broker import DevBroker
from tests.support import TestCase

ROOT = Path(__file__).resolve().parents[2]
GUIDES = (ROOT / "docs" / "ROCKETMQ_INTEGRATION_GUIDE.md", ROOT / "docs" / "ROCKETMQ_INTEGRATION_GUIDE.zh.md")

_PACKAGE = "org.apache.rocketmq.auth.authentication.provider."
GUARDED = {
    "authenticationEnabled": "true",
    "authenticationProvider": _PACKAGE + "DefaultAuthenticationProvider",
    "authenticationMetadataProvider": _PACKAGE + "LocalAuthenticationMetadataProvider",
    "initAuthenticationUser": '{"username":"admin","password":"s3cret"}',
    "innerClientAuthenticationCredentials": '{"accessKey":"admin","secretKey":"s3cret"}',
}


def pattern(quoted: str) -> re.Pattern[str]:
    """What a quotation stands for."""
    return re.compile(re.sub(r"<\w+>", ".+", re.escape(quoted)))


class Shown(LiveTestCase):
    """Finds in a process what the guides quote."""

    def is_quoted(self, text: str) -> None:
        """In both guides."""
        for guide in GUIDES:
            self.assertIn(f"`{text}`", guide.read_text(), guide.name)

    async def is_shown(self, quoted: str, process: ServerProcess, page: str = "", within: float = 30.0) -> None:
        """Until it is there: in the log, or on a page of its HTTP port."""
        self.is_quoted(quoted)
        seen = [""]

        async def there() -> bool:
            seen[0] = (await process.get(page)).body if page else process.output()  # type: ignore[attr-defined]
            return pattern(quoted).search(seen[0]) is not None

        await self.until(there, lambda: f"{quoted} on {page or 'the log'}:\n{seen[0][-2000:]}", within)

    async def stats(self, gateway: GatewayProcess) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await gateway.get("/stats")).body)
        return found

    def database(self, name: str = "business.db") -> str:
        """Empty, with its schema; -> its URL."""
        url = f"sqlite:///{self.folder}/{name}"
        engine = make_engine(url)
        ensure_schema(engine)
        engine.dispose()
        return url

    def queued(self, server_addr: str, **settings: Any) -> GatewayProcess:
        """A gateway that sends to RocketMQ and consumes nothing; not started."""
        values = {
            "business.mode": "off",
            "business.database": self.database(),
            "grpc.port": 0,
            "rocketmq.server_addr": server_addr,
            "rocketmq.producer.send_timeout": 1,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        return self.gateway(values)

    async def up_with(self, server_addr: str, **settings: Any) -> GatewayProcess:
        """The same, started."""
        gateway = self.queued(server_addr, **settings)
        await gateway.start()
        return gateway

    async def relayed(self, gateway: GatewayProcess, count: int, within: float = 60.0) -> None:
        """Until so many events are in the queue, and none waits."""

        async def all_of_them() -> bool:
            stats = await self.stats(gateway)
            return (stats["relay"]["sent"], stats["outbox"]["events"]) == (count, 0)

        await self.until(all_of_them, f"{count} events are relayed", within)


class Says(Protocol):
    """Answers the first bytes with these; nothing at all: never answers."""

    words = b""

    def dataReceived(self, data: bytes) -> None:
        if self.words:
            self.transport.write(self.words)  # type: ignore[union-attr]


class NameServerTests(Shown):
    """Nobody at `rocketmq.server_addr` who knows RocketMQ."""

    async def talk(self, gateway: GatewayProcess) -> None:
        """Messages are accepted all the same."""
        ann = await self.online(gateway, 1001)
        await ann.send(1002, "safe on disk")
        await self.is_shown('{"ready":true,"degraded":["queue"]}', gateway, "/ready")
        self.assertEqual((await self.stats(gateway))["outbox"]["events"], 2)

    async def serve(self, words: bytes) -> str:
        """-> host:port of a server that says so."""
        kind = type("Kind", (Says,), {"words": words})
        port = await TCP4ServerEndpoint(self.reactor, 0, interface=HOST).listen(Factory.forProtocol(kind))
        self.addCleanup(port.stopListening)
        return f"{HOST}:{port.getHost().port}"

    async def test_absent(self) -> None:
        """Nobody listens there."""
        gateway = await self.up_with(f"{HOST}:{free_port()}")
        await self.talk(gateway)
        await self.is_shown("RocketMQ at <address> is away: ConnectionRefusedError", gateway)
        await self.is_shown("no name server tells where topic <topic> is: <address> is unreachable", gateway, "/stats")

    async def test_hanging(self) -> None:
        """Something takes the connection and never answers."""
        gateway = await self.up_with(await self.serve(b""))
        await self.talk(gateway)
        await self.is_shown("no name server tells where topic <topic> is: no reply in time", gateway, "/stats")
        await self.is_shown("the queue does not open, the outbox keeps everything: <why>", gateway)

    async def test_nonsense(self) -> None:
        """Something answers that is no name server."""
        gateway = await self.up_with(await self.serve(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        await self.talk(gateway)
        await self.is_shown("a RocketMQ peer sent <what>: connection dropped", gateway)


class StoreTests(Shown):
    """The database as gateway and imbusiness see it."""

    def business(self, url: str) -> BusinessProcess:
        settings = {"rocketmq.server_addr": f"{HOST}:{free_port()}", "business.database": url}
        made: BusinessProcess = self._owned(BusinessProcess(self.reactor, self.folder, settings))
        return made

    async def test_away(self) -> None:
        """Chat goes on; imbusiness waits."""
        url = f"mysql+pymysql://imconnect:secret@{HOST}:{free_port()}/imconnect"
        gateway = await self.up_with(f"{HOST}:{free_port()}", business__database=url)
        business = self.business(url)
        business.spawn()
        ann, ben = await self.online(gateway, 1001), await self.online(gateway, 1002)
        await ann.send(1002, "hello")
        await ben.has("hello")
        await self.is_shown("the store does not answer, people see what they missed when it does: <why>", gateway)
        await self.is_shown('{"ready":true,"degraded":["queue","store"]}', gateway, "/ready")
        await self.is_shown("the start waits for the database: <why>", business)
        await self.is_shown('"reason":"waiting for the database"', business, "/ready")
        self.assertNotIn("secret", gateway.output() + business.output())

    async def test_no_schema_yet(self) -> None:
        """A gateway makes no tables: it waits for imbusiness to have been there."""
        gateway = await self.up_with(f"{HOST}:{free_port()}", business__database=f"sqlite:///{self.folder}/empty.db")
        await self.online(gateway, 1001)
        await self.is_shown("the store does not answer, people see what they missed when it does: <why>", gateway)
        self.assertIn("no such table", gateway.output())
        await self.is_shown('{"ready":true,"degraded":["store"]}', gateway, "/ready")


class LibraryTests(Shown):
    async def test_missing(self) -> None:
        """client-python without its library: one line, and the remedy."""
        gateway = self.queued(f"{HOST}:{free_port()}", rocketmq__transport="client-python", rocketmq__library="no.so")
        outcome = await self.outcome(gateway.command)
        self.assertEqual((outcome.status, outcome.out, outcome.err.count("\n")), (1, "", 1))
        quoted = "rocketmq.library: expected a file, got '<path>': run"
        self.is_quoted(quoted)
        self.assertRegex(outcome.err, pattern(quoted))


class BrokerTests(Shown, ImbusinessTestCase):
    """A real broker."""

    async def chatting(self, **settings: Any) -> tuple[GatewayProcess, Any]:
        """A gateway that has relayed two events, and somebody who writes."""
        gateway = await self.up_with(self.broker.namesrv, rocketmq__topic=self.topic, **settings)
        ann = await self.online(gateway, 1001)
        await ann.send(1002, "first")
        await self.relayed(gateway, 2)
        return gateway, ann

    async def test_the_port_of_the_broker(self) -> None:
        """A broker is no name server, and says so."""
        gateway = await self.up_with(self.broker.address)
        ann = await self.online(gateway, 1001)
        await ann.send(1002, "safe on disk")
        await self.is_shown("no name server tells where topic <topic> is: code 3: <why>", gateway, "/stats")

    async def test_killed_and_back(self) -> None:
        """kill -9, and started again."""
        gateway, ann = await self.chatting()
        await deferToThread(self.broker.kill9)
        self.addCleanup(deferToThread, self.mend)
        await ann.send(1002, "second")
        await self.is_shown("queue <number> takes nothing, the outbox keeps it: <why>", gateway)
        await self.is_shown('{"ready":true,"degraded":["queue"]}', gateway, "/ready")
        await deferToThread(self.broker.restart)
        await self.relayed(gateway, 4)
        await self.is_shown("RocketMQ at <address> is back", gateway)
        await self.is_shown("queue <number> takes events again", gateway)
        await self.is_shown('{"ready":true,"degraded":[]}', gateway, "/ready")

    def mend(self) -> None:
        """The others need the broker."""
        try:
            self.broker.pid  # noqa: B018
        except CannotRun:
            self.broker.start()

    async def test_paused(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        gateway, ann = await self.chatting(rocketmq__producer__retry_times=1, rocketmq__producer__send_timeout=0.5)
        self.broker.pause()
        try:
            await ann.send(1002, "second")
            await self.is_shown("queue <number> takes nothing, the outbox keeps it: <why>", gateway)
            await self.is_shown('{"ready":true,"degraded":["queue"]}', gateway, "/ready")
            await self.is_shown('imconnect_mq_retries_total{code="none"} <count>', gateway, "/metrics")
        finally:
            self.broker.resume()
        await self.relayed(gateway, 4)

    async def test_no_topic(self) -> None:
        """It may not be created here; created by somebody else, everything goes."""
        topic = f"T{os.urandom(8).hex()}"
        gateway = await self.up_with(self.broker.namesrv, rocketmq__topic=topic, rocketmq__create_topic=False)
        ann = await self.online(gateway, 1001)
        await ann.send(1002, "first")
        await self.is_shown(
            "topic <topic> does not exist: create it (mqadmin updateTopic), or set rocketmq.create_topic: true",
            gateway,
            "/stats",
        )
        business = await self.up(rocketmq__topic=topic)
        await self.is_shown("group <group>: code 17: topic <topic> has no route", business)
        await self.is_shown('{"ready":true,"degraded":["queue"]}', business, "/ready")
        await deferToThread(self.broker.create_topic, topic, 1)
        await self.relayed(gateway, 2)

    async def test_fewer_queues(self) -> None:
        """Made anew with fewer than the gateway holds to: the chats of the missing ones wait, the others go on."""
        gateway, ann = await self.chatting()
        queue_of = {
            receiver: java_queue(SEED.queue_key(sent(1, sender=1001, receiver=receiver)), QUEUES)
            for receiver in range(1002, 1100)
        }
        await deferToThread(self.broker.create_topic, self.topic, 1)
        await ann.send(next(receiver for receiver, queue in queue_of.items() if queue == QUEUES - 1), "waits")
        await self.is_shown("request queueId[<number>] is illegal", gateway, "/stats")
        await self.is_shown("queue <number> takes nothing, the outbox keeps it: <why>", gateway)
        await ann.send(next(receiver for receiver, queue in queue_of.items() if queue == 0), "goes on")

        async def all_but_one() -> bool:
            stats = await self.stats(gateway)
            return (stats["relay"]["sent"], stats["outbox"]["events"]) == (4, 2)

        await self.until(all_but_one, "the other chat is relayed", 30)
        await deferToThread(self.broker.create_topic, self.topic, QUEUES)
        await self.relayed(gateway, 6)

    async def test_too_large(self) -> None:
        """At the door, before anything is accepted."""
        gateway, ann = await self.chatting()
        refused = await self.refusal(ann.send(1002, "x" * 4096))
        self.assertEqual(refused.code, 413)
        await self.is_shown('imconnect_sends_refused_total{reason="too_large"} <count>', gateway, "/metrics")
        await ann.send(1002, "goes on")
        await self.relayed(gateway, 4)

    async def test_refused_for_good(self) -> None:
        """The broker takes less than we were told that it would: put aside, and what stands behind it flows on."""
        gateway, ann = await self.chatting(rocketmq__producer__max_message_size=8000000, limits__frame_bytes=9000000)
        raw = await self.raw(gateway, 1001)
        raw.transport.write(frame(encode_send(os.urandom(16), 1002, "x" * 5000000)))
        await self.is_shown("<count> events were refused for good and are parked", gateway)
        await self.is_shown('{"ready":true,"degraded":["outbox_parked"]}', gateway, "/ready")
        await ann.send(1002, "goes on")
        await self.relayed(gateway, 6)
        with closing(sqlite3.connect(gateway.data_dir / "outbox.db")) as outbox:
            statement = "SELECT position, reason FROM outbox_parked;"
            self.is_quoted(statement)
            rows = outbox.execute(statement).fetchall()
        self.assertEqual(len(rows), 2)
        self.assertIn("code 13", rows[0][1])

    async def test_lag(self) -> None:
        """imbusiness waits for its database: what it has not stored is counted at the broker."""
        business = await self.up()
        await self.write(sent(1))
        await self.holds([1])
        with closing(sqlite3.connect(self.folder / "business.db", isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            await self.write(*(sent(number) for number in range(2, 30)))
            await self.is_shown("events wait for the database: <why>", business)
            await self.is_shown('{"ready":true,"degraded":["database"]}', business, "/ready")
            await self.is_shown('imconnect_consumer_lag{queue="<queue>"} <count>', business, "/metrics")
            await self.lags(business, 28)
            db.execute("ROLLBACK")
        await self.holds(range(1, 30))
        await self.is_shown("the database takes events again", business)
        await self.lags(business, 0)

    async def lags(self, business: BusinessProcess, count: int) -> None:
        """Until it is so many events behind, over all queues."""

        async def it_does() -> bool:
            return sum((await business.stats())["lag"].values()) == count

        await self.until(it_does, f"{count} events are not in the database yet", 30)

    async def test_no_gateway(self) -> None:
        """imbusiness has nobody to tell; what it has to store it stores."""
        business = await self.up(business__gateways=f"[{HOST}:{free_port()}]")
        await self.is_shown("gateway <address> cannot be told: <why>", business)
        await self.is_shown('{"ready":true,"degraded":["gateways"]}', business, "/ready")
        await self.write(sent(1))
        await self.holds([1])

    async def test_script(self) -> None:
        """What lies in the topic: the guide's script, as it stands, in both languages."""
        await self.write(sent(1))
        for guide in GUIDES:
            code = guide.read_text().split("```python\n", 1)[1].split("```", 1)[0]
            code = code.replace("127.0.0.1:9876", self.broker.namesrv).replace('"XZLL_C2CMSG_TOPIC"', f'"{self.topic}"')
            outcome = await self.outcome([sys.executable, "-c", code])
            self.assertEqual(outcome.err, "")
            self.assertRegex(outcome.out, r'^\d C2C_SEND 1 {"clusterEventType":"C2C_SEND_MSG","data":"{.*}"}\n$')


class AccessTests(Shown):
    """A broker that asks who is there."""

    timeout = 300.0
    skip = getattr(ImbusinessTestCase, "skip", None)

    async def guarded(self) -> DevBroker:
        """It lets in `admin`, who signs with `s3cret`."""
        broker = DevBroker(self.folder / "store", properties=GUARDED)
        self.addCleanup(deferToThread, broker.kill9)
        return await deferToThread(broker.start, create_topic=False)

    async def test_wrong_key(self) -> None:
        """Nothing is sent and nothing is lost; with the right one everything is."""
        broker = await self.guarded()
        account = {"rocketmq__topic": "Guarded", "rocketmq__access_key": "admin"}
        wrong = await self.up_with(broker.namesrv, **account, rocketmq__secret_key="wrong")
        ann = await self.online(wrong, 1001)
        await ann.send(1002, "safe on disk")
        await self.is_shown("topic <topic> does not exist and could not be created: code 16: <why>", wrong, "/stats")
        await self.is_shown('{"ready":true,"degraded":["queue"]}', wrong, "/ready")
        await ann.leave()
        await wrong.stop()
        right = await self.up_with(broker.namesrv, **account, rocketmq__secret_key="s3cret")
        await self.relayed(right, 2)
        self.assertNotIn("s3cret", right.output() + wrong.output())


class GuideTests(TestCase):
    """What the guide refers to."""

    def test_tests(self) -> None:
        """Every test that it names is there; both languages name the same ones, and quote the same things."""
        named = []
        for guide in GUIDES:
            names = re.findall(r"`(tests\.[\w.]+\.[A-Z]\w+\.test_\w+)`", guide.read_text())
            for name in names:
                self.assertTrue(callable(namedAny(name)), name)
            named.append(sorted(names))
        self.assertEqual(named[0], named[1])
        self.assertGreater(len(named[0]), 20)

    def test_gap_analysis(self) -> None:
        """The modules that docs/FEATURE_GAP_ANALYSIS.md refers to are there."""
        text = (ROOT / "docs" / "FEATURE_GAP_ANALYSIS.md").read_text()
        modules = {name for cell in re.findall(r"`([\w.]+)`", text) for name in re.findall(r"^\w+\.test_\w+$", cell)}
        files = set(re.findall(r"`([\w/]+\.py)`", text))
        self.assertGreater(len(modules), 15)
        for module in modules:
            namedAny(f"tests.{module}")
        for file in files:
            self.assertTrue((ROOT / "imconnect" / file).exists() or (ROOT / file).exists(), file)

    def test_commands(self) -> None:
        """Both languages give the same commands."""
        blocks = [re.findall(r"```\w*\n(.*?)```", guide.read_text(), re.DOTALL) for guide in GUIDES]
        stripped = [[re.sub(r"\s*#.*", "", block) for block in each] for each in blocks]
        self.assertEqual(stripped[0], stripped[1])
