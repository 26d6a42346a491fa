"""A gateway that does not come back: what only its disk knew reaches its receiver through another one."""

from __future__ import annotations

from typing import Any

from tests.live.case import LiveTestCase
from tests.live.processes import HOST, GatewayProcess, free_port, script

ANN, BEN = 1001, 1002


class DrainCommandTests(LiveTestCase):
    def one_of(self, name: str, **settings: Any) -> GatewayProcess:
        """A gateway that shares its database with others, not started."""
        values = {"data_dir": self.folder / name, "business.database": f"sqlite:///{self.folder}/business.db"}
        return self.gateway({**values, **{key.replace("__", "."): value for key, value in settings.items()}}, name=name)

    async def test_taken_over(self) -> None:
        """Its queue was away and it is killed: drained elsewhere, everything is shown once; a start of it is one line."""
        lost = self.one_of("lost", rocketmq__server_addr=f"{HOST}:{free_port()}", business__mode="off")
        await lost.start()
        ann, ben = await self.online(lost, ANN), await self.online(lost, BEN)
        seen = await ann.send(BEN, "seen")
        await ann.told(seen.msg_id, 3)
        await ben.leave()
        for text in ("one", "two"):
            await ann.send(BEN, text)
        drain = [
            *(script("imconnect"), "outbox", "drain", "--data-dir", str(self.folder / "lost")),
            *("--set", f"business.database=sqlite:///{self.folder}/business.db"),
        ]
        running = await self.outcome(drain)
        self.assertEqual((running.status, running.out, running.err.count("\n")), (1, "", 1))
        await lost.kill9()
        done = await self.outcome(drain)
        self.assertEqual((done.status, done.err), (0, ""))
        self.assertIn("everything is relayed", done.out)
        refused = await self.outcome(lost.command)
        self.assertEqual((refused.status, refused.out, refused.err.count("\n")), (1, "", 1))
        self.assertIn("`imconnect outbox drain`", refused.err)
        other = self.one_of("other")
        await other.start()
        there = await self.online(other, BEN)
        await there.has("one", "two")
        self.assertEqual(there.texts, ["one", "two"])
