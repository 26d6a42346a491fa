"""What is between nodes, on a real Redis."""

from __future__ import annotations

import itertools
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from imconnect.backends import presence_redis
from imconnect.backends.presence_feed import Feed
from imconnect.backends.presence_redis import RedisPresence
from imconnect.backends.presence_store import Card
from imconnect.backends.redis_calls import RedisCalls, make_client
from imconnect.backends.sent_redis import RedisSentIndex
from imconnect.core.ports import Presence
from imconnect.errors import ConfigError, Unavailable
from imconnect.wire import kryo
from tests.contracts.presence import ALICE, ONE, TWO, PresenceContract
from tests.contracts.sent_index import SentIndexContract, claim
from tests.live.redis import server
from tests.support import ReactorTestCase, TestCase

#: Seconds between two renewals, and for which a lease runs, in these tests.
RENEW, LEASE = 0.1, 0.6


def pause(seconds: float) -> Deferred[None]:
    from twisted.internet import reactor

    return deferLater(reactor, seconds)  # type: ignore[arg-type]


class MortalPresence(RedisPresence):
    """A node that can die: no renewal any more, nothing tidied up."""

    def die(self) -> None:
        self._feed.stop()
        self._background.stop()


class RedisCase(ReactorTestCase):
    """An empty database, and nodes that end with the test."""

    java = ""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.server = server()
        self.client = self.server.client()
        self.addCleanup(self.client.close)
        self.client.flushall()
        self.patch(presence_redis, "RENEW", RENEW)
        self.patch(presence_redis, "LEASE", LEASE)
        self.boots = itertools.count(1)
        self.taken: list[str] = []

    def node(self, number: int, owner: str = "") -> MortalPresence:
        boot = f"boot{next(self.boots)}"
        card = Card(
            node=number, name=f"n{number}", address=f"127.0.0.1:{number}", version="1", boot=boot,
            java=self.java and f"10.0.0.{number}:10001",
        )  # fmt: skip
        feed = Feed(self.reactor, self.server.url())
        calls = RedisCalls(self.reactor, self.server.url(), "presence", 0.5)
        node = MortalPresence(self.reactor, calls, feed, card, owner or boot, taken=self.taken.append)
        self.addCleanup(node.close)
        return node

    async def until(self, what: str, check: Any, seconds: float = 5.0) -> None:
        end = time.monotonic() + seconds
        while not check():
            if time.monotonic() > end:
                self.fail(f"not in {seconds} s: {what}")
            await pause(0.02)


class RedisPresenceTests(RedisCase, PresenceContract):
    async def _die(self, node: Presence) -> None:
        assert isinstance(node, MortalPresence)
        node.die()
        await pause(LEASE + 4 * RENEW)

    def die(self, node: Presence) -> Deferred[None]:
        return Deferred.fromCoroutine(self._die(node))

    async def _take_away(self) -> None:
        self.server.kill9()

    def take_away(self) -> Deferred[None]:
        self.addCleanup(lambda: self.server.runs or self.server.start())
        return Deferred.fromCoroutine(self._take_away())

    async def _bring_back(self, *nodes: Presence) -> None:
        self.server.start()
        await pause(4 * RENEW)
        await self.until("the nodes are back", lambda: not any(node.away() for node in nodes))
        await pause(3 * RENEW)

    def bring_back(self, *nodes: Presence) -> Deferred[None]:
        return Deferred.fromCoroutine(self._bring_back(*nodes))

    def heard(self) -> Deferred[None]:
        return pause(0.2)

    async def test_two_nodes_know_each_other(self) -> None:
        """A node that lives has an address for the others; one that ended has none."""
        one, two = self.node(ONE), self.node(TWO)
        await one.open()
        await two.open()
        await self.until("known", lambda: one.address(TWO) and two.address(ONE))
        self.assertEqual({TWO: "n2"}, {node: card.name for node, card in one.others().items()})
        await two.close()
        await self.until("forgotten", lambda: one.address(TWO) is None)

    async def test_away_at_the_start(self) -> None:
        """A node starts alone; when Redis is there its people are."""
        await self._take_away()
        self.addCleanup(lambda: self.server.runs or self.server.start())
        one = self.node(ONE)
        await one.open()
        self.assertTrue(one.away())
        with self.assertRaises(Unavailable):
            await one.enter(ALICE, "")
        two = self.node(TWO)
        await self._bring_back(one)
        await two.open()
        self.assertEqual({ALICE: {ONE}}, await two.routes([ALICE]))
        self.flushLoggedErrors()

    async def test_taken_while_away(self) -> None:
        """A node id that somebody else took meanwhile: this process hears that it must end."""
        one = self.node(ONE)
        await one.open()
        self.client.set("imconnect:boot:1", "other")
        self.client.set("imconnect:owner:1", "somebody")
        await self.until("told", lambda: self.taken)
        self.assertEqual("somebody", self.taken[0])

    async def test_tidied_up(self) -> None:
        """What a dead node left is removed by the others."""
        one, two = self.node(ONE), self.node(TWO)
        await one.open()
        await one.enter(ALICE, "")
        await self._die(one)
        await two.open()
        await self.until("gone", lambda: not self.client.exists(f"imconnect:user:{ALICE}"))
        self.assertEqual([b"2"], [member.split(b":")[0] for member in self.client.hkeys("imconnect:lives")])

    async def test_wrong_type(self) -> None:
        """A key that holds something else: said, with its name, and left alone."""
        one = self.node(ONE)
        await one.open()
        self.client.set(f"imconnect:user:{ALICE}", "text")
        with self.assertRaises(Unavailable) as raised:
            await one.enter(ALICE, "")
        self.assertIn("WRONGTYPE", str(raised.exception))
        self.assertIn(f"imconnect:user:{ALICE}", str(raised.exception))
        self.assertEqual(b"text", self.client.get(f"imconnect:user:{ALICE}"))


class JavaHashesTests(RedisCase):
    """Profile xzll: what the Java services read (contract/gateway.md 6.2)."""

    java = "yes"

    def rows(self) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
        return self.client.hgetall("userLogin:server:"), self.client.hgetall("userLogin:status:")

    async def test_written_and_removed(self) -> None:
        """Encoded as Redisson does; a user who is still elsewhere is shown there."""
        one, two = self.node(ONE), self.node(TWO)
        await one.open()
        await two.open()
        uid = kryo.encode(str(ALICE))
        await one.enter(ALICE, "")
        await two.enter(ALICE, "")
        self.assertEqual(({uid: kryo.encode("10.0.0.2:10001")}, {uid: kryo.encode("5")}), self.rows())
        two.leave(ALICE)
        await two.routes([])
        self.assertEqual({uid: kryo.encode("10.0.0.1:10001")}, self.rows()[0])
        one.leave(ALICE)
        await one.routes([])
        self.assertEqual(({}, {}), self.rows())

    async def test_a_late_logout_leaves_the_newer_route(self) -> None:
        """Which the original did not: a user who moved stays shown where he is."""
        one, two = self.node(ONE), self.node(TWO)
        await one.open()
        await two.open()
        await one.enter(ALICE, "")
        await two.enter(ALICE, "")
        one.leave(ALICE)
        await one.routes([])
        self.assertEqual([kryo.encode("10.0.0.2:10001")], list(self.rows()[0].values()))

    async def test_tidied_up(self) -> None:
        """A dead node's people are no longer shown."""
        one, two = self.node(ONE), self.node(TWO)
        await one.open()
        await one.enter(ALICE, "")
        one.die()
        await pause(LEASE + 2 * RENEW)
        await two.open()
        await self.until("gone", lambda: self.rows() == ({}, {}))


class RedisSentIndexTests(RedisCase, SentIndexContract):
    def make(self, now_ms: int = 1_800_000_000_000) -> RedisSentIndex:
        calls = RedisCalls(self.reactor, self.server.url(), "sent", 0.5)
        calls.start()
        self.addCleanup(calls.stop)
        return RedisSentIndex(calls, 60.0, lambda: now_ms)

    def take_away(self) -> None:
        self.server.kill9()
        self.addCleanup(self.server.start)

    async def test_paused(self) -> None:
        """A server that hangs is one that is away, after the deadline."""
        index = self.make()
        await index.claim([claim(1)])
        self.server.pause()
        try:
            with self.assertRaises(Unavailable):
                await index.claim([claim(2)])
        finally:
            self.server.resume()
        await self.until("answers", lambda: True)
        self.assertEqual(1, len(await index.claim([claim(3, b"z" * 16)])))

    async def test_wrong_type(self) -> None:
        """A key that holds something else: said, with its name."""
        index = self.make()
        key = f"imconnect:sent:1001:{(b'c' * 16).hex()}"
        for value in ("text", b"x" * 17):
            self.client.set(key, value)
            if len(value) != 17:
                with self.assertRaises(Unavailable) as raised:
                    await index.claim([claim(1)])
                self.assertIn(key, str(raised.exception))
        self.client.delete(key)
        self.client.rpush(key, "x")
        with self.assertRaises(Unavailable) as raised:
            await index.claim([claim(1)])
        self.assertIn(key, str(raised.exception))

    async def test_clocks_a_minute_apart(self) -> None:
        """What a node with a clock that is ahead, or behind, says to have ended is known to the others."""
        for skew in (-60_000, 60_000):
            one, two = self.make(), self.make(1_800_000_000_000 + skew)
            await two.settle([], [(ALICE, 7)])
            self.assertEqual({7}, await one.ended(ALICE, [7]), skew)
            self.client.flushall()

    async def test_windows(self) -> None:
        """A claim and what ended are forgotten in time."""
        index = self.make()
        await index.claim([claim(7)])
        await index.settle([claim(8, b"y" * 16)], [(ALICE, 7)])
        lives = [self.client.pttl(key) for key in self.client.keys("imconnect:*")]
        self.assertEqual(3, len(lives))
        self.assertTrue(all(0 < life <= 1_200_000 for life in lives), lives)


class UrlTests(TestCase):
    def test_no_url(self) -> None:
        """A wrong URL names its key."""
        with self.assertRaises(ConfigError) as raised:
            make_client("localhost", 1.0)
        self.assertEqual("redis.url", raised.exception.key)
