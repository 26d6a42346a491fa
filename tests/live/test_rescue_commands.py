"""`imconnect outbox` and `imconnect parked` on the files of a real gateway."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from imconnect.backends import outbox_schema
from imconnect.events.plain import plain
from imconnect.events.records import pack
from imconnect.events.values import Sent
from imconnect.model import Message
from tests.live.case import LiveTestCase
from tests.live.processes import GatewayProcess, Outcome, script


class RescueTests(LiveTestCase):
    async def imconnect(self, *arguments: str, gateway: GatewayProcess) -> Outcome:
        return await self.outcome([script("imconnect"), *arguments, "--data-dir", str(gateway.data_dir)])

    async def test_damaged_outbox(self) -> None:
        """Beside the running gateway the log is sound; killed and damaged, the gateway names the command, and that
        saves every other message and leaves the file."""
        gateway = await self.started()
        ann = await self.online(gateway, 1001)
        for text in ("one", "two", "precious", "four"):
            await ann.send(1002, text)
        beside = await self.imconnect("outbox", "check", gateway=gateway)
        self.assertEqual((beside.status, beside.err), (0, ""))
        self.assertIn("sent 4", beside.out)
        await ann.leave()
        await gateway.stop()  # so that all of it is in the file itself
        path = gateway.data_dir / "outbox.db"
        path.write_bytes(path.read_bytes().replace(b"precious", b"preciouz"))
        spoiled = path.read_bytes()
        refused = await self.outcome(gateway.command)
        self.assertEqual(refused.status, 1)
        self.assertIn(f"`imconnect outbox check --data-dir {gateway.data_dir}`", refused.out + refused.err)
        checked = await self.imconnect("outbox", "check", gateway=gateway)
        self.assertEqual((checked.status, checked.err), (1, ""))
        self.assertIn("checksum", checked.out)
        exported = await self.imconnect("outbox", "export", gateway=gateway)
        rows = [json.loads(line) for line in exported.out.splitlines()]
        self.assertEqual([row["content"] for row in rows if row["event"] == "Sent"], ["one", "two", "four"])
        self.assertIn("lost at least ", exported.err)
        self.assertEqual(path.read_bytes(), spoiled)

    async def test_parked_events(self) -> None:
        """One that the queue refused and one that business put aside: not while the gateway runs, then both are in the
        database, and their receiver is shown them."""
        gateway = await self.started()
        ann = await self.online(gateway, 1001)
        sent = await ann.send(1002, "hello")
        await ann.leave()
        first, second = (
            Message(sent.msg_id + number, bytes([number]) * 16, 1001, 1002, 1, text, 1, 1_764_000_000_000)
            for number, text in ((1, "refused by the queue"), (2, "put aside by business"))
        )
        with closing(sqlite3.connect(gateway.data_dir / "outbox.db", isolation_level=None)) as db:
            db.execute("INSERT INTO outbox_parked VALUES (1, 0, 'too large', ?)", (pack([Sent(first)]),))
        with closing(sqlite3.connect(gateway.data_dir / "business.db", isolation_level=None)) as db:
            body = json.dumps(plain(Sent(second))).encode()
            db.execute("INSERT INTO im_event_parked VALUES ('', 0, 7, ?, 'why', 1)", (body,))
        listed = await self.imconnect("parked", "list", gateway=gateway)
        self.assertEqual([line.split()[0] for line in listed.out.splitlines()], ["outbox/1", "embedded/0/7"])
        locked = await self.imconnect("parked", "replay", "--all", gateway=gateway)
        self.assertEqual((locked.status, locked.out, locked.err.count("\n")), (1, "", 1))
        self.assertIn("in use by another process", locked.err)
        await gateway.stop()
        done = await self.imconnect("parked", "replay", "--all", gateway=gateway)
        self.assertEqual((done.status, done.err), (0, ""))
        await gateway.start()
        ben = await self.online(gateway, 1002)
        await ben.has("refused by the queue")
        await ben.has("put aside by business")
        self.assertEqual(sorted(ben.texts), ["hello", "put aside by business", "refused by the queue"])
        await gateway.stop()
        with closing(outbox_schema.connect_reader(str(gateway.data_dir / "outbox.db"))) as db:
            self.assertEqual(outbox_schema.parked(db, ""), [])
        self.assertEqual(self.rows(gateway, "SELECT count(*) FROM im_event_parked"), [(0,)])
