"""What a running process takes, and what waits for a restart."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher

from imconnect.config import Config
from imconnect.config.tree import Drain, Http, Limits, Outbox, Redis, Rocketmq
from imconnect.edge.admission import Admission, Admitted
from imconnect.tap.live import Live, gateway_takes
from tests.core.rig import ALICE, BOB, Rig, send_frame
from tests.support import TestCase

BEFORE = Config(limits=Limits(burst=5))


class LiveTests(TestCase):
    def setUp(self) -> None:
        self.lines: list[tuple[Any, str]] = []
        globalLogPublisher.addObserver(self._seen)
        self.addCleanup(globalLogPublisher.removeObserver, self._seen)
        self.live = Live(BEFORE)
        self.given: list[Config] = []
        self.live.on(("limits.burst", "drain.rate"), self.given.append)

    def _seen(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "imconnect.tap.live":
            self.lines.append((event["log_level"], event["log_format"].format(**event)))

    def test_taken(self) -> None:
        """Given to whoever takes it, once for all of its keys, and said with the values."""
        after = attrs.evolve(BEFORE, limits=Limits(burst=6), drain=Drain(rate=7))
        self.live.take(after)
        self.live.take(after)
        self.assertEqual(self.given, [after])
        said = "configuration changed, taken: drain.rate 200 -> 7, limits.burst 5 -> 6"
        self.assertEqual(self.lines, [(LogLevel.info, said)])

    def test_waiting(self) -> None:
        """Said once, by key and without the value, which may be a secret; back again there is nothing to wait for."""
        secret = attrs.evolve(BEFORE, redis=Redis(url="redis://:p4ss@r/"), http=Http(port=1))
        self.live.take(secret)
        self.live.take(attrs.evolve(secret, http=Http(port=2)))
        self.live.take(attrs.evolve(secret, rocketmq=Rocketmq(topic="x")))
        self.assertEqual(
            [line for _, line in self.lines],
            [
                "configuration changed, waiting for a restart: http.port, redis.url",
                "configuration changed, waiting for a restart: rocketmq.topic",
            ],
        )
        self.live.take(BEFORE)
        self.assertEqual((self.live.waiting, self.given), (set(), []))


class GatewayTests(TestCase):
    """The parts of a gateway that take something, for people who are here already."""

    def setUp(self) -> None:
        self.rig = Rig(burst=20)
        self.admission = Admission(1, 1)
        self.live = Live(Config())
        gateway_takes(self.live, self.rig.node, self.admission)

    def test_requests(self) -> None:
        """limits.burst and commands_per_second."""
        alice = self.rig.sign_in(ALICE)
        self.live.take(Config(limits=Limits(burst=2, commands_per_second=0.5)))
        alice.read(*(send_frame(BOB, f"{number}") for number in range(3)))
        self.rig.turn()
        self.assertEqual((alice.accepted, alice.refused), (["0", "1"], [("2", 429)]))
        self.rig.advance(2)
        alice.read(*(send_frame(BOB, f"{number}") for number in range(3, 5)))
        self.rig.turn()
        self.assertEqual((alice.accepted, alice.refused), (["0", "1", "3"], [("2", 429), ("4", 429)]))

    def test_connections(self) -> None:
        """limits.connections and connections_per_ip."""
        self.assertEqual((self.admission.enter("a"), self.admission.enter("b")), (Admitted.YES, Admitted.OVERLOADED))
        self.live.take(Config(limits=Limits(connections=3, connections_per_ip=2)))
        expected = [Admitted.YES, Admitted.TOO_MANY, Admitted.YES, Admitted.OVERLOADED]
        self.assertEqual([self.admission.enter(ip) for ip in "aabb"], expected)

    def test_outbox(self) -> None:
        """outbox.max_events."""
        self.rig.business.held = True
        alice = self.rig.sign_in(ALICE)
        self.live.take(Config(outbox=Outbox(max_events=1)))
        alice.read(send_frame(BOB, "one"), send_frame(BOB, "two"))
        self.rig.turn()
        self.assertEqual((alice.accepted, alice.refused), (["one"], [("two", 503)]))

    def test_drain(self) -> None:
        """drain.rate: of ten people nobody but one is told within the first second."""
        clients = [self.rig.sign_in(5000 + number) for number in range(10)]
        self.live.take(Config(drain=Drain(rate=1)))
        drained = Deferred.fromCoroutine(self.rig.node.drain())
        self.rig.advance(1.05)
        self.assertEqual(sum(client.link.closed == 4005 for client in clients), 1)
        self.rig.advance(20)
        self.successResultOf(drained)
