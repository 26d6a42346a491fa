"""Two people chat through a real gateway."""

from __future__ import annotations

from tests.live.case import LiveTestCase


class ChatTests(LiveTestCase):
    async def test_both_ways(self) -> None:
        """Each is shown what the other wrote, from whom, once, and in the order in which it was written."""
        gateway = await self.shared()
        ann, bob = await self.online(gateway, 1101), await self.online(gateway, 1102)
        for number in range(20):
            await ann.send(1102, f"question {number}")
            await bob.send(1101, f"answer {number}")
        await bob.has("question 19")
        await ann.has("answer 19")
        self.assertEqual(bob.texts, [f"question {number}" for number in range(20)])
        self.assertEqual(ann.texts, [f"answer {number}" for number in range(20)])
        self.assertEqual({message.sender for message in bob.messages}, {1101})
        self.assertEqual(len(bob.pushes), 20)

    async def test_receipts_on_all_connections(self) -> None:
        """Delivered, then read: told once each, on both of the sender's connections."""
        gateway = await self.shared()
        phone, desk = await self.online(gateway, 1201, device="phone"), await self.online(gateway, 1201, device="desk")
        bob = await self.online(gateway, 1202)
        sent = await phone.send(1202, "hello")
        await phone.told(sent.msg_id, 3)
        await desk.told(sent.msg_id, 3)
        bob.client.read(sent.msg_id)
        await phone.told(sent.msg_id, 4)
        await desk.told(sent.msg_id, 4)
        bob.client.read(sent.msg_id)
        await phone.send(1202, "behind the repeated receipt")
        await desk.wait_for(lambda: len(desk.receipts) == 3, "for the second message's receipt")
        self.assertEqual([status for msg_id, status in phone.receipts if msg_id == sent.msg_id], [3, 4])
        self.assertEqual([status for msg_id, status in desk.receipts if msg_id == sent.msg_id], [3, 4])
        await self.has_status(gateway, sent.msg_id, 4)

    async def test_every_device_of_the_receiver(self) -> None:
        """Both of the receiver's connections are pushed everything; what one acknowledged ends for both."""
        gateway = await self.shared()
        phone = await self.online(gateway, 1502, device="phone")
        desk = await self.online(gateway, 1502, device="desk", auto_ack=False)
        ann = await self.online(gateway, 1501)
        sent = await ann.send(1502, "hello")
        await phone.has("hello")
        await desk.has("hello")
        await ann.told(sent.msg_id, 3)
        late = await self.online(gateway, 1502, device="late")
        await ann.send(1502, "second")
        await late.has("second")
        self.assertEqual(late.texts, ["second"])
        self.assertEqual(desk.texts, ["hello", "second"])

    async def test_what_was_missed_comes_at_login(self) -> None:
        """Oldest first, before anything live, once; and not again after it was acknowledged."""
        gateway = await self.shared()
        ann = await self.online(gateway, 1301)
        ids = [(await ann.send(1302, f"missed {number}")).msg_id for number in range(250)]
        bob = self.person(gateway, 1302)
        signing_in = bob.sign_in()
        live = [ann.client.send(1302, f"live {number}") for number in range(20)]
        await signing_in
        await bob.has("live 19")
        for answer in live:
            await answer
        expected = [f"missed {number}" for number in range(250)] + [f"live {number}" for number in range(20)]
        self.assertEqual(bob.texts, expected)
        self.assertEqual(len(bob.pushes), 270)
        await ann.told(ids[-1], 3)
        await bob.leave()
        again = await self.online(gateway, 1302)
        await ann.send(1302, "the next day")
        await again.has("the next day")
        self.assertEqual(again.texts, ["the next day"])

    async def test_unacknowledged_comes_again(self) -> None:
        """After the first delay on the same connection, and once more at the next login; never in between."""
        gateway = await self.started({"retry.delays": "[1.5]"})
        ann = await self.online(gateway, 1001)
        deaf = await self.online(gateway, 1002, auto_ack=False)
        sent = await ann.send(1002, "hello")
        await deaf.has("hello")
        first = self.reactor.seconds()
        await deaf.wait_for(lambda: len(deaf.pushes) == 2, "for the second push", 5)
        self.assertGreaterEqual(self.reactor.seconds() - first, 1.2)
        await deaf.leave()
        bob = await self.online(gateway, 1002)
        await ann.told(sent.msg_id, 3)
        self.assertEqual(bob.texts, ["hello"])

    async def test_note_to_oneself(self) -> None:
        """It is pushed to him, there is one session row and nothing that he could read counts as sent to others."""
        gateway = await self.shared()
        ann = await self.online(gateway, 1401)
        sent = await ann.send(1401, "milk")
        await ann.has("milk")
        await self.has_status(gateway, sent.msg_id, 3)
        self.assertEqual(self.rows(gateway, "SELECT user_id, peer_id FROM im_session WHERE user_id=?", 1401), [(1401, 1401)])

    async def test_history_survives_a_restart(self) -> None:
        """What was written is in the database after an orderly stop; unread counts and sessions of both are right."""
        gateway = await self.started()
        ann, bob = await self.online(gateway, 1001), await self.online(gateway, 1002)
        for number in range(5):
            sent = await ann.send(1002, f"line {number}")
        await ann.told(sent.msg_id, 3)
        bob.client.read(sent.msg_id)
        await ann.told(sent.msg_id, 4)
        self.assertEqual(await gateway.stop(), -15)
        await gateway.restart()
        rows = self.rows(gateway, "SELECT content, msg_status FROM im_c2c_message ORDER BY msg_id")
        self.assertEqual(rows, [("line 0", 3), ("line 1", 3), ("line 2", 3), ("line 3", 3), ("line 4", 4)])
        sessions = self.rows(gateway, "SELECT user_id, last_msg_id, unread_count FROM im_session ORDER BY user_id")
        self.assertEqual(sessions, [(1001, sent.msg_id, 0), (1002, sent.msg_id, 4)])
        self.assertEqual(self.rows(gateway, "SELECT * FROM im_offline_message"), [])
        await bob.wait_for(lambda: bob.connections == 2, "signed in again by himself")
        await ann.send(1002, "after the restart")
        await bob.has("after the restart")
        self.assertEqual(len(bob.pushes), 6)

    async def test_ids_are_never_given_twice(self) -> None:
        """100 fresh ones at each request, over a restart too, and none of them a message's."""
        gateway = await self.started()
        ann = await self.online(gateway, 1001)
        ids = await ann.client.batch_ids()
        ids += await ann.client.batch_ids()
        sent = [(await ann.send(1002, "one")).msg_id]
        await gateway.kill9()
        await gateway.restart()
        await ann.wait_for(lambda: ann.connections == 2, "signed in again")
        ids += await ann.client.batch_ids()
        sent += [(await ann.send(1002, "two")).msg_id]
        self.assertEqual(len(ids), 300)
        self.assertEqual(len(set(ids + sent)), 302)
