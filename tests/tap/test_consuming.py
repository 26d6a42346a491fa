"""The member of the consumer group that a gateway is: when it joins, and when it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from imconnect.tap.consuming import Membership
from tests.support import TestCase


class Consuming:
    """A consumer, and the database that it waits for, as far as a member needs them."""

    def __init__(self) -> None:
        self.consumer = self.database = self
        self.waiting: list[Callable[[], object]] = []
        self.done: list[str] = []
        self.stopped: Deferred[None] = Deferred()

    def when_there(self, call: Callable[[], object]) -> None:
        self.waiting.append(call)

    async def start(self) -> None:
        self.done.append("joined")

    async def stop(self) -> None:
        self.done.append("leaves")
        await self.stopped


class MembershipTests(TestCase):
    def setUp(self) -> None:
        consuming: Any = Consuming()
        self.consuming: Consuming = consuming
        self.member = Membership(Clock(), consuming)
        self.member.start()

    def test_joins_when_the_database_is_there(self) -> None:
        """Not before: others could not have the queues meanwhile."""
        self.assertEqual(self.consuming.done, [])
        self.consuming.waiting[0]()
        self.assertEqual(self.consuming.done, ["joined"])

    def test_leaves_while_clients_are_asked_to(self) -> None:
        """It begins at once, once, and the end of the part is its end."""
        self.consuming.waiting[0]()
        self.member.leave()
        self.assertEqual(self.consuming.done, ["joined", "leaves"])
        stop = Deferred.fromCoroutine(self.member.stop())
        self.assertNoResult(stop)
        self.consuming.stopped.callback(None)
        self.successResultOf(stop)
        self.assertEqual(self.consuming.done, ["joined", "leaves"])

    def test_a_database_that_comes_too_late(self) -> None:
        """Who leaves does not join any more."""
        self.consuming.stopped.callback(None)
        self.successResultOf(Deferred.fromCoroutine(self.member.stop()))
        self.consuming.waiting[0]()
        self.assertEqual(self.consuming.done, ["leaves"])
