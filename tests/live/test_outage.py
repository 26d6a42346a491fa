"""The broker is away: at the start, in the middle, again and again. Nothing acknowledged is lost, doubled or reordered.

Skipped where there is no Java, except in CI. Hours of it are played in fake time: tests.core.test_relay, test_gate.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from imconnect.client import SendResult
from imconnect.rocketmq.admin import Admin
from tests.live.people import Person
from tests.live.processes import GatewayProcess, until
from tests.live.test_imbusiness import QUEUES, ImbusinessTestCase
from tests.servers.private import CannotRun

ANN, BEN, CARL = 1001, 1002, 1003


class OutageTestCase(ImbusinessTestCase):
    """A gateway that consumes too: one process beside the broker."""

    def setUp(self) -> Any:
        ready = Deferred.fromCoroutine(super().setUp())
        return ready.addCallback(lambda _: self.addCleanup(self.recover))

    def recover(self) -> Deferred[Any]:
        """The broker is everybody's: whatever a test was in the middle of, the next one finds it running."""
        return deferToThread(self._recover)

    def _recover(self) -> None:
        try:
            self.broker.resume()
        except CannotRun:
            self.broker.start()

    def queued(self, **settings: Any) -> GatewayProcess:
        """Not started."""
        return self.gateway(
            {
                "rocketmq.server_addr": self.broker.namesrv,
                "rocketmq.topic": self.topic,
                # A broker that is killed in the seconds after has forgotten the topic.
                "rocketmq.queues": QUEUES,
                "rocketmq.consumer.group_name": f"G{self.topic}",
                "rocketmq.producer.send_timeout": 1,
                "business.database": self.url,
                "retry.delays": "[600]",
                **{name.replace("__", "."): value for name, value in settings.items()},
            }
        )

    async def stats(self, gateway: GatewayProcess) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await gateway.get("/stats")).body)
        return found

    async def metric(self, gateway: GatewayProcess, name: str) -> float:
        """The sum of its lines."""
        lines = (await gateway.get("/metrics")).body.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    async def is_ready(self, gateway: GatewayProcess) -> None:
        await until(self.reactor, gateway.is_ready, "sends are taken again", 60)

    async def drained(self, gateway: GatewayProcess) -> None:
        async def empty() -> bool:
            return bool((await self.stats(gateway))["outbox"]["events"] == 0)

        await until(self.reactor, empty, "the broker has everything", 60)

    async def sent_in_order(self, results: Sequence[SendResult]) -> None:
        """In the topic these messages of one chat are in one queue, in the order of their sending. A request whose answer
        was late is there twice; the first copies count, for business takes those."""
        admin = Admin(self.client)
        ids = [str(result.msg_id) for result in results]
        keys: list[list[str]] = []

        async def found() -> bool:
            queues = [await admin.read_all(queue) for queue in self.queues]
            keys[:] = [
                list(dict.fromkeys(one.keys for one in queue if one.tags == "C2C_SEND" and one.keys in ids))
                for queue in queues
            ]
            return sorted(map(len, keys)) == [0] * (len(keys) - 1) + [len(ids)] and ids in keys

        await until(self.reactor, found, lambda: f"the topic has {ids} in order, not {keys}", 20)


class OutageTests(OutageTestCase):
    async def test_away_at_the_start_until_the_outbox_is_full_and_back(self) -> None:
        """People chat as ever; at the bound sends are refused, and a metric says so; then everything flows."""
        await deferToThread(self.broker.kill9)
        gateway = self.queued(outbox__max_events=30)
        await gateway.start()
        ann, ben = await self.online(gateway, ANN), await self.online(gateway, BEN, auto_ack=False)
        sent = [await ann.send(BEN, f"line {number}") for number in range(30)]
        await ben.has("line 29")
        self.assertEqual((await self.refusal(ann.send(BEN, "too many"))).code, 503)
        self.assertEqual(await self.metric(gateway, "imconnect_sends_refused_total"), 1)
        ready = await gateway.get("/ready")
        self.assertEqual((ready.code, json.loads(ready.body)["reason"]), (503, "the outbox is full, sends are refused"))
        self.assertGreater((await self.stats(gateway))["outbox"]["oldest_seconds"], 0)
        await deferToThread(self.broker.restart)
        await self.is_ready(gateway)
        sent.append(await ann.send(BEN, "room again"))
        await self.drained(gateway)
        await self.sent_in_order(sent)
        await self.holds([result.msg_id for result in sent])
        self.assertEqual(ben.texts, [f"line {number}" for number in range(30)] + ["room again"])
        self.assertNotIn("Traceback", gateway.output())

    async def test_flapping(self) -> None:
        """It stands still and goes on, again and again, while people chat."""
        gateway = self.queued()
        await gateway.start()
        ann, ben = await self.online(gateway, ANN), await self.online(gateway, BEN)
        sent: list[SendResult] = []
        for _ in range(3):
            self.broker.pause()
            sent += [await ann.send(BEN, f"line {len(sent) + number}") for number in range(20)]
            await deferLater(self.reactor, 1.2)
            self.broker.resume()
            sent += [await ann.send(BEN, f"line {len(sent) + number}") for number in range(20)]
            await deferLater(self.reactor, 0.5)
        self.assertEqual(ben.texts, [f"line {number}" for number in range(120)])
        await self.drained(gateway)
        # What was in flight when it stood still may be there twice; business takes the first.
        await self.holds([result.msg_id for result in sent])
        self.assertEqual(await self.query("SELECT count(*) FROM im_event_parked"), [(0,)])

    async def test_live_chat_while_a_backlog_drains(self) -> None:
        """Deliveries go on, and at most one request per queue is in flight."""
        gateway = self.queued()
        await gateway.start()
        ann, ben = await self.online(gateway, ANN), await self.online(gateway, BEN)
        await ann.send(BEN, "hello")
        self.broker.pause()
        backlog = 4000
        for first in range(0, backlog, 500):
            sends = [ann.client.send(CARL, f"{number}") for number in range(first, first + 500)]
            await gatherResults(sends).addTimeout(60, self.reactor)
        self.broker.resume()
        meanwhile = 0
        for number in range(10_000):
            await self.says(ann, ben, f"live {number}")
            self.assertLessEqual(await self.metric(gateway, "imconnect_mq_in_flight"), len(self.queues))
            left = (await self.stats(gateway))["outbox"]["events"]
            if left < backlog:
                break
            meanwhile += 1
        self.assertGreater(meanwhile, 0)
        await self.drained(gateway)
        await until(self.reactor, lambda: self.has_rows(backlog + number + 2), "everything is stored", 60)

    async def has_rows(self, count: int) -> bool:
        return await self.query("SELECT count(*) FROM im_c2c_message") == [(count,)]

    async def says(self, sender: Person, receiver: Person, text: str) -> None:
        await sender.send(receiver.user, text)
        await receiver.wait_for(lambda: receiver.texts[-1:] == [text], f"for {text}")


class AckAfterBrokerTests(OutageTestCase):
    """`outbox.ack_after: broker`."""

    async def test_killed_broker_and_killed_gateway(self) -> None:
        """What was committed is answered when the broker is back, also by the next process; what was not is refused at
        the door; each is stored and shown once."""
        gateway = self.queued(outbox__ack_after="broker")
        await gateway.start()
        ann, ben = await self.online(gateway, ANN), await self.online(gateway, BEN)
        before = await ann.send(BEN, "before")
        await ann.told(before.msg_id, 3)
        await self.drained(gateway)
        await deferToThread(self.broker.kill9)
        committed = ann.client.send(BEN, "committed")

        async def refusing() -> bool:
            return "broker takes no events" in (await gateway.get("/ready")).body

        await until(self.reactor, refusing, "sends are refused", 20)
        self.assertEqual((await self.refusal(ann.send(BEN, "refused"))).code, 503)
        await gateway.kill9()
        await gateway.start()
        await ann.wait_for(lambda: ann.connections == 2, "signed in again")
        await deferLater(self.reactor, 1.0)
        self.assertFalse(committed.called)
        self.assertEqual(ben.texts, ["before"])
        await deferToThread(self.broker.restart)
        result: SendResult = await self.in_time(committed)
        await ben.has("committed", within=60)
        await self.is_ready(gateway)
        again = await ann.send(BEN, "refused", within=60)
        await ben.has("refused", within=60)
        self.assertEqual(ben.texts, ["before", "committed", "refused"])
        await self.holds([before.msg_id, result.msg_id, again.msg_id])
        await self.sent_in_order([before, result, again])
        self.assertNotIn("Traceback", gateway.output())

    async def in_time(self, deferred: Deferred[Any]) -> Any:
        return await deferred.addTimeout(60, self.reactor)
