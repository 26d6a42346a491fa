"""kill -9 under load and around the next start: nothing acknowledged is missing, nothing is doubled.

At every named point: tests/live/test_crash_matrix.py."""

from __future__ import annotations

import random
import signal
import sqlite3
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from imconnect.client import SendResult
from tests.live.case import LiveTestCase
from tests.live.people import Person
from tests.live.processes import GatewayProcess

#: Kills; messages of each of three senders per kill, and how many of his are in flight then for certain.
TURNS, STREAM, BURST = 2, 400, 10
ALL = 3 * TURNS * (STREAM + BURST)


class KillTests(LiveTestCase):
    #: No retry falls due here, so whatever comes twice on one connection is shown twice.
    settings: ClassVar[Mapping[str, Any]] = {"retry.delays": "[600]"}

    async def test_while_sends_are_in_flight(self) -> None:
        """Killed twice at a random moment: acknowledged is stored, once and under the acknowledged id; what was
        not acknowledged is sent again by the client and then exists once; the receiver is shown each once."""
        gateway = await self.started()
        senders = [await self.online(gateway, user, max_outstanding=5000) for user in (1001, 1002, 1003)]
        bob = await self.online(gateway, 2001)
        answers: dict[uuid.UUID, Deferred[SendResult]] = {}
        unacknowledged = 0
        for turn in range(TURNS):
            before = sum(len(sender.replies) for sender in senders)
            streams = [Deferred.fromCoroutine(self.stream(sender, turn, answers)) for sender in senders]
            acknowledged = await self.killed_at(gateway, senders, before + random.randint(1, 800), turn, answers)
            unacknowledged += len(answers) - len(acknowledged)
            await gatherResults(streams)
            await gateway.start()
            # The log is in the database before anybody is let in.
            stored = self.stored(gateway)
            self.assertEqual({stored[msg_id][0] for msg_id in acknowledged.values()}, set(acknowledged))
            for sender in senders:
                await sender.wait_for(lambda: not sender.client.outstanding, "for all answers", 20)  # noqa: B023
        self.assertGreaterEqual(unacknowledged, TURNS * len(senders) * BURST)
        results = {key: await answer for key, answer in answers.items()}
        await bob.wait_for(lambda: len(bob.messages) >= ALL, "for everything", 20)
        await self.everything_once(gateway, senders, bob, results)
        await self.repeats_get_the_same_answer(gateway, senders[0], bob)

    async def stream(self, sender: Person, turn: int, answers: dict[uuid.UUID, Deferred[SendResult]]) -> None:
        """Messages, a few at a time, whether the gateway is there or not."""
        for number in range(STREAM):
            self.send(sender, f"{sender.user} {turn} {number}", answers)
            if number % 5 == 4:
                await deferLater(self.reactor, 0.001)

    def send(self, sender: Person, text: str, answers: dict[uuid.UUID, Deferred[SendResult]]) -> None:
        key = uuid.uuid4()
        answers[key] = sender.client.send(2001, text, client_msg_id=key.bytes)

    async def killed_at(
        self,
        gateway: GatewayProcess,
        senders: list[Person],
        replies: int,
        turn: int,
        answers: dict[uuid.UUID, Deferred[SendResult]],
    ) -> dict[uuid.UUID, int]:
        """Kill when so many are answered, or a little later, with a few in flight; -> what was acknowledged by then."""
        enough: Deferred[None] = Deferred()

        def count() -> bool:
            if not enough.called and sum(len(sender.replies) for sender in senders) >= replies:
                enough.callback(None)
            return enough.called

        # Whoever's answer it is: to wait for each sender's next one would be to wait until the slowest has all of his.
        waits = [Deferred.fromCoroutine(sender.wait_for(count, "answers")) for sender in senders]
        await enough.addTimeout(20, self.reactor)
        for wait in waits:
            wait.addErrback(lambda failure: failure.trap(CancelledError))
            wait.cancel()
        await deferLater(self.reactor, random.uniform(0, 0.003))
        for sender in senders:
            for number in range(BURST):
                self.send(sender, f"{sender.user} {turn} last {number}", answers)
        # In the same turn: none of these can have an answer that we have read.
        gateway.signal(signal.SIGKILL)
        await gateway.wait(5)
        return {uuid.UUID(bytes=reply.client_msg_id): reply.msg_id for sender in senders for reply in sender.replies}

    async def everything_once(
        self, gateway: GatewayProcess, senders: list[Person], bob: Person, results: dict[uuid.UUID, SendResult]
    ) -> None:
        """In the database, at the receiver, and on each of his connections."""
        await self.until(
            lambda: self.rows(gateway, "SELECT count(*) FROM im_c2c_message WHERE msg_status=3") == [(ALL,)],
            "all are delivered in the database",
        )
        stored = self.stored(gateway)
        self.assertEqual({row[0]: msg_id for msg_id, row in stored.items()}, {k: r.msg_id for k, r in results.items()})
        self.assertEqual({message.msg_id for message in bob.messages}, set(stored))
        self.assertEqual(len(bob.messages), ALL)
        twice = [push for push, times in Counter((at, m.msg_id) for at, m in bob.pushes).items() if times > 1]
        self.assertEqual(twice, [])
        # An answer may come twice (the repeat's) or as a state, never with another id.
        for sender in senders:
            ids = {(reply.client_msg_id, reply.msg_id) for reply in sender.replies}
            self.assertEqual(len(ids), len({key for key, _ in ids}))
        self.assertEqual(self.rows(gateway, "SELECT * FROM im_event_parked"), [])

    async def repeats_get_the_same_answer(self, gateway: GatewayProcess, ann: Person, bob: Person) -> None:
        """The log remembers over the kill what was sent under which clientMsgId."""
        for key, text, msg_id in [(k.bytes, c, m) for m, (k, c, _) in self.stored(gateway).items()][-ALL:]:
            if text.startswith(f"{ann.user} "):
                again = await ann.send(2001, text, client_msg_id=key)
                self.assertEqual(again.msg_id, msg_id)
                break
        pushes = len(bob.pushes)
        await ann.send(2001, "behind it")
        await bob.has("behind it")
        self.assertEqual(len(bob.pushes), pushes + 1)

    async def test_after_the_reply_before_the_push(self) -> None:
        """The receiver was away: he signs in within 50 ms of the next start's readiness and has it, once."""
        gateway = await self.started()
        ann = await self.online(gateway, 1001)
        for turn in range(2):
            sent = await ann.send(1002, f"turn {turn}")
            await gateway.kill9()
            bob = self.person(gateway, 1002)
            signing_in = bob.sign_in(30)
            gateway.spawn()
            await self.until(lambda: gateway.output().count("ready: ws://") == turn + 2, "ready", 30)  # noqa: B023
            ready = self.reactor.seconds()
            await signing_in
            self.assertLess(self.reactor.seconds() - ready, 1.0)
            await bob.has(f"turn {turn}")
            await ann.wait_for(lambda: ann.connections == turn + 2, "signed in again")  # noqa: B023
            await ann.send(1002, "barrier")
            await bob.has("barrier")
            self.assertEqual(bob.texts, [f"turn {turn}", "barrier"])
            self.assertEqual(len(bob.pushes), 2)
            await self.has_status(gateway, sent.msg_id, 3)
            await bob.leave()

    async def test_while_the_database_lags(self) -> None:
        """Killed with acknowledged messages that only the log holds: the next start brings them to the database
        before it lets anybody in, and the receiver has them in order."""
        gateway = await self.started()
        ann = await self.online(gateway, 1001)
        with closing(sqlite3.connect(gateway.data_dir / "business.db", isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            ids = [(await ann.send(1002, f"line {number}")).msg_id for number in range(50)]
            await gateway.kill9()
        self.assertEqual(self.stored(gateway), {})
        await gateway.start()
        self.assertEqual(sorted(self.stored(gateway)), ids)
        bob = await self.online(gateway, 1002)
        await bob.has("line 49")
        self.assertEqual(bob.texts, [f"line {number}" for number in range(50)])
        self.assertEqual(len(bob.pushes), 50)
