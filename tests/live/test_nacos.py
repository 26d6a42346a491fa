"""A gateway that has its configuration from Nacos."""

from __future__ import annotations

import stat

from tests.fake_nacos import FakeNacos
from tests.live.case import LiveTestCase

PASSWORD = "geheim-8848"
GO = """
server: {max_connections: 500}
netty: {worker_threads: 4, heartbeat_timeout: 45}
auth: {enabled: false, stress_test_enabled: true}
limits: {burst: %d}
drain: {rate: %d}
log: {level: %s}
node: {name: 上海}
"""


class NacosTests(LiveTestCase):
    """The seed's document, with a user and a password, from the first start to the last."""

    async def test_from_the_seeds_document(self) -> None:
        """Started from it, told of a change, not disturbed by a broken one, started again from the copy; no password
        in any line."""
        server = FakeNacos({"im": PASSWORD}).start()
        self.addCleanup(server.stop)
        server.publish(GO % (100, 50, "info"), namespace="dev_id", group="xzll-im")
        settings = {"server_addr": server.address, "namespace": "dev_id", "group": "xzll-im", "username": "im", "password": PASSWORD}
        gateway = self.gateway({f"nacos.{key}": value for key, value in settings.items()})
        checked = await self.outcome([*gateway.command, "--check"])
        self.assertEqual((checked.status, checked.err.count("\n")), (0, 1), checked.err)
        self.assertIn("of no use here", checked.err)
        self.assertIn("connections: 500  # nacos im-connect-go.yaml, server.max_connections\n", checked.out)
        self.assertNotIn(PASSWORD, checked.out)
        self.assertFalse(gateway.data_dir.exists())

        await gateway.start()
        self.assertEqual(stat.S_IMODE((gateway.data_dir / "nacos-last.yaml").stat().st_mode), 0o600)
        ann, bob = await self.online(gateway, 1001), await self.online(gateway, 1002)
        await ann.told((await ann.send(1002, "hello")).msg_id, 3)
        server.publish((GO % (100, 60, "debug")) + "http: {port: 1}\nretry: {give_up: 7}\n", namespace="dev_id", group="xzll-im")
        await self.until(lambda: "taken: drain.rate 50 -> 60, log.level info -> debug" in gateway.output(), "the change is taken")
        # http.port was given with --set, which is above the document.
        await self.until(lambda: "waiting for a restart: retry.give_up\n" in gateway.output(), "the rest waits")
        server.publish("limits: {burst: many}", namespace="dev_id", group="xzll-im")
        await self.until(lambda: "the old one stays: limits.burst: expected a whole number" in gateway.output(), "it is refused")
        await ann.told((await ann.send(1002, "still here")).msg_id, 3)
        self.assertEqual(await gateway.stop(), -15)
        await bob.leave()

        server.stop()
        await gateway.start()
        self.assertIn("the configuration is the last good copy", gateway.output())
        await gateway.stop()
        (gateway.data_dir / "nacos-last.yaml").unlink()
        refused = await self.outcome(gateway.command)
        self.assertEqual((refused.status, refused.out, refused.err.count("\n")), (1, "", 1))
        self.assertTrue(refused.err.startswith("nacos.server_addr: expected a server that answers"), refused.err)
        self.assertIn("of no use here, they are the Go gateway's: netty.worker_threads, auth.stress_test_enabled", gateway.output())
        self.assertNotIn(PASSWORD, gateway.output() + gateway.errors() + refused.err)
        self.assertEqual(list(self.folder.glob("**/nacos-data")), [])
