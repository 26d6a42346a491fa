"""For what the start of a gateway waits."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from imconnect.tap.gateway_parts import LOOK, Recovery
from tests.support import TestCase


class Relay:
    """As far as a start looks at it."""

    backlog = 3
    last_error = ""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()

    def caught_up(self) -> Deferred[None]:
        return self.done


class RecoveryTests(TestCase):
    def begun(self, settles: Any) -> tuple[Clock, Relay, Deferred[None]]:
        """A start that waits, or not."""
        clock, relay, node = Clock(), Relay(), type("Node", (), {})()
        node.relay = relay
        return clock, relay, Deferred.fromCoroutine(Recovery(node, clock, settles).start())

    def test_a_queue_elsewhere(self) -> None:
        """Nothing is waited for."""
        _, _, start = self.begun("never")
        self.successResultOf(start)

    def test_a_file(self) -> None:
        """Until it has everything, whatever is wrong with it meanwhile."""
        clock, relay, start = self.begun("always")
        relay.last_error = "disk full"
        clock.advance(100)
        self.assertNoResult(start)
        relay.done.callback(None)
        self.successResultOf(start)

    def test_a_server_that_answers(self) -> None:
        """Until it has everything, however long that takes."""
        clock, relay, start = self.begun("if there")
        clock.pump([LOOK] * 1000)
        self.assertNoResult(start)
        relay.done.callback(None)
        clock.advance(LOOK)
        self.successResultOf(start)

    def test_a_server_that_is_away(self) -> None:
        """Also when it goes away in the middle: clients come, and the rest follows later."""
        clock, relay, start = self.begun("if there")
        clock.pump([LOOK] * 10)
        self.assertNoResult(start)
        relay.last_error = "no answer"
        clock.advance(LOOK)
        self.successResultOf(start)
