"""The Java services call a gateway, with real gRPC stubs over loopback; the node behind it lives in fake time."""

from __future__ import annotations

from typing import Any

import grpc
from twisted.internet.threads import deferToThread

from imconnect.core.settings import XZLL
from imconnect.edge.grpc_server import GrpcServer
from imconnect.edge.java_service import JavaService
from imconnect.model import Applied
from imconnect.tap.listening import bind
from imconnect.wire import im_pb2, xzll_pb2
from imconnect.wire.client_codec import Other, Pushed, ReceiptReply, SendReply, WithdrawNotice, encode_send
from imconnect.wire.gateway_codec import HELLO, SERVICE, Party, decode_reply, encode_hello
from tests.core.rig import ALICE, BOB, CAROL, Rig, client_id
from tests.support import ReactorTestCase

UUID = client_id("hello")
Answer = tuple[int, bool, str]


class Stub:
    """`com.xzll.grpc.MessageService` as protoc's plugin makes it for a caller."""

    def __init__(self, channel: grpc.Channel) -> None:
        def call(name: str, request: Any) -> Any:
            return channel.unary_unary(
                f"/com.xzll.grpc.MessageService/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=xzll_pb2.WebBaseResponse.FromString,
            )

        self.ResponseServerAck2Client = call("ResponseServerAck2Client", xzll_pb2.ServerAckPush)
        self.ResponseClientAck2Client = call("ResponseClientAck2Client", xzll_pb2.ClientAckPush)
        self.SendWithdrawMsg2Client = call("SendWithdrawMsg2Client", xzll_pb2.WithdrawPush)
        self.PushFriendRequest2Client = call("PushFriendRequest2Client", im_pb2.FriendRequestPush)
        self.PushFriendResponse2Client = call("PushFriendResponse2Client", im_pb2.FriendResponsePush)
        self.TransferC2CMsg = call("TransferC2CMsg", im_pb2.ImProtoRequest)


class JavaServiceTestCase(ReactorTestCase):
    """Alice and Bob are here, Carol is not."""

    timeout = 60

    def setUp(self) -> None:
        from twisted.internet import reactor as running

        reactor: Any = running
        self.rig = Rig(profile=XZLL)
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        self.failing: Exception | None = None
        service = JavaService(reactor, self.rig.node, success=1, now_ms=self.rig.now_ms, fits=lambda m: len(m.content) < 100)
        bound = bind("127.0.0.1", 0, "grpc.port")
        self.server = GrpcServer(reactor, bound, self.tell, "g", [service.handler()])
        self.server.start()
        self.addCleanup(self.server.stop)

    def tell(self, applied: Applied) -> None:
        """Our own service is not meant here."""
        self.fail("told")

    async def raw(self, path: str, request: bytes) -> bytes:
        """Bytes in, bytes out."""

        def ask() -> bytes:
            with grpc.insecure_channel(f"127.0.0.1:{self.server.port}") as channel:
                call: Any = channel.unary_unary(path)
                answer: bytes = call(request, timeout=10)
                return answer

        return await deferToThread(ask)

    async def call(self, name: str, request: Any) -> Answer:
        """What a Java service is answered; the node has acted by then."""

        def ask() -> Answer:
            with grpc.insecure_channel(f"127.0.0.1:{self.server.port}") as channel:
                answer = getattr(Stub(channel), name)(request, timeout=10)
                return answer.code, answer.success, answer.message

        answer: Answer = await deferToThread(ask)
        self.rig.turn()
        return answer


def server_ack(user: int, **fields: Any) -> xzll_pb2.ServerAckPush:
    values = {"toUserId": user, "clientMsgId": UUID, "msgId": 5, "msgReceivedStatus": 1, "receiveTime": 9, **fields}
    return xzll_pb2.ServerAckPush(**values)


def transfer(msg_id: int, to: int, text: str = "hello") -> im_pb2.ImProtoRequest:
    """What another gateway accepted from Carol."""
    request = im_pb2.ImProtoRequest.FromString(encode_send(UUID, to, text, 1, 7))
    send = im_pb2.C2CSendReq.FromString(request.payload)
    send.msgId = msg_id
    setattr(send, "from", CAROL)
    request.payload = send.SerializeToString()
    return request


class CallTests(JavaServiceTestCase):
    async def test_server_ack(self) -> None:
        """C2C_ACK with status 1 and code 1, from 0, as Java's gateway makes it."""
        self.assertEqual(await self.call("ResponseServerAck2Client", server_ack(ALICE)), (1, True, ""))
        self.assertEqual(self.alice.got, [SendReply(UUID, 5, ALICE, 0, 1, 1, "")])
        self.assertEqual(self.bob.got, [])

    async def test_client_ack(self) -> None:
        """Delivered, then read, on all his connections."""
        phone = self.rig.sign_in(ALICE)
        for status in (3, 4):
            request = xzll_pb2.ClientAckPush(toUserId=ALICE, clientMsgId=UUID, msgId=5, msgReceivedStatus=status)
            self.assertEqual(await self.call("ResponseClientAck2Client", request), (1, True, ""))
        told = [ReceiptReply(UUID, 5, ALICE, 0, status, 1) for status in (3, 4)]
        self.assertEqual((self.alice.got, phone.got), (told, told))

    async def test_withdraw(self) -> None:
        """Both sides, as far as they are here, and the message is not pushed again."""
        self.alice.send(BOB, "oops")
        self.rig.turn()
        msg_id = self.rig.id_of("oops")
        self.alice.forget()
        request = xzll_pb2.WithdrawPush(toUserId=BOB, msgId=msg_id, fromUserId=ALICE)
        self.assertEqual(await self.call("SendWithdrawMsg2Client", request), (1, True, ""))
        notice = WithdrawNotice(msg_id, ALICE, BOB, 1)
        self.assertEqual((self.alice.got, self.bob.got[1:]), ([notice], [notice]))
        self.rig.advance(10)
        self.assertEqual(self.bob.shown, ["oops"])

    async def test_friends(self) -> None:
        """As it is, types 11 and 12, code 1."""
        request = im_pb2.FriendRequestPush(toUserId=BOB, requestId=UUID, fromUserId=ALICE, requestMessage="hi")
        self.assertEqual(await self.call("PushFriendRequest2Client", request), (1, True, ""))
        response = im_pb2.FriendResponsePush(toUserId=BOB, requestId=UUID, fromUserId=ALICE, status=1)
        self.assertEqual(await self.call("PushFriendResponse2Client", response), (1, True, ""))
        self.assertEqual(self.bob.got, [Other(11, 1, ""), Other(12, 1, "")])

    async def test_nobody_here(self) -> None:
        """-1 and why, for every call about somebody who is not signed in; nothing is pretended."""
        for name, request in (
            ("ResponseServerAck2Client", server_ack(CAROL)),
            ("ResponseClientAck2Client", xzll_pb2.ClientAckPush(toUserId=CAROL, msgId=5, msgReceivedStatus=3)),
            ("SendWithdrawMsg2Client", xzll_pb2.WithdrawPush(toUserId=CAROL, msgId=5, fromUserId=BOB)),
            ("PushFriendRequest2Client", im_pb2.FriendRequestPush(toUserId=CAROL)),
            ("PushFriendResponse2Client", im_pb2.FriendResponsePush(toUserId=CAROL)),
        ):
            self.assertEqual(await self.call(name, request), (-1, False, f"user {CAROL} is not signed in here"), name)
        self.assertEqual(self.alice.got, [])
        # The sender of what was withdrawn is here.
        self.assertEqual(self.bob.got, [WithdrawNotice(5, BOB, CAROL, 1)])
        self.assertEqual(dict(self.rig.metrics.receipts), {})

    async def test_our_own_service_is_beside_it(self) -> None:
        """On the same port."""

        answer = await self.raw(f"/{SERVICE}/{HELLO}", encode_hello(Party("b")))
        self.assertEqual(decode_reply(answer), Party("g"))


class TransferTests(JavaServiceTestCase):
    async def test_pushed(self) -> None:
        """To who is here, once, and again when nobody acknowledges it."""
        self.assertEqual(await self.call("TransferC2CMsg", transfer(77, BOB)), (1, True, ""))
        self.assertEqual(self.bob.got, [Pushed(77, UUID, CAROL, BOB, 1, "hello", 7, 1)])
        self.assertEqual(await self.call("TransferC2CMsg", transfer(77, BOB)), (1, True, ""))
        self.assertEqual(self.bob.shown, ["hello"])
        self.rig.advance(6)
        self.assertEqual((self.bob.shown, self.rig.log), (["hello"] * 2, []))

    async def test_acknowledged(self) -> None:
        """It ends here, and is not pushed again however often it is transferred."""
        msg_id = (self.rig.now_ms() - XZLL.epoch) << 22
        await self.call("TransferC2CMsg", transfer(msg_id, BOB))
        self.bob.ack(msg_id)
        self.rig.turn()
        self.assertEqual(self.rig.log, [f"ack 3 {msg_id}"])
        self.assertEqual(await self.call("TransferC2CMsg", transfer(msg_id, BOB)), (1, True, ""))
        self.rig.advance(400)
        self.assertEqual(self.bob.shown, ["hello"])

    async def test_not_here(self) -> None:
        """An OFFLINE event, and success, as Java has it."""
        self.assertEqual(await self.call("TransferC2CMsg", transfer(77, ALICE + 100)), (1, True, ""))
        self.assertEqual(self.rig.log, ["offline hello"])

    async def test_refused(self) -> None:
        """Another type, wrong fields, too large for the queue."""
        request = im_pb2.ImProtoRequest(type=im_pb2.C2C_ACK)
        code, success, _ = await self.call("TransferC2CMsg", request)
        self.assertEqual((code, success), (-200, False))
        answer = await self.call("TransferC2CMsg", transfer(0, BOB))
        self.assertEqual(answer, (-1, False, "msgId must be 1 to 2^63-1"))
        answer = await self.call("TransferC2CMsg", transfer(77, BOB, "x" * 100))
        self.assertEqual(answer, (-1, False, "content is too large"))
        self.assertEqual((self.bob.got, self.rig.log), ([], []))


class BadInputTests(JavaServiceTestCase):
    """gRPC's own status is always OK; never a traceback."""

    async def bytes_to(self, name: str, request: bytes) -> Answer:
        answer = xzll_pb2.WebBaseResponse.FromString(await self.raw(f"/com.xzll.grpc.MessageService/{name}", request))
        return answer.code, answer.success, answer.message

    async def test_wrong_fields(self) -> None:
        """The answer says which."""
        for fields, why in (
            ({"toUserId": 0}, "toUserId must be 1 to 2^63-1"),
            ({"msgReceivedStatus": 2}, "msgReceivedStatus must be 1"),
            ({"clientMsgId": b"x"}, "clientMsgId must be 16 bytes or none"),
        ):
            answer = await self.call("ResponseServerAck2Client", server_ack(ALICE, **fields))
            self.assertEqual(answer, (-1, False, why))
        self.assertEqual(self.alice.got, [])

    async def test_no_message_at_all(self) -> None:
        """Bytes that are none."""
        self.assertEqual(await self.bytes_to("ResponseServerAck2Client", b"\xff\xff"), (-1, False, "this is no ServerAckPush"))
        self.assertEqual(await self.bytes_to("TransferC2CMsg", b"\xff"), (-1, False, "this is no ImProtoRequest"))

    async def test_a_call_that_does_not_exist(self) -> None:
        """That, gRPC says itself."""
        with self.assertRaises(grpc.RpcError) as caught:
            await self.bytes_to("SendGroupMsg2Client", b"")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    async def test_a_node_that_fails(self) -> None:
        """Our bug: logged, and Java hears that it was not told."""

        def fail(applied: Applied) -> None:
            raise KeyError("bug")

        self.patch(self.rig.node, "tell", fail)
        self.assertEqual(await self.call("ResponseServerAck2Client", server_ack(ALICE)), (-1, False, "the node failed"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
