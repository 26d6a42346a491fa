"""The log of a gateway that does not come back, brought to the database for real; and to a queue that is away."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.threads import deferToThread

from imconnect.backends import outbox_drained, outbox_parked, outbox_schema
from imconnect.backends.datadir import DataDir
from imconnect.backends.redis_calls import RedisCalls
from imconnect.backends.sent_redis import RedisSentIndex
from imconnect.config import Config
from imconnect.config.tree import Business, Redis, Rocketmq
from imconnect.errors import ConfigError, Damaged, Unavailable
from imconnect.events.records import pack
from imconnect.events.values import Acknowledged, Event, Sent
from imconnect.model import Message
from imconnect.tap.clock import now_ms
from imconnect.tap.draining import Drained, drain_outbox
from tests.live.redis import server
from tests.support import ReactorTestCase

ANN, BEN = 1001, 1002


def message(number: int) -> Message:
    return Message(number, bytes([number]) * 16, ANN, BEN, 1, f"text {number}", 1, 1_764_000_000_000)


class DrainTests(ReactorTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = str(self.folder / "outbox.db")
        outbox_schema.create(self.path)
        self.config = Config(data_dir=str(self.folder))

    def left(self, *events: Event) -> None:
        """What a killed gateway has in its log."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute("INSERT INTO outbox_batch VALUES (1, ?, 0, ?)", (len(events), pack(events)))

    async def drained(self, config: Config | None = None, patience: float = 10.0) -> Drained:
        from twisted.internet import reactor

        folder = DataDir(str(self.folder))
        try:
            return await drain_outbox(reactor, config or self.config, folder, patience)
        finally:
            folder.release()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "business.db")) as db:
            return db.execute(sql).fetchall()

    async def test_everything_is_relayed(self) -> None:
        """What had not ended is owed to its receiver; the log says no to every later start, in one line."""
        self.left(Sent(message(1)), Sent(message(2)), Acknowledged(1, b"\1" * 16, ANN, BEN, 3, 1_764_000_000_001))
        outbox_drained.refuse(self.path)
        self.assertEqual(await self.drained(), Drained(4, 1, 0))
        self.assertEqual(self.query("SELECT msg_id, msg_status FROM im_c2c_message ORDER BY msg_id"), [(1, 3), (2, 2)])
        self.assertEqual(self.query("SELECT user_id, msg_id FROM im_offline_message"), [(BEN, 2)])
        error = self.assertRaises(ConfigError, outbox_drained.refuse, self.path)
        self.assertEqual(error.key, "data_dir")
        self.assertIn("`imconnect outbox drain`", str(error))
        self.assertNotIn("\n", str(error))

    async def test_what_ended_elsewhere(self) -> None:
        """A message that its receiver acknowledged on another node is not turned offline: Redis knows."""
        from twisted.internet import reactor

        threads: Any = reactor
        redis = await deferToThread(server)
        with redis.client() as client:
            client.flushall()
        calls = RedisCalls(threads, redis.url(), "test", 5.0)
        calls.start()
        await RedisSentIndex(calls, 60.0, now_ms).settle([], [(BEN, 1)])
        await calls.stop()
        self.left(Sent(message(1)), Sent(message(2)))
        database = f"sqlite:///{self.folder}/business.db"
        several = attrs.evolve(self.config, redis=Redis(url=redis.url()), business=Business(database=database))
        self.assertEqual(await self.drained(several), Drained(3, 1, 0))
        self.assertEqual(self.query("SELECT msg_id, msg_status FROM im_c2c_message ORDER BY msg_id"), [(1, 1), (2, 2)])

    async def test_again(self) -> None:
        """A second time there is nothing to do; what was parked and sent again meanwhile is."""
        self.left(Sent(message(1)))
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute("INSERT INTO outbox_parked VALUES (7, 0, 'too large', ?)", (pack([Sent(message(7))]),))
        self.assertEqual(await self.drained(), Drained(2, 1, 1))
        self.assertEqual(await self.drained(), Drained(0, 0, 1))
        outbox_parked.replay(self.path, {7}, lambda: 1)
        self.assertEqual(await self.drained(), Drained(2, 1, 0))
        self.assertEqual(self.query("SELECT msg_id FROM im_c2c_message ORDER BY msg_id"), [(1,), (7,)])

    async def test_a_queue_that_is_away(self) -> None:
        """Is given up after a while: everything is in the log still, which is not marked."""
        self.left(Sent(message(1)))
        queue = Rocketmq(server_addr="127.0.0.1:1")
        away = attrs.evolve(
            self.config, rocketmq=queue, business=Business(mode="off", database="mysql+pymysql://db/im")
        )
        with self.assertRaises(Unavailable) as raised:
            await self.drained(away, 0.3)
        self.assertIn("2 events are in the outbox still: ", str(raised.exception))
        outbox_drained.refuse(self.path)
        # The message was turned offline the first time, and not once more.
        self.assertEqual(await self.drained(), Drained(2, 0, 0))

    async def test_a_damaged_log(self) -> None:
        """Is left as it is."""
        self.left(Sent(message(1)))
        spoiled = Path(self.path).read_bytes().replace(b"text 1", b"text X")
        Path(self.path).write_bytes(spoiled)
        with self.assertRaises(Damaged):
            await self.drained()
        self.assertEqual(Path(self.path).read_bytes(), spoiled)
        outbox_drained.refuse(self.path)
