"""Taking a message back, through a real gateway and its database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from imconnect.client import Refused
from tests.live.case import LiveTestCase
from tests.live.people import Person


class WithdrawTests(LiveTestCase):
    settings: ClassVar[Mapping[str, Any]] = {"retry.delays": "[600]"}

    async def refused(self, person: Person, msg_id: int, to: int) -> Refused:
        """What the gateway says to a withdrawal that it does not take."""
        return await self.refusal(person.client.withdraw(msg_id, to).addTimeout(10, self.reactor))

    async def test_before_it_was_shown(self) -> None:
        """The receiver never sees it, only the notice, at every login; the sender is told at once."""
        gateway = await self.shared()
        ann = await self.online(gateway, 1101)
        taken_back = await ann.send(1102, "taken back")
        await ann.send(1102, "stays")
        await ann.client.withdraw(taken_back.msg_id, 1102)
        await ann.wait_for(lambda: (taken_back.msg_id, 1101) in ann.withdrawn, "for the notice")
        for connection in range(2):
            bob = await self.online(gateway, 1102)
            await bob.wait_for(lambda: bob.withdrawn == [(taken_back.msg_id, 1101)], "for the notice")  # noqa: B023
            await ann.send(1102, f"barrier {connection}")
            await bob.has(f"barrier {connection}")
            self.assertEqual(bob.texts, [["stays"], []][connection] + [f"barrier {connection}"])
            await bob.leave()
        self.assertEqual(
            self.rows(gateway, "SELECT withdraw_flag FROM im_c2c_message WHERE msg_id=?", taken_back.msg_id), [(1,)]
        )

    async def test_after_it_was_shown(self) -> None:
        """Both sides are told, on every connection; it counts as unread no more."""
        gateway = await self.shared()
        ann, desk = await self.online(gateway, 1201), await self.online(gateway, 1201)
        bob = await self.online(gateway, 1202)
        sent = await ann.send(1202, "hello")
        await ann.told(sent.msg_id, 3)
        await ann.client.withdraw(sent.msg_id, 1202)
        for person in (ann, desk, bob):
            await person.wait_for(lambda: person.withdrawn == [(sent.msg_id, 1201)], "for the notice")  # noqa: B023
        self.assertEqual(self.rows(gateway, "SELECT unread_count FROM im_session WHERE user_id=1202"), [(0,)])
        await ann.client.withdraw(sent.msg_id, 1202)
        await ann.send(1202, "behind the repeat")
        await bob.has("behind the repeat")
        self.assertEqual(len(bob.withdrawn), 1)

    async def test_pushed_and_not_acknowledged(self) -> None:
        """It is not pushed again, neither by the retry clock nor at the next login, nor after a kill -9."""
        gateway = await self.started({"retry.delays": "[1]"})
        ann = await self.online(gateway, 1001)
        deaf = await self.online(gateway, 1002, auto_ack=False)
        sent = await ann.send(1002, "hello")
        await deaf.has("hello")
        await ann.client.withdraw(sent.msg_id, 1002)
        later = await ann.send(1002, "proves that the clock runs")
        await deaf.wait_for(lambda: [p.msg_id for _, p in deaf.pushes].count(later.msg_id) == 2, "for the retry", 5)
        self.assertEqual([push.msg_id for _, push in deaf.pushes].count(sent.msg_id), 1)
        await deaf.leave()
        await gateway.kill9()
        await gateway.start()
        bob = await self.online(gateway, 1002)
        await bob.has("proves that the clock runs")
        self.assertEqual(bob.texts, ["proves that the clock runs"])
        self.assertEqual(bob.withdrawn, [(sent.msg_id, 1001)])

    async def test_too_late(self) -> None:
        """Refused in plain words after the window; nobody is told, the message stays."""
        gateway = await self.started({"limits.withdraw_window": 0.5})
        ann, bob = await self.online(gateway, 1001), await self.online(gateway, 1002)
        sent = await ann.send(1002, "hello")
        await self.until(lambda: self.reactor.seconds() * 1000 - bob.messages[0].time > 700 if bob.messages else 0, "age")
        error = await self.refused(ann, sent.msg_id, 1002)
        self.assertEqual(error.code, 403)
        self.assertIn("late", error.msg)
        await ann.send(1002, "barrier")
        await bob.has("barrier")
        self.assertEqual(bob.withdrawn + ann.withdrawn, [])

    async def test_somebody_elses(self) -> None:
        """Neither the receiver nor a third person can take it back, before and after it has left this node's memory."""
        gateway = await self.started({"limits.dedupe_window": 0, "limits.business_lag": 1})
        ann, eve = await self.online(gateway, 1001), await self.online(gateway, 1003)
        bob = await self.online(gateway, 1002)
        sent = await ann.send(1002, "hello")
        await ann.told(sent.msg_id, 3)
        for person in (bob, eve):
            self.assertEqual((await self.refused(person, sent.msg_id, 1002)).code, 403)
        self.assertEqual((await self.refused(ann, sent.msg_id + (10**6 << 22), 1002)).code, 404)
        self.assertEqual((await self.refused(ann, 5, 1002)).code, 404)
        await self.until(lambda: self.forgotten(gateway), "the gateway has forgotten it", 15)
        for person in (bob, eve):
            self.assertEqual((await self.refused(person, sent.msg_id, 1002)).code, 403)
        await ann.client.withdraw(sent.msg_id, 1002)
        await bob.wait_for(lambda: bob.withdrawn == [(sent.msg_id, 1001)], "for the notice")

    async def forgotten(self, gateway: object) -> bool:
        """Whether the gateway's own memory is empty, so that it has to ask the database."""
        answer = await gateway.get("/stats")  # type: ignore[attr-defined]
        return '"recent":{"rows":0' in answer.body
