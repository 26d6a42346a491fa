"""SIGTERM: how a gateway leaves, and what becomes of its clients and their messages."""

from __future__ import annotations

import json
import signal

from twisted.internet.task import deferLater

from tests.live.case import LiveTestCase
from tests.live.raw import RawClient


class DrainTests(LiveTestCase):
    async def crowd(self, gateway: object, count: int) -> list[RawClient]:
        """Silent people."""
        return [await self.raw(gateway, 5000 + number) for number in range(count)]  # type: ignore[arg-type]

    async def test_everybody_is_told(self) -> None:
        """4005 with a jittered wait, at the rate; /ready red meanwhile, no new client; ends by the signal."""
        gateway = await self.started({"drain.rate": 20, "drain.deadline": 10})
        crowd = await self.crowd(gateway, 20)
        gateway.signal(signal.SIGTERM)
        began = self.reactor.seconds()

        async def red() -> str:
            ready = await gateway.get("/ready")
            return ready.body if ready.code == 503 else ""

        self.assertEqual(json.loads(await self.until(red, "/ready is red", 3))["reason"], "draining")
        late = await self.until(lambda: self.refused_now(gateway), "nobody is let in")
        self.assertTrue(late)
        for raw in crowd:
            self.assertEqual(await raw.until_gone(5), 4005)
        self.assertGreater(self.reactor.seconds() - began, 0.5)
        waits = {int(raw.close_reason.removeprefix("leaving; retry_after_ms=")) for raw in crowd}
        self.assertTrue(all(400 <= wait <= 2500 for wait in waits), waits)
        self.assertGreater(len(waits), 5)
        self.assertEqual(await gateway.wait(), -signal.SIGTERM)

    async def refused_now(self, gateway: object) -> bool:
        """Whether a newcomer is not let in."""
        try:
            raw = await self.raw(gateway, 9999)  # type: ignore[arg-type]
        except Exception:
            return True
        return raw.code == 503

    async def test_unacknowledged_pushes_wait(self) -> None:
        """Offline in the database when the process has ended; shown after the restart to the client, which comes back
        by itself; what was acknowledged does not come again."""
        gateway = await self.started({"retry.delays": "[600]"})
        ann = await self.online(gateway, 1001)
        deaf = await self.online(gateway, 1002, auto_ack=False)
        sent = [await ann.send(1002, f"line {number}") for number in range(3)]
        await deaf.has("line 2")
        deaf.client.delivered(sent[0].msg_id)
        await ann.told(sent[0].msg_id, 3)
        self.assertEqual(await gateway.stop(), -signal.SIGTERM)
        status = {content: status for _, content, status in self.stored(gateway).values()}
        self.assertEqual(status, {"line 0": 3, "line 1": 2, "line 2": 2})
        await deaf.wait_for(lambda: deaf.closes, "told to leave")
        self.assertEqual(deaf.closes[0].code, 4005)
        self.assertIsNotNone(deaf.closes[0].retry_after)
        await gateway.start()
        await deaf.wait_for(lambda: len(deaf.pushes) == 5, "for what it had not acknowledged")
        self.assertEqual([(at, push.content) for at, push in deaf.pushes][3:], [(2, "line 1"), (2, "line 2")])

    async def test_sends_while_it_drains(self) -> None:
        """A client that writes until it is told to leave: what was acknowledged is stored, the rest is sent again
        after the restart; each exists once."""
        gateway = await self.started({"drain.rate": 10, "drain.deadline": 10})
        await self.crowd(gateway, 5)
        ann = await self.online(gateway, 1001, max_outstanding=5000)
        answers = []
        for number in range(600):
            answers.append(ann.client.send(1002, f"line {number}"))
            if number == 100:
                gateway.signal(signal.SIGTERM)
            if number % 4 == 0:
                await deferLater(self.reactor, 0.004)
        self.assertEqual(await gateway.wait(), -signal.SIGTERM)
        acknowledged = {reply.msg_id for reply in ann.replies}
        self.assertEqual(acknowledged - set(self.stored(gateway)), set())
        await gateway.start()
        results = [await answer for answer in answers]
        bob = await self.online(gateway, 1002)
        await bob.wait_for(lambda: len(bob.messages) == 600, "for everything")
        self.assertEqual(sorted(message.msg_id for message in bob.messages), sorted(r.msg_id for r in results))
        self.assertEqual(set(self.stored(gateway)), {result.msg_id for result in results})
        self.assertEqual(bob.texts, [f"line {number}" for number in range(600)])

    async def test_clients_that_do_not_let_go(self) -> None:
        """One that reads nothing and one in the middle of a handshake do not hold up the end."""
        gateway = await self.started({"drain.deadline": 2})
        stuck = await self.raw(gateway, 1001)
        stuck.transport.pauseProducing()
        half = await self.raw(gateway)
        half.transport.write(b"GET /websocket HTTP/1.1\r\n")
        began = self.reactor.seconds()
        self.assertEqual(await gateway.stop(), -signal.SIGTERM)
        self.assertLess(self.reactor.seconds() - began, 2 + 5 + 1)
        stuck.transport.resumeProducing()

    async def test_second_sigterm(self) -> None:
        """Ends at once, by the signal; nothing acknowledged is lost."""
        gateway = await self.started({"drain.rate": 1, "drain.deadline": 30})
        await self.crowd(gateway, 10)
        ann = await self.online(gateway, 1001)
        sent = await ann.send(1002, "hello")
        gateway.signal(signal.SIGTERM)
        await self.until(lambda: "asked to leave" in gateway.output(), "it leaves")
        await deferLater(self.reactor, 0.5)
        self.assertIsNone(gateway.status)
        gateway.signal(signal.SIGTERM)
        self.assertEqual(await gateway.wait(2), -signal.SIGTERM)
        await gateway.start()
        bob = await self.online(gateway, 1002)
        await bob.has("hello")
        self.assertEqual(bob.messages[0].msg_id, sent.msg_id)

    async def test_sigterm_while_it_starts(self) -> None:
        """Whenever it comes, the process ends by it and the next start works."""
        gateway = self.gateway()
        for seconds in (0.3, 0.9):
            gateway.spawn()
            await deferLater(self.reactor, seconds)
            gateway.signal(signal.SIGTERM)
            self.assertEqual(await gateway.wait(10), -signal.SIGTERM)
        await gateway.start()

    async def test_sigint(self) -> None:
        """Ctrl-C in the foreground is an orderly stop too."""
        gateway = await self.started()
        raw = await self.raw(gateway, 1001)
        gateway.signal(signal.SIGINT)
        self.assertEqual(await raw.until_gone(), 4005)
        self.assertEqual(await gateway.wait(), -signal.SIGINT)
