"""People chat, and every row and every event of it is looked at: gateway, a real RocketMQ, business, a real MariaDB.

Skipped where there is no Java or no MariaDB, except in CI.
"""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from imconnect.client import SendResult
from imconnect.events.dialect import java_queue
from imconnect.rocketmq.admin import Admin
from imconnect.wire.ids import chat_id
from tests.live.mariadb import server
from tests.live.people import Person
from tests.live.processes import BusinessProcess, GatewayProcess, free_port, until
from tests.live.test_imbusiness import QUEUES, ImbusinessTestCase

ANN, BEN, CARL, DAVE = 1001, 1002, 1003, 1004
TEXT = "Hallo Ben 😀👩‍👩‍👧‍👦 世界 \"quoted\" \\ back\u2028slash\n\t'; DROP TABLE im_session; --"


class Sending(NamedTuple):
    """A message that was sent in a story, and what became of it."""

    result: SendResult
    sender: int
    receiver: int
    text: str
    #: The types of its events in the topic, in their order.
    events: Sequence[str]
    status: int
    withdrawn: int = 0

    @property
    def msg_id(self) -> int:
        return self.result.msg_id

    @property
    def key(self) -> str:
        return str(uuid.UUID(bytes=self.result.client_msg_id))

    @property
    def chat(self) -> str:
        return chat_id(self.sender, self.receiver)


class EndToEndTestCase(ImbusinessTestCase):
    """A topic, a group and a database of its own per test."""

    async def setUp(self) -> None:
        await super().setUp()
        self.server = await deferToThread(server)
        self.name = f"e2e_{os.urandom(6).hex()}"
        self.url = self.server.url(self.name)

    async def made(self) -> None:
        """The database is there, without a table."""
        await deferToThread(self.server.create_database, self.name)

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        return await deferToThread(self.server.query, sql, self.name)

    def queued(self, **settings: Any) -> GatewayProcess:
        """A gateway whose queue is the real one, not started."""
        values: Mapping[str, Any] = {
            "rocketmq.server_addr": self.broker.namesrv,
            "rocketmq.topic": self.topic,
            "rocketmq.consumer.group_name": f"G{self.topic}",
            "business.database": self.url,
            "data_dir": self.folder / f"var-{len(self.processes)}",
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        return self.gateway(values)

    async def degraded(self, gateway: GatewayProcess, *words: str, within: float = 20.0) -> None:
        """Until `/ready` says 200 and just this."""
        wanted = {"ready": True, "degraded": list(words)}

        async def said() -> bool:
            answer = await gateway.get("/ready")
            return answer.code == 200 and json.loads(answer.body) == wanted

        await until(self.reactor, said, f"/ready of {gateway.name} says {words}", within)

    async def becomes(self, sql: str, wanted: Sequence[tuple[Any, ...]], within: float = 20.0) -> None:
        """Until a query answers this."""
        seen: list[Any] = []

        async def same() -> bool:
            seen[:] = await self.query(sql)
            return seen == list(wanted)

        await until(self.reactor, same, lambda: f"{sql} gives {wanted}, not {seen}", within)

    async def story(self, gateway: GatewayProcess) -> list[Sending]:
        """Read, taken back, fetched at a later login, never fetched; with everything that people see of it."""
        ann, ben = await self.online(gateway, ANN), await self.online(gateway, BEN)
        read = await ann.send(BEN, TEXT)
        await ben.has(TEXT)
        await ann.told(read.msg_id, 3)
        ben.client.read(read.msg_id)
        await ann.told(read.msg_id, 4)
        back = await ann.send(BEN, "taken back")
        await ann.told(back.msg_id, 3)
        await ann.client.withdraw(back.msg_id, BEN)
        for person in (ann, ben):
            await person.wait_for(lambda: person.withdrawn == [(back.msg_id, ANN)], "for the notice")  # noqa: B023
        later = await ann.send(CARL, "für später 🎉")
        never = await ben.send(DAVE, "never fetched")
        await self.becomes(
            f"SELECT user_id, msg_id FROM im_offline_message WHERE user_id IN ({CARL}, {DAVE}) ORDER BY user_id",
            [(CARL, later.msg_id), (DAVE, never.msg_id)],
        )
        carl = await self.online(gateway, CARL)
        await carl.has("für später 🎉")
        await ann.told(later.msg_id, 3)
        self.assertEqual((ben.texts, carl.texts), ([TEXT, "taken back"], ["für später 🎉"]))
        self.assertEqual(ann.receipts, [(read.msg_id, 3), (read.msg_id, 4), (back.msg_id, 3), (later.msg_id, 3)])
        for person in (ann, ben, carl):
            await person.leave()
        send, ack, offline = "C2C_SEND_MSG", "C2C_CLIENT_RECEIVED_ACK", "C2C_OFF_LINE_MSG"
        return [
            Sending(read, ANN, BEN, TEXT, [send, ack, ack], 4),
            Sending(back, ANN, BEN, "taken back", [send, ack, "C2C_WITHDRAW_MSG"], 3, 1),
            Sending(later, ANN, CARL, "für später 🎉", [send, offline, ack], 3),
            Sending(never, BEN, DAVE, "never fetched", [send, offline], 2),
        ]

    async def events(self) -> dict[int, list[tuple[int, str, dict[str, Any]]]]:
        """msgId -> (queue, clusterEventType, data) of its events as they lie in the topic, by an independent pull."""
        found: dict[int, list[tuple[int, str, dict[str, Any]]]] = {}
        tags = {
            "C2C_SEND_MSG": "C2C_SEND",
            "C2C_OFF_LINE_MSG": "C2C_OFFLINE",
            "C2C_CLIENT_RECEIVED_ACK": "C2C_ACK",
            "C2C_WITHDRAW_MSG": "C2C_WITHDRAW",
        }
        unique: set[str] = set()
        admin = Admin(self.client)
        for queue in self.queues:
            for message in await admin.read_all(queue):
                envelope = json.loads(message.body)
                self.assertEqual(list(envelope), ["clusterEventType", "data"])
                self.assertIsInstance(envelope["data"], str)
                kind, data = envelope["clusterEventType"], json.loads(envelope["data"])
                self.assertEqual((message.tags, message.keys), (tags[kind], data["msgId"]))
                self.assertNotIn("RECEIPT", message.properties)
                self.assertNotIn(message.unique_id, ("", *unique))
                unique.add(message.unique_id)
                found.setdefault(int(data["msgId"]), []).append((queue.number, kind, data))
        return found

    async def events_are_right(self, told: Sequence[Sending], began: int) -> dict[int, int]:
        """All events of these messages and no others, field by field; -> when each message was accepted."""
        found, created = await self.events(), dict[int, int]()
        self.assertEqual(set(found), {sending.msg_id for sending in told})
        for it in told:
            self.assertEqual([kind for _, kind, _ in found[it.msg_id]], it.events)
            # One queue per chat, chosen as Java's producer does.
            self.assertEqual({queue for queue, _, _ in found[it.msg_id]}, {java_queue(it.chat, QUEUES)})
            created[it.msg_id] = at = found[it.msg_id][0][2]["msgCreateTime"]
            self.assertTrue(began <= at <= time.time_ns() // 1_000_000, at)
            statuses = iter((3, 4))
            for _, kind, data in found[it.msg_id]:
                about = {"msgId": str(it.msg_id), "chatId": it.chat}
                mine = {**about, "fromUserId": str(it.sender), "toUserId": str(it.receiver)}
                content = {**mine, "clientMsgId": it.key, "msgContent": it.text, "msgFormat": 1, "msgCreateTime": at}
                if kind == "C2C_CLIENT_RECEIVED_ACK":
                    acked = data.pop("ackTime")
                    self.assertTrue(at <= acked <= at + 60_000, acked)
                    theirs = {**about, "fromUserId": str(it.receiver), "toUserId": str(it.sender)}
                    more = {"clientMsgId": it.key, "msgStatus": next(statuses), "msgIds": [str(it.msg_id)]}
                    self.assertEqual(data, {**theirs, **more})
                elif kind == "C2C_WITHDRAW_MSG":
                    self.assertEqual(data, {**mine, "withdrawFlag": 1})
                else:
                    self.assertEqual(data, content if kind == "C2C_SEND_MSG" else {**content, "msgStatus": 1})
        return created

    async def rows_are_right(self, told: Sequence[Sending], created: Mapping[int, int]) -> None:
        """Every row of every table, field by field."""
        read, back, later, never = told
        rows = [
            (it.msg_id, it.key, it.sender, it.receiver, it.chat, it.text, 1, it.status, it.withdrawn, created[it.msg_id])
            for it in told
        ]
        await self.becomes(
            "SELECT msg_id, client_msg_id, from_id, to_id, chat_id, content, msg_format, msg_status, withdraw_flag, "
            "msg_create_time FROM im_c2c_message ORDER BY msg_id",
            rows,
        )
        self.assertEqual(read.chat, back.chat)
        sessions = [
            (user, it.chat, it.sender + it.receiver - user, it.msg_id, created[it.msg_id], unread)
            for user, it, unread in (
                (ANN, back, 0), (ANN, later, 0), (BEN, back, 0), (BEN, never, 0), (CARL, later, 1), (DAVE, never, 1),
            )
        ]  # fmt: skip
        await self.becomes(
            "SELECT user_id, chat_id, peer_id, last_msg_id, last_msg_time, unread_count FROM im_session",
            sorted(sessions),
        )
        await self.becomes(
            "SELECT user_id, msg_id, create_time FROM im_offline_message", [(DAVE, never.msg_id, created[never.msg_id])]
        )
        await self.becomes("SELECT user_id, msg_id, from_id FROM im_withdraw_notice", [(BEN, back.msg_id, ANN)])
        for table in ("im_event_early", "im_event_parked"):
            self.assertEqual(await self.query(f"SELECT * FROM {table}"), [])

    async def is_clean(self, *processes: BusinessProcess | GatewayProcess) -> None:
        """They end as they should, and what they said holds no traceback and nothing of what people wrote."""
        for process in processes:
            process.signal(signal.SIGTERM)
        for process in processes:
            self.assertEqual((await process.wait(), process.errors()), (-15, ""))
            self.assertNotIn("Traceback", process.output())
            self.assertNotIn("never fetched", process.output())


class BusinessElsewhereTests(EndToEndTestCase):
    """`business.mode: off`: the gateway only writes to the topic."""

    async def both(self, count: int = 1, **settings: Any) -> tuple[GatewayProcess, list[BusinessProcess]]:
        """A gateway and so many imbusiness that tell it things, ready."""
        await self.made()
        port = free_port()
        gateway = self.queued(business__mode="off", grpc__port=port, **settings)
        businesses = [self.business(business__gateways=f"[127.0.0.1:{port}]") for _ in range(count)]
        for process in (gateway, *businesses):
            process.spawn()
        for process in (gateway, *businesses):
            await until(self.reactor, process.is_ready, lambda: f"ready: {process.tail()}", 30)  # noqa: B023
        for business in businesses:
            await self.owns(business, QUEUES // count)
        return gateway, businesses

    async def test_a_chat(self) -> None:
        """Two people and one who comes later: what they see, every event in the topic, every row in the database."""
        gateway, businesses = await self.both()
        began = time.time_ns() // 1_000_000
        told = await self.story(gateway)
        created = await self.events_are_right(told, began)
        await self.rows_are_right(told, created)
        await self.degraded(gateway)
        await self.is_clean(gateway, *businesses)

    async def test_one_of_two_is_killed(self) -> None:
        """kill -9 of one imbusiness while people chat, and again: nothing is lost, nothing is there twice."""
        gateway, (one, two) = await self.both(2)
        senders = [await self.online(gateway, 2000 + number) for number in range(8)]
        ben = await self.online(gateway, BEN)
        sending = gatherResults([Deferred.fromCoroutine(self.talks(sender, 60)) for sender in senders])
        for victim in (one, two):

            async def working(least: int = 100 if victim is one else 250) -> bool:
                ((count,),) = await self.query("SELECT count(*) FROM im_c2c_message")
                return bool(count >= least)

            await until(self.reactor, working, "the work goes on", 30)
            await victim.kill9()
            await victim.start()
        await sending
        texts = sorted(f"{sender.user} {number}" for sender in senders for number in range(60))
        await ben.has(*texts, within=30)
        self.assertEqual(sorted(ben.texts), texts)
        pushed = [push.msg_id for _, push in ben.pushes]
        self.assertEqual(len(pushed), len(set(pushed)))
        rows = sorted((f"{sender.user} {number}", 3) for sender in senders for number in range(60))
        await self.becomes("SELECT content, msg_status FROM im_c2c_message ORDER BY content", rows, within=60)
        unread = sorted((chat_id(sender.user, BEN), 60) for sender in senders)
        await self.becomes(f"SELECT chat_id, unread_count FROM im_session WHERE user_id={BEN} ORDER BY chat_id", unread)
        for table in ("im_offline_message", "im_event_parked"):
            self.assertEqual(await self.query(f"SELECT * FROM {table}"), [])

    async def talks(self, sender: Person, count: int) -> None:
        for number in range(count):
            await sender.send(BEN, f"{sender.user} {number}", within=20)


class ConsumingGatewayTests(EndToEndTestCase):
    """`business.mode: embedded` with a broker: the gateway is a member of the consumer group itself."""

    async def test_a_chat(self) -> None:
        """It starts while there is no database; then the same chat, the same events and the same rows; it is alone."""
        gateway = self.queued()
        await gateway.start()
        await self.degraded(gateway, "database")
        self.assertEqual((await self.stats(gateway))["queues"], [])
        await self.made()
        await self.degraded(gateway)
        await self.owns(gateway, QUEUES)
        began = time.time_ns() // 1_000_000
        told = await self.story(gateway)
        created = await self.events_are_right(told, began)
        await self.rows_are_right(told, created)
        page = (await gateway.get("/metrics")).body
        for line in (f"imconnect_consumer_queues {QUEUES}.0", "imconnect_business_events 11.0"):
            self.assertIn(line, page)
        stats = await self.stats(gateway)
        self.assertEqual((stats["business"]["events"], stats["relay"]["sent"], stats["parked_rows"]), (11, 11, 0))
        self.assertEqual(stats["lag"], dict.fromkeys(map(str, self.queues), 0))
        await self.is_clean(gateway)

    async def test_two_share_the_group(self) -> None:
        """Half of the queues each; one dies and is back under its name at once; one leaves and the other has all."""
        await self.made()
        one, two = self.queued(), self.queued(node__id=2)
        for gateway in (one, two):
            await gateway.start()
        for gateway in (one, two):
            await self.owns(gateway, QUEUES // 2)
        names = [(await self.stats(gateway))["client_id"] for gateway in (one, two)]
        self.assertEqual([name.partition("@")[2] for name in names],
                         [f"imconnect-{gateway.http_port}" for gateway in (one, two)])  # fmt: skip
        ann = await self.online(one, ANN)
        before = [await ann.send(3000 + number, f"before {number}") for number in range(20)]
        await two.kill9()
        after = [await ann.send(3000 + number, f"after {number}") for number in range(20)]
        await two.start()
        ids = sorted(result.msg_id for result in (*before, *after))
        await self.becomes("SELECT msg_id FROM im_c2c_message ORDER BY msg_id", [(each,) for each in ids], within=40)
        self.assertEqual((await self.stats(two))["client_id"], names[1])
        await self.is_clean(two)
        await self.owns(one, QUEUES, within=15)
        self.assertEqual(await self.query("SELECT * FROM im_event_parked"), [])

    async def stats(self, gateway: GatewayProcess) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await gateway.get("/stats")).body)
        return found


class DatabaseElsewhereTests(EndToEndTestCase):
    """The embedded queue with a database server."""

    async def test_away_at_the_start(self) -> None:
        """Clients are served, also by a start that finds events in its log, and all of it is stored afterwards."""
        gateway = self.gateway({"business.database": self.url})
        await gateway.start()
        await self.degraded(gateway, "database")
        ann, ben = await self.online(gateway, ANN), await self.online(gateway, BEN)
        first = await ann.send(BEN, TEXT)
        await ben.has(TEXT)
        await ann.told(first.msg_id, 3)
        second = await ann.send(CARL, "für später 🎉")
        await gateway.kill9()
        await gateway.start()
        self.assertIn("starting with", gateway.output())
        self.assertEqual((await gateway.get("/ready")).code, 200)
        await self.made()
        await self.has_tables()
        await self.becomes(
            "SELECT msg_id, content, msg_status FROM im_c2c_message ORDER BY msg_id",
            [(first.msg_id, TEXT, 3), (second.msg_id, "für später 🎉", 2)],
        )
        carl = await self.online(gateway, CARL)
        await carl.has("für später 🎉")
        await self.degraded(gateway)

    async def test_the_schema_of_another_version(self) -> None:
        """Business does not start, and says so; clients are served all the same; it goes on without a hand."""
        await self.made()
        gateway = self.gateway({"business.database": self.url})
        await gateway.start()
        ((version,),) = await self.query("SELECT version_num FROM im_schema")
        await gateway.stop()
        await self.query("UPDATE im_schema SET version_num='9999'")
        await gateway.start()
        await self.degraded(gateway, "database")
        self.assertIn("business.database: the database has schema 9999", gateway.output())
        ann = await self.online(gateway, ANN)
        sent = await ann.send(CARL, "kept")
        self.assertEqual(await self.query("SELECT * FROM im_c2c_message"), [])
        await self.query(f"UPDATE im_schema SET version_num='{version}'")
        await self.becomes("SELECT msg_id, content FROM im_c2c_message", [(sent.msg_id, "kept")])

    async def has_tables(self) -> None:
        """Once business has made them."""

        async def there() -> bool:
            return bool(await self.query("SHOW TABLES LIKE 'im_withdraw_notice'"))

        await until(self.reactor, there, "the tables are there", 20)
