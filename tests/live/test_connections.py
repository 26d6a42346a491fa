"""Connections that are replaced, too slow, too silent or too many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from imconnect.client import Replaced
from imconnect.wire.client_codec import Pushed
from tests.live.case import LiveTestCase
from tests.live.processes import GatewayProcess


class ConnectionTests(LiveTestCase):
    settings: ClassVar[Mapping[str, Any]] = {
        "limits.connections_per_user": 2, "limits.unacknowledged": 10, "retry.delays": "[600]",
    }  # fmt: skip

    async def stats(self, gateway: GatewayProcess) -> dict[str, int]:
        answer: dict[str, int] = json.loads((await gateway.get("/stats")).body)
        return answer

    async def sessions(self, gateway: GatewayProcess, count: int) -> None:
        """Until there are so many."""

        async def are() -> bool:
            return (await self.stats(gateway))["sessions"] == count

        await self.until(are, f"{count} sessions")

    async def test_same_device(self) -> None:
        """The newest wins, the older one is told 4001 and stays away; another device of the same user stays."""
        gateway = await self.shared()
        phone, desk = await self.online(gateway, 1101, device="phone"), await self.online(gateway, 1101, device="desk")
        ended: list[object] = []
        again = await self.online(gateway, 1101, device="phone")
        await phone.wait_for(lambda: phone.closes, "replaced")
        self.assertEqual(phone.closes[0].code, 4001)
        phone.client.send(1102, "too late").addBoth(ended.append)
        self.assertTrue(ended[0].check(Replaced))  # type: ignore[attr-defined]
        await again.send(1101, "note")
        await again.has("note")
        await desk.has("note")
        await self.sessions(gateway, 2)
        self.assertEqual(phone.messages, [])

    async def test_too_many_of_one_user(self) -> None:
        """Over the limit the oldest goes."""
        gateway = await self.shared()
        first, second, third = [await self.raw(gateway, 1001) for _ in range(3)]
        self.assertEqual(await first.until_gone(), 4001)
        await self.sessions(gateway, 2)
        self.assertFalse(second.gone or third.gone)

    async def test_too_many(self) -> None:
        """Over the node's limit: 503 with Retry-After; over an address's: 429. A place that is left is free again."""
        gateway = await self.started({"limits.connections": 2})
        first, _ = [await self.raw(gateway, user) for user in (1001, 1002)]
        third = await self.raw(gateway, 1003)
        await third.until_gone()
        self.assertEqual(third.code, 503)
        self.assertIn("retry-after:", third.head.lower())
        first.drop()
        await self.sessions(gateway, 1)
        self.assertEqual((await self.raw(gateway, 1003)).code, 101)
        per_ip = await self.started({"limits.connections_per_ip": 1, "data_dir": str(self.folder / "other")})
        await self.raw(per_ip, 1001)
        refused = await self.raw(per_ip, 1002)
        await refused.until_gone()
        self.assertEqual((refused.code, json.loads(refused.body)["code"]), (429, 429))

    async def test_slow_reader(self) -> None:
        """One that does not read is closed with 4003; what he missed comes at his next login, each once and in order;
        nobody else notices."""
        gateway = await self.started(
            {
                "limits.outgoing_bytes": 65536,
                "limits.unacknowledged": 5000,
                "rocketmq.producer.max_message_size": 60000,
            }
        )
        slow = await self.raw(gateway, 1002)
        slow.transport.pauseProducing()
        ann, carl = await self.online(gateway, 1001), await self.online(gateway, 1003)
        size = 30_000
        count = 400
        for number in range(count):
            await ann.send(1002, f"{number:04d}".ljust(size, "."), 30)
        await ann.send(1003, "and you?")
        await carl.has("and you?")
        await self.sessions(gateway, 2)
        slow.transport.resumeProducing()
        self.assertEqual(await slow.until_gone(), 4003)
        seen = [push.content[:4] for push in slow.of(Pushed)]
        self.assertEqual(seen, [f"{number:04d}" for number in range(len(seen))])
        self.assertLess(len(seen), count)
        bob = await self.online(gateway, 1002)
        await bob.wait_for(lambda: len(bob.messages) == count, "for everything", 40)
        self.assertEqual([text[:4] for text in bob.texts], [f"{number:04d}" for number in range(count)])
        self.assertEqual(len(bob.pushes), count)

    async def test_idle(self) -> None:
        """Silence, pings unanswered: 4004; one that answers pings stays."""
        gateway = await self.started({"limits.ping_interval": 0.3, "limits.idle_timeout": 1})
        dead = await self.raw(gateway, 1001, answers_pings=False)
        alive = await self.raw(gateway, 1002)
        began = self.reactor.seconds()
        self.assertEqual(await dead.until_gone(8), 4004)
        self.assertGreater(self.reactor.seconds() - began, 0.8)
        await alive.wait_for(lambda: len(alive.frames) > 6, "more pings")
        self.assertFalse(alive.gone)
        await self.sessions(gateway, 1)

    async def test_many_unacknowledged(self) -> None:
        """A session with too much open gets no more until half of it is acknowledged; then the rest, in order."""
        gateway = await self.shared()
        ann = await self.online(gateway, 1201)
        deaf = await self.online(gateway, 1202, auto_ack=False)
        ids = [(await ann.send(1202, f"line {number}")).msg_id for number in range(30)]
        await deaf.has("line 9")
        await self.has_status(gateway, ids[-1], 2)
        self.assertEqual(len(deaf.pushes), 10)
        for first in (0, 10, 20):
            for msg_id in ids[first : first + 10]:
                await deaf.wait_for(lambda: msg_id in {m.msg_id for m in deaf.messages}, "for it")  # noqa: B023
                deaf.client.delivered(msg_id)
        await ann.told(ids[-1], 3)
        self.assertEqual(deaf.texts, [f"line {number}" for number in range(30)])
        self.assertEqual(len(deaf.pushes), 30)
