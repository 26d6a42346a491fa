"""Several gateways, real processes on a real Redis: people talk as if there were one.

Skipped where there is no Redis, except in CI.
"""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from imconnect.wire.client_codec import Pushed
from tests.live.case import LiveTestCase
from tests.live.processes import GatewayProcess, free_port
from tests.live.redis import server
from tests.servers.redis import RedisServer

ANN, BEN, CARL = 1001, 1002, 1003


class NodesTestCase(LiveTestCase):
    """Nodes with one database and one Redis; each has its embedded queue."""

    async def setUp(self) -> None:
        super().setUp()
        self.redis = await deferToThread(server)
        with self.redis.client() as client:
            client.flushall()

    def node(self, number: int, **settings: Any) -> GatewayProcess:
        """A gateway, not started."""
        values = {
            "node.id": number,
            "data_dir": self.folder / f"var-{number}",
            "business.database": f"sqlite:///{self.folder}/business.db",
            "redis.url": self.redis.url(),
            "grpc.port": free_port(),
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        return self.gateway(values, name=f"node-{number}")

    async def pair(self, **settings: Any) -> tuple[GatewayProcess, GatewayProcess]:
        one, two = self.node(1, **settings), self.node(2, **settings)
        await one.start()
        await two.start()
        return one, two

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.folder}/business.db?mode=ro", uri=True, timeout=5)) as db:
            return db.execute(sql).fetchall()

    async def degraded(self, node: GatewayProcess, *words: str, within: float = 15.0) -> None:
        async def said() -> bool:
            answer = await node.get("/ready")
            return answer.code == 200 and json.loads(answer.body)["degraded"] == list(words)

        await self.until(said, f"/ready of {node.name} says {words}", within)

    async def pushes(self, node: GatewayProcess, kind: str) -> float:
        """The counter of pushes of this kind."""
        body = (await node.get("/metrics")).body
        mark = f'imconnect_pushes_total{{kind="{kind}"}} '
        return next(float(line[len(mark) :]) for line in body.splitlines() if line.startswith(mark))


class TalkTests(NodesTestCase):
    async def test_two_people_on_two_nodes(self) -> None:
        """Messages, receipts and a withdrawal go both ways, live; every row is right and nothing went offline."""
        one, two = await self.pair()
        ann, ben = await self.online(one, ANN), await self.online(two, BEN)
        sent = await ann.send(BEN, "hello from one")
        await ben.has("hello from one")
        back = await ben.send(ANN, "hello from two")
        await ann.has("hello from two")
        await ann.told(sent.msg_id, 3)
        await ben.told(back.msg_id, 3)
        await ben.client.withdraw(back.msg_id, ANN)
        await ann.wait_for(lambda: (back.msg_id, BEN) in ann.withdrawn, "for the withdrawal")
        self.assertEqual((1, 1), (await self.pushes(one, "forwarded"), await self.pushes(two, "forwarded")))
        await self.until(
            lambda: self.query("SELECT msg_id, msg_status, withdraw_flag FROM im_c2c_message ORDER BY msg_id")
            == sorted([(sent.msg_id, 3, 0), (back.msg_id, 3, 1)]),
            "the rows are right",
        )
        self.assertEqual([], self.query("SELECT * FROM im_offline_message"))

    async def test_order_under_load(self) -> None:
        """A chat across nodes keeps its order."""
        one, two = await self.pair()
        ann, ben = await self.online(one, ANN), await self.online(two, BEN)
        texts = [f"m{number:04}" for number in range(500)]
        await gatherResults([ann.client.send(BEN, text) for text in texts])
        await ben.has(*texts)
        self.assertEqual(texts, ben.texts)
        self.assertEqual(len(texts), len(ben.pushes))

    async def test_a_repeat_through_another_node(self) -> None:
        """Somebody whose node died before he saw the answer sends again elsewhere: one message."""
        one, two = await self.pair()
        ann, ben = await self.online(one, ANN), await self.online(two, BEN)
        first = await ann.send(BEN, "once")
        await ben.has("once")
        moved = await self.online(two, ANN)
        again = await moved.send(BEN, "once", client_msg_id=first.client_msg_id)
        self.assertEqual(first.msg_id, again.msg_id)
        refused = await self.refusal(moved.send(BEN, "other", client_msg_id=first.client_msg_id))
        self.assertEqual(409, refused.code)
        self.assertEqual(1, len(ben.pushes))

    async def test_a_device_moves(self) -> None:
        """A new connection of the same device on another node replaces the old one."""
        one, two = await self.pair()
        old = await (await self.raw(one)).sign_in(BEN, headers="deviceId: phone\r\n")
        await (await self.raw(two)).sign_in(BEN, headers="deviceId: phone\r\n")
        self.assertEqual(4001, await old.until_gone())


class FaultTests(NodesTestCase):
    async def test_a_node_dies(self) -> None:
        """kill -9: what it had is on its disk, what is for its people waits, and nobody is told twice."""
        one, two = await self.pair()
        ann, ben = await self.online(one, ANN), await self.online(two, BEN)
        await ann.send(BEN, "before")
        await ben.has("before")
        await two.kill9()
        await gatherResults([ann.client.send(BEN, f"while {number}") for number in range(20)])
        there = await self.online(one, BEN)
        await there.has(*(f"while {number}" for number in range(20)))
        self.assertEqual([f"while {number}" for number in range(20)], [t for t in there.texts if t != "before"])
        await two.start()
        await ben.wait_for(lambda: ben.connections == 2, "to be back", within=30)
        # Until its peers have noticed that it is back, which takes them a moment, only his other connection gets it.
        sent = 0
        while not any(text.startswith("after") for text in ben.texts):
            self.assertLess(sent, 30)
            sent += 1
            await ann.send(BEN, f"after {sent}")
            await deferLater(self.reactor, 0.3)
        await there.has(*(f"after {number}" for number in range(1, sent + 1)))

    async def test_redis_dies_and_comes_back(self) -> None:
        """People of one node go on; those of another see it within the watch; after it is back they are found again."""
        own = RedisServer(Path(self.mktemp()))
        self.redis = own
        await deferToThread(own.start)
        self.addCleanup(own.kill9)
        one, two = await self.pair()
        ann, ben, carl = await self.online(one, ANN), await self.online(two, BEN), await self.online(one, CARL)
        await ann.send(BEN, "with")
        await ben.has("with")
        own.kill9()
        await ann.send(CARL, "local")
        await carl.has("local", within=5)
        await ann.send(BEN, "without")
        await ben.has("without", within=20)
        await self.degraded(one, "redis")
        await deferToThread(own.start)
        await self.degraded(one)
        await self.degraded(two)
        before = await self.pushes(two, "forwarded")
        await self.until(lambda: self._is_there(own, BEN), "presence is re-asserted", 10)
        await ann.send(BEN, "again")
        await ben.has("again")
        self.assertEqual(before + 1, await self.pushes(two, "forwarded"))
        self.assertEqual(["with", "without", "again"], ben.texts)

    def _is_there(self, redis: RedisServer, user: int) -> bool:
        with redis.client() as client:
            return bool(client.exists(f"imconnect:user:{user}"))

    async def test_redis_is_away_at_the_start(self) -> None:
        """A node starts alone and says so."""
        self.redis = RedisServer(Path(self.mktemp()))
        self.addCleanup(self.redis.kill9)
        one = self.node(1)
        await one.start()
        await self.degraded(one, "redis")
        ann, ben = await self.online(one, ANN), await self.online(one, BEN)
        await ann.send(BEN, "alone")
        await ben.has("alone")
        await deferToThread(self.redis.start)
        await self.degraded(one)

    async def test_the_same_node_id(self) -> None:
        """The second refuses to start in one line; after kill -9 the first one's next life starts at once."""
        one = self.node(1)
        await one.start()
        second = self.node(1, data_dir=self.folder / "elsewhere")
        second.spawn()
        self.assertEqual(1, await second.wait())
        self.assertIn("node.id", second.output() + second.errors())
        await one.kill9()
        await one.start()

    async def test_a_stranger_without_the_token(self) -> None:
        """Nodes with another token take nothing from each other; people still get everything, later."""
        one, two = self.node(1, grpc__token="right"), self.node(2, grpc__token="wrong")
        await one.start()
        await two.start()
        ann, ben = await self.online(one, ANN), await self.online(two, BEN)
        await ann.send(BEN, "later")
        await ben.has("later", within=20)
        self.assertEqual(0, await self.pushes(two, "forwarded"))
        self.assertIn("UNAUTHENTICATED", one.output() + one.errors())

    async def test_leaving_in_good_order(self) -> None:
        """SIGTERM: people are told to leave, their routes are gone, and what they had not acknowledged waits for them."""
        one, two = await self.pair(drain__rate=1000)
        ann = await self.online(one, ANN)
        ben = await self.raw(two, BEN)
        await ann.send(BEN, "not acknowledged")
        await ben.wait_for(lambda: ben.of(Pushed), "for the message")
        two.signal(signal.SIGTERM)
        await two.wait()
        there = await self.online(one, BEN)
        await there.has("not acknowledged")
        with self.redis.client() as client:
            self.assertEqual([b"1"], client.hkeys(f"imconnect:user:{BEN}"))
