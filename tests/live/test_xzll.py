"""Profile xzll end to end: two people chat, business tells the sender, and the queue holds what Java reads."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import grpc
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from imconnect.events.dialect import java_queue
from imconnect.model import Status
from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.messages import StoredMessage
from imconnect.wire import xzll_pb2
from imconnect.wire.client_codec import ReceiptReply, SendReply, WithdrawNotice
from imconnect.wire.ids import XZLL_EPOCH, chat_id, time_of, uuid_text
from tests.live.case import LiveTestCase
from tests.live.people import Person
from tests.live.processes import GatewayProcess, free_port
from tests.live.test_imbusiness import QUEUES, ImbusinessTestCase

ANN, BOB, CAT = 1701, 1702, 1703


async def chat(ann: Person, bob: Person) -> tuple[int, int]:
    """Ann writes twice; Bob has both, reads the first, the second is taken back; -> their msgIds."""
    first, second = await ann.send(bob.user, "你好 😀"), await ann.send(bob.user, "oops")
    await bob.has("你好 😀", "oops")
    await ann.told(second.msg_id, Status.DELIVERED)
    bob.client.read(first.msg_id)
    await ann.told(first.msg_id, Status.READ)
    await ann.client.withdraw(second.msg_id, bob.user)
    await ann.wait_for(lambda: (second.msg_id, ann.user) in ann.withdrawn, "for the withdrawal")
    await bob.wait_for(lambda: (second.msg_id, ann.user) in bob.withdrawn, "for the withdrawal")
    return first.msg_id, second.msg_id


class EmbeddedTests(LiveTestCase):
    """Everything in one process."""

    settings: ClassVar[dict[str, Any]] = {"profile": "xzll", "grpc.port": free_port()}

    async def test_two_people_chat(self) -> None:
        """Answers say 1, `from` is the receiver and `to` the sender; ids are of Java's time."""
        gateway = await self.shared()
        ann, bob = await self.online(gateway, ANN), await self.online(gateway, BOB)
        first, second = await chat(ann, bob)
        stored = [(reply.msg_id, reply.sender, reply.receiver, reply.status, reply.code) for reply in ann.replies]
        self.assertEqual(stored, [(first, ANN, BOB, 1, 1), (second, ANN, BOB, 1, 1)])
        receipts = [(frame.msg_id, frame.status, frame.code) for frame in ann.frames if isinstance(frame, ReceiptReply)]
        self.assertEqual(sorted(receipts), [(first, 3, 1), (first, 4, 1), (second, 3, 1)])
        self.assertEqual([push.code for _, push in bob.pushes], [1, 1])
        self.assertEqual([frame.code for frame in bob.frames if isinstance(frame, WithdrawNotice)], [1])
        self.assertLess(abs(time_of(first, XZLL_EPOCH) - bob.messages[0].time), 60_000)
        rows = self.rows(gateway, "SELECT msg_id, msg_status, withdraw_flag FROM im_c2c_message WHERE from_id=?", ANN)
        self.assertEqual(sorted(rows), [(first, 4, 0), (second, 3, 1)])

    async def test_missed_and_refused(self) -> None:
        """What somebody missed comes when he signs in; refusals are the gateway's, with Java's codes."""
        gateway = await self.shared()
        ann = await self.online(gateway, ANN + 10)
        sent = await ann.send(CAT, "later")
        cat = await self.online(gateway, CAT)
        await cat.has("later")
        await ann.told(sent.msg_id, Status.DELIVERED)
        self.assertEqual((await self.refusal(ann.send(CAT, ""))).code, -1)
        self.assertEqual((await self.refusal(ann.send(CAT, "x" * 5000))).code, -1)
        self.assertEqual((await self.refusal(cat.client.withdraw(sent.msg_id, ANN))).code, -1)
        self.assertEqual(len(await ann.client.batch_ids()), 100)

    async def test_killed(self) -> None:
        """kill -9 with sends under way: every one is answered in the end, once in the database."""
        gateway = await self.started({"grpc.port": free_port()})
        ann = await self.online(gateway, ANN)
        answers = [ann.client.send(BOB, f"message {number}") for number in range(300)]
        await ann.wait_for(lambda: len(ann.replies) >= 20, "for some answers")
        await gateway.kill9()
        await gateway.start()
        ids = [(await answer.addTimeout(20, self.reactor)).msg_id for answer in answers]
        self.assertEqual(len(set(ids)), 300)
        self.assertEqual(sorted(self.stored(gateway, ANN)), sorted(ids))

    async def test_java_tells(self) -> None:
        """com.xzll.grpc.MessageService on the gRPC port."""
        gateway = await self.shared()
        ann = await self.online(gateway, ANN + 20)

        def tell(user: int) -> xzll_pb2.WebBaseResponse:
            push = xzll_pb2.ServerAckPush(toUserId=user, clientMsgId=bytes(16), msgId=5, msgReceivedStatus=1)
            with grpc.insecure_channel(f"127.0.0.1:{self.settings['grpc.port']}") as channel:
                call: Any = channel.unary_unary("/com.xzll.grpc.MessageService/ResponseServerAck2Client")
                return xzll_pb2.WebBaseResponse.FromString(call(push.SerializeToString(), timeout=10))

        self.assertTrue((await deferToThread(tell, ANN + 20)).success)
        await ann.wait_for(lambda: ann.replies == [SendReply(bytes(16), 5, ANN + 20, 0, 1, 1, "")], "for the server ACK")
        answer = await deferToThread(tell, 99)
        self.assertEqual((answer.success, answer.code), (False, -1))


class RocketmqTests(ImbusinessTestCase):
    """Gateway -> RocketMQ -> imbusiness -> database, and back over gRPC."""

    async def gateway_up(self) -> tuple[GatewayProcess, dict[str, Any]]:
        """A gateway, and how imbusiness is told of it."""
        port = free_port()
        gateway = await self.started(
            {
                "profile": "xzll",
                "rocketmq.server_addr": self.broker.namesrv,
                "rocketmq.topic": self.topic,
                "business.mode": "off",
                "business.database": self.url,
                "grpc.port": port,
            }
        )
        return gateway, {"profile": "xzll", "business__gateways": f"[127.0.0.1:{port}]"}

    async def test_two_people_chat(self) -> None:
        """And what lies in the topic is what the contract's tables say, read back by an independent pull."""
        gateway, settings = await self.gateway_up()
        business = await self.up(**settings)
        ann, bob = await self.online(gateway, ANN), await self.online(gateway, BOB)
        first, second = await chat(ann, bob)
        missed = (await ann.send(CAT, "later")).msg_id
        rows = await self.query("SELECT msg_id, msg_status, withdraw_flag FROM im_c2c_message ORDER BY msg_id")
        self.assertEqual([row[0] for row in rows], sorted([first, second, missed]))
        await self.until(lambda: len(ann.replies) == 3, "three server ACKs")
        self.assertEqual({(reply.status, reply.code) for reply in ann.replies}, {(1, 1)})
        told = json.loads(json.dumps((await business.stats())["gateways"]))
        self.assertEqual([(each["failed"], each["dropped"]) for each in told.values()], [(0, 0)])
        await self.check_topic(ann, (first, "你好 😀", BOB), (second, "oops", BOB), (missed, "later", CAT))

    async def test_business_comes_later(self) -> None:
        """The receiver has the message at once; its sender hears of it when business has it, his repeat at once."""
        gateway, settings = await self.gateway_up()
        ann, bob = await self.online(gateway, ANN), await self.online(gateway, BOB)
        key = bytes(range(16))
        answer: Deferred[Any] = ann.client.send(BOB, "hello", client_msg_id=key)
        await bob.has("hello")
        self.assertEqual((ann.replies, answer.called), ([], False))
        desk = await self.online(gateway, ANN)
        again = await desk.send(BOB, "hello", client_msg_id=key)
        self.assertEqual((again.msg_id, bob.texts, ann.replies), (bob.messages[0].msg_id, ["hello"], []))
        await self.up(**settings)
        self.assertEqual((await answer.addTimeout(30, self.reactor)).msg_id, again.msg_id)

    async def test_one_process_consumes_too(self) -> None:
        """business.mode embedded with RocketMQ: no gRPC between them."""
        gateway = await self.started(
            {
                "profile": "xzll",
                "rocketmq.server_addr": self.broker.namesrv,
                "rocketmq.topic": self.topic,
                "rocketmq.consumer.group_name": f"G{self.topic}",
                "business.database": self.url,
                "grpc.port": free_port(),
            }
        )
        ann, bob = await self.online(gateway, ANN), await self.online(gateway, BOB)
        sent = await ann.send(BOB, "hello", within=40)
        await bob.has("hello")
        await ann.told(sent.msg_id, Status.DELIVERED, within=40)
        self.assertEqual([(reply.status, reply.code) for reply in ann.replies], [(1, 1)])
        self.assertNotIn("Traceback", gateway.output())

    async def check_topic(self, ann: Person, *messages: tuple[int, str, int]) -> None:
        """Every event of these messages, member by member."""
        admin, events = Admin(self.client), dict[int, list[dict[str, Any]]]()
        for queue in self.queues:
            for message in await admin.read_all(queue):
                envelope = self.java_envelope(message)
                data = json.loads(envelope["data"])
                events.setdefault(int(data["msgId"]), []).append({**envelope, "data": data})
                self.assertEqual(queue.number, java_queue(data["msgId"], QUEUES))
        self.assertEqual(set(events), {msg_id for msg_id, _, _ in messages})
        keys = {reply.msg_id: uuid_text(reply.client_msg_id) for reply in ann.replies}
        for msg_id, content, to in messages:
            got = events[msg_id]
            created = got[0]["createTime"]
            whose = {"clientMsgId": keys[msg_id], "msgId": str(msg_id), "fromUserId": str(ANN), "toUserId": str(to)}
            chat = {"chatId": chat_id(ANN, to)}
            sent = {**whose, "msgFormat": 1, "msgContent": content, "msgCreateTime": created, **chat}
            ack = {**whose, "fromUserId": str(to), "toUserId": str(ANN), "msgIds": [str(msg_id)], **chat}
            back = {name: value for name, value in whose.items() if name != "clientMsgId"} | {"withdrawFlag": 1, **chat}
            wanted = {
                "你好 😀": [(10, sent), (30, {**ack, "msgStatus": 3}), (30, {**ack, "msgStatus": 4})],
                "oops": [(10, sent), (30, {**ack, "msgStatus": 3}), (40, back)],
                "later": [(10, sent), (20, {**sent, "msgStatus": 2})],
            }[content]
            self.assertEqual([(event["clusterEventType"], event["data"]) for event in got], wanted)

    def java_envelope(self, message: StoredMessage) -> dict[str, Any]:
        """As it lies there: UTF-8 as it is, no tag, no key, no null."""
        self.assertEqual((message.tags, message.keys), ("", ""))
        self.assertNotIn("RECEIPT", message.properties)
        self.assertNotIn(b"\\u", message.body)
        envelope: dict[str, Any] = json.loads(message.body)
        self.assertEqual([*envelope], ["clusterEventType", "data", "createTime"])
        self.assertEqual([type(value) for value in envelope.values()], [int, str, int])
        return envelope
