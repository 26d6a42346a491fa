"""A document that was written for the Go gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imconnect.config.foreign import OF_NO_USE, SAME_AS, read
from imconnect.errors import ConfigError
from tests.support import TestCase

ROOT = Path(__file__).parent.parent.parent
SEED = """
rocketmq:
  server_addr: "192.168.1.100:9876"
  producer:
    group_name: "ImConnectGoProducerGroup"
    max_message_size: 4096
    send_timeout: 10
    retry_times: 3
"""


class ForeignTests(TestCase):
    def values(self, text: str) -> dict[str, Any]:
        return dict(read(text, "nacos x").values)

    def refused(self, text: str) -> str:
        return str(self.assertRaises(ConfigError, read, text, "nacos x"))

    def test_the_seeds_block(self) -> None:
        """Its names are ours."""
        producer = {"group_name": "ImConnectGoProducerGroup", "max_message_size": 4096, "send_timeout": 10, "retry_times": 3}
        document = read(SEED, "nacos x")
        self.assertEqual(document.values, {"rocketmq": {"server_addr": "192.168.1.100:9876", "producer": producer}})
        self.assertEqual((document.origins, document.ignored, document.text), ({}, (), SEED))

    def test_the_same_by_another_name(self) -> None:
        """And errors can say what it was called."""
        document = read(
            "server: {port: 1, max_connections: 5}\nnetty: {heartbeat_timeout: 45}\nauth: {enabled: true, jwt_secret: x}\n"
            "logging: {level: WARN}",
            "nacos x",
        )
        expected = {
            "server": {"port": 1}, "auth": {"jwt_secret": "x", "mode": "jwt"}, "log": {"level": "warn"},
            "limits": {"connections": 5, "idle_timeout": 45},
        }  # fmt: skip
        self.assertEqual(document.values, expected)
        self.assertEqual(document.origins["limits.connections"], "nacos x, server.max_connections")
        self.assertEqual(self.values("auth: {enabled: false}"), {"auth": {"mode": "open"}})

    def test_ours_wins(self) -> None:
        """A document with both names is on its way from one gateway to the other."""
        document = read("server: {max_connections: 5}\nlimits: {connections: 6}", "nacos x")
        self.assertEqual((document.values, document.ignored), ({"limits": {"connections": 6}}, ("server.max_connections",)))

    def test_redis(self) -> None:
        """Three keys are one URL; a password may hold anything."""
        url = "redis://:p%40%2F%3A@10.0.0.1:6379/3"
        document = read("redis: {addr: '10.0.0.1:6379', password: 'p@/:', db: 3, pool_size: 10}", "nacos x")
        self.assertEqual((document.values, document.ignored), ({"redis": {"url": url}}, ("redis.pool_size",)))
        self.assertEqual(self.values("redis: {address: 'r:1'}"), {"redis": {"url": "redis://r:1/0"}})
        document = read("redis: {addr: 'r:1', password: x, url: 'redis://other/'}", "nacos x")
        self.assertEqual(document.values, {"redis": {"url": "redis://other/"}})
        self.assertEqual(document.ignored, ("redis.addr", "redis.password"))
        self.assertEqual(read("redis: {password: x}", "nacos x").ignored, ("redis.password",))

    def test_of_no_use(self) -> None:
        """Named, whole sections too; what stands beside them is taken."""
        document = read("netty: {boss_threads: 1, new: 2}\nretry: {enabled: true, give_up: 5}\napp: im", "nacos x")
        self.assertEqual(document.values, {"retry": {"give_up": 5}})
        self.assertEqual(document.ignored, ("netty.boss_threads", "netty.new", "retry.enabled", "app"))

    def test_nobodys(self) -> None:
        """Left for the tree to refuse, which names the key."""
        self.assertEqual(self.values("im: {netty: 1}\nempty: {}\nserver: {prot: 1}"), {"im": {"netty": 1}, "empty": {}, "server": {"prot": 1}})

    def test_empty_and_wrong_sections(self) -> None:
        """A section of ours with nothing in it, or that is none, beside a key that becomes one of its keys."""
        self.assertEqual(self.values("limits:\nserver: {max_connections: 5}"), {"limits": {"connections": 5}})
        self.assertEqual(self.values("limits: 7\nserver: {max_connections: 5}"), {"limits": 7})

    def test_mistakes(self) -> None:
        """What cannot be a configuration, and what is ours but cannot be said there."""
        self.assertIn("nacos x: expected keys at the top", self.refused("just text"))
        self.assertIn("nacos x: expected keys at the top", self.refused(""))
        self.assertIn("nacos x:2: not YAML", self.refused("a: 1\nb: ]"))
        self.assertIn("data_dir: expected in the file", self.refused("data_dir: /x"))
        self.assertIn("rocketmq.server_addr: expected a value: placeholders", self.refused("rocketmq: {server_addr: '${mq.addr}'}"))
        self.assertIn("redis.url: expected a value: placeholders", self.refused("redis: {addr: '${redis.host}:6379', password: s3}"))
        self.assertEqual(self.values("netty: {x: '${a.b}'}"), {})

    def test_it_is_documented(self) -> None:
        """docs/operations.md has every key that is treated specially."""
        page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
        for key in (*SAME_AS, *OF_NO_USE):
            self.assertIn(key.rpartition(".")[2], page)
