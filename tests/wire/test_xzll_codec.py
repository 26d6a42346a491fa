"""com.xzll.grpc.MessageService, byte for byte as the contract's tables have it."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from imconnect.model import MAX_ID, Message, Receipt, Withdrawal
from imconnect.wire import im_pb2, xzll_pb2
from imconnect.wire import xzll_codec as codec
from imconnect.wire.client_codec import encode_ack
from tests.support import TestCase

UUID = bytes(range(16))
#: toUserId 1, clientMsgId, msgId 2, (5) msgReceivedStatus, (7) receiveTime, as Java writes it.
ACK = "090100000000000000" + "1210" + UUID.hex() + "190200000000000000" + "28{:02x}" + "390300000000000000"
DECODERS = (
    codec.decode_server_ack, codec.decode_client_ack, codec.decode_withdraw, codec.decode_friend_request,
    codec.decode_friend_response, lambda data: codec.decode_transfer(data, 9),
)  # fmt: skip


def transfer(**fields: Any) -> bytes:
    """A C2C_SEND of 1 to 2 with msgId 3, or what is said instead."""
    values = {"clientMsgId": UUID, "msgId": 3, "from": 1, "to": 2, "format": 1, "content": "hi", "time": 4, **fields}
    payload = im_pb2.C2CSendReq(**values).SerializeToString()
    return im_pb2.ImProtoRequest(type=im_pb2.C2C_SEND, payload=payload).SerializeToString()


class RequestTests(TestCase):
    def test_server_ack(self) -> None:
        """Status 1; nobody says who the receiver is."""
        self.assertEqual(codec.decode_server_ack(bytes.fromhex(ACK.format(1))), Receipt(2, UUID, 1, 0, 1))

    def test_client_ack(self) -> None:
        """Status 3 or 4."""
        for status in (3, 4):
            self.assertEqual(codec.decode_client_ack(bytes.fromhex(ACK.format(status))), Receipt(2, UUID, 1, 0, status))

    def test_withdraw(self) -> None:
        """The receiver is told; fields 1, 2 and 4."""
        data = bytes.fromhex("090100000000000000" + "110200000000000000" + "210300000000000000")
        self.assertEqual(codec.decode_withdraw(data), Withdrawal(2, 3, 1))

    def test_friends(self) -> None:
        """Passed on byte for byte, members that nobody knows included, as types 11 and 12."""
        data = bytes.fromhex("090100000000000000" + "2203416e6e" + "b8060a")
        for decode, type_ in ((codec.decode_friend_request, 11), (codec.decode_friend_response, 12)):
            passed = decode(data)
            self.assertEqual(passed, codec.PassedOn(1, type_, data))
            self.assertEqual(passed.frame(1).hex(), f"08{type_:02x}12{len(data):02x}" + data.hex() + "1801")

    def test_transfer(self) -> None:
        """A message with its own id; its time is now where it has none."""
        self.assertEqual(codec.decode_transfer(transfer(), 9), Message(3, UUID, 1, 2, 1, "hi", 4, 9))
        self.assertEqual(codec.decode_transfer(transfer(time=0), 9).time, 9)

    def test_answers(self) -> None:
        """`success` goes with code 1 alone."""
        self.assertEqual(codec.encode_answer(1).hex(), "08012001")
        answer = xzll_pb2.WebBaseResponse.FromString(codec.encode_answer(-200, "no"))
        self.assertEqual((answer.code, answer.message, answer.success), (-200, "no", False))


class BadRequestTests(TestCase):
    def refused(self, decode: object, data: bytes, why: str, code: int = -1) -> None:
        error = self.assertRaises(codec.Unreadable, decode, data)
        self.assertEqual((str(error), error.code), (why, code))

    def test_wrong_fields(self) -> None:
        """The answer says which."""
        ack = xzll_pb2.ServerAckPush(toUserId=1, clientMsgId=UUID, msgId=2, msgReceivedStatus=1)
        for field, value, why in (
            ("toUserId", 0, "toUserId must be 1 to 2^63-1"),
            ("toUserId", MAX_ID + 1, "toUserId must be 1 to 2^63-1"),
            ("msgId", 0, "msgId must be 1 to 2^63-1"),
            ("clientMsgId", b"short", "clientMsgId must be 16 bytes or none"),
            ("msgReceivedStatus", 3, "msgReceivedStatus must be 1"),
        ):
            wrong = xzll_pb2.ServerAckPush()
            wrong.CopyFrom(ack)
            setattr(wrong, field, value)
            self.refused(codec.decode_server_ack, wrong.SerializeToString(), why)
        self.refused(codec.decode_client_ack, ack.SerializeToString(), "msgReceivedStatus must be 3 or 4")
        self.refused(codec.decode_withdraw, b"\x09" + bytes(7) + b"\x01", "msgId must be 1 to 2^63-1")
        self.refused(codec.decode_friend_request, b"", "toUserId must be 1 to 2^63-1")

    def test_wrong_transfers(self) -> None:
        """Another type is not supported; a send needs everything that a message has, its id too."""
        decode = DECODERS[-1]
        why = "type 2 cannot be transferred, only C2C_SEND (1)"
        self.refused(decode, encode_ack(UUID, 3, 1, 3), why, -200)
        self.refused(decode, b"", "type 0 cannot be transferred, only C2C_SEND (1)", -200)
        for field, value, why in (
            ("msgId", 0, "msgId must be 1 to 2^63-1"),
            ("from", 0, "from must be 1 to 2^63-1"),
            ("to", MAX_ID + 1, "to must be 1 to 2^63-1"),
            ("clientMsgId", b"x", "clientMsgId must be 16 bytes or none"),
            ("content", "", "content is empty"),
            ("format", 11, "format must be 0-10"),
        ):
            self.refused(decode, transfer(**{field: value}), why)

    def test_no_message_at_all(self) -> None:
        """Says what was expected."""
        names = ("ServerAckPush", "ClientAckPush", "WithdrawPush", "FriendRequestPush", "FriendResponsePush", "ImProtoRequest")
        for decode, name in zip(DECODERS, names, strict=True):
            self.refused(decode, b"\xff\xff", f"this is no {name}")
        self.refused(DECODERS[-1], b"\x08\x01\x12\x01\xff", "this is no C2CSendReq")

    @given(st.binary(max_size=100))
    def test_any_bytes(self, data: bytes) -> None:
        """The one error is Unreadable."""
        for decode in DECODERS:
            with contextlib.suppress(codec.Unreadable):
                decode(data)
