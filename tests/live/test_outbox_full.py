"""What happens when business is away for so long that the outbox is full."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from imconnect.client import Refused
from tests.live.case import LiveTestCase


class FullOutboxTests(LiveTestCase):
    async def test_full_and_empty_again(self) -> None:
        """Sends are refused at the bound, ACKs and withdrawals are still taken, /ready says so; when business is back
        everything recovers by itself and nothing is lost."""
        gateway = await self.started({"outbox.max_events": 40, "retry.delays": "[600]"})
        ann, bob = await self.online(gateway, 1001), await self.online(gateway, 1002, auto_ack=False)
        with closing(sqlite3.connect(gateway.data_dir / "business.db", isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            sent = [await ann.send(1002, f"line {number}") for number in range(40)]
            error = await self.refusal(ann.send(1002, "one too many"))
            self.assertEqual(error.code, 503)
            ready = await gateway.get("/ready")
            self.assertEqual(ready.code, 503)
            self.assertIn("outbox is full", json.loads(ready.body)["reason"])
            self.assertEqual((await gateway.get("/health")).code, 200)
            await bob.has("line 39")
            for result in sent[:10]:
                bob.client.delivered(result.msg_id)
            await ann.told(sent[9].msg_id, 3)
            await ann.client.withdraw(sent[20].msg_id, 1002)
            # The repeat of what was taken gets its answer, also now.
            repeat = await ann.send(1002, "line 5", client_msg_id=sent[5].client_msg_id)
            self.assertEqual(repeat.msg_id, sent[5].msg_id)
            self.assertEqual(self.stored(gateway), {})
            stats = json.loads((await gateway.get("/stats")).body)
            self.assertGreaterEqual(stats["outbox"]["events"], 51)
        await self.until(gateway.is_ready, "/ready is green again", 30)
        await ann.send(1002, "room again")
        await bob.has("room again")
        await bob.wait_for(lambda: bob.withdrawn == [(sent[20].msg_id, 1001)], "for the withdrawal", 20)
        await self.until(lambda: len(self.stored(gateway)) == 41, "everything is stored")
        stored = self.stored(gateway)
        self.assertEqual([stored[result.msg_id][1] for result in sent], [f"line {number}" for number in range(40)])
        self.assertEqual({stored[result.msg_id][2] for result in sent[:10]}, {3})
        self.assertNotIn("one too many", {content for _, content, _ in stored.values()})
        self.assertNotIn("Traceback", gateway.output())

    async def test_kill_when_full(self) -> None:
        """A full outbox survives kill -9: the next start empties it before it lets anybody in."""
        gateway = await self.started({"outbox.max_events": 10})
        ann = await self.online(gateway, 1001)
        with closing(sqlite3.connect(gateway.data_dir / "business.db", isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            sent = []
            with self.assertRaises(Refused):
                for number in range(20):
                    sent.append(await ann.send(1002, f"line {number}"))
            # Nobody is there to get them, so each is also an OFFLINE event.
            self.assertGreaterEqual(len(sent), 5)
            await gateway.kill9()
        await gateway.start()
        self.assertEqual(sorted(self.stored(gateway)), [result.msg_id for result in sent])
        await ann.wait_for(lambda: ann.connections == 2, "signed in again")
        await ann.send(1002, "room again")

    async def test_log_that_cannot_be_written(self) -> None:
        """Another process holds the outbox's lock for long: sends are answered when it lets go, or refused and then
        not stored; nothing is acknowledged that is not durable."""
        gateway = await self.started()
        ann, bob = await self.online(gateway, 1001), await self.online(gateway, 1002)
        with closing(sqlite3.connect(gateway.data_dir / "outbox.db", isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            refused = await self.refusal(ann.send(1002, "refused", 30))
            self.assertEqual(refused.code, 503)
            ready = await gateway.get("/ready")
            self.assertEqual((ready.code, "no writes" in ready.body), (503, True))
            self.assertEqual(bob.messages, [])
        await self.until(gateway.is_ready, "/ready is green again", 20)
        again = await ann.send(1002, "refused", client_msg_id=ann.replies[0].client_msg_id)
        await bob.has("refused")
        await self.has_status(gateway, again.msg_id, 3)
        self.assertEqual(len(bob.pushes), 1)
        self.assertEqual(len(self.stored(gateway)), 1)
