"""com.xzll.grpc.MessageService: what Java calls on a gateway (`xzll.proto`), as values.

The names of the six calls are those under which gRPC finds them. Everything that decodes raises Unreadable, whose
text says what is wrong with the request.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message as ProtobufMessage

from imconnect.model import MAX_ID, Message, Receipt, Status, Withdrawal
from imconnect.wire import im_pb2, xzll_pb2
from imconnect.wire.codec import encode_pass_on
from imconnect.wire.requests import Command

SERVICE = "com.xzll.grpc.MessageService"
SERVER_ACK, CLIENT_ACK, WITHDRAW = "ResponseServerAck2Client", "ResponseClientAck2Client", "SendWithdrawMsg2Client"
FRIEND_REQUEST, FRIEND_RESPONSE = "PushFriendRequest2Client", "PushFriendResponse2Client"
TRANSFER = "TransferC2CMsg"

#: Codes of the answers.
SUCCESS, ERROR, UNSUPPORTED = 1, -1, -200

_M = TypeVar("_M", bound=ProtobufMessage)


class Unreadable(ValueError):
    """A request that cannot be served. `code`: how it is answered."""

    def __init__(self, why: str, code: int = ERROR) -> None:
        super().__init__(why)
        self.code = code


class PassedOn(NamedTuple):
    """What is pushed to a user as it is: the payload of a frame of this type."""

    user: int
    type: int
    payload: bytes

    def frame(self, code: int) -> bytes:
        """As the client gets it."""
        return encode_pass_on(self.type, self.payload, code)


def decode_server_ack(data: bytes) -> Receipt:
    """Whom to tell that his message is stored; the receiver is not said (0)."""
    return _receipt(_parse(xzll_pb2.ServerAckPush(), data), (Status.STORED,))


def decode_client_ack(data: bytes) -> Receipt:
    """Whom to tell that his message was delivered or read; the receiver is not said (0)."""
    return _receipt(_parse(xzll_pb2.ClientAckPush(), data), (Status.DELIVERED, Status.READ))


def decode_withdraw(data: bytes) -> Withdrawal:
    """What was taken back."""
    push = _parse(xzll_pb2.WithdrawPush(), data)
    return Withdrawal(
        _id("msgId", push.msgId), _id("fromUserId", push.fromUserId), receiver=_id("toUserId", push.toUserId)
    )


def decode_friend_request(data: bytes) -> PassedOn:
    """Somebody wants to be a friend."""
    push = _parse(im_pb2.FriendRequestPush(), data)
    return PassedOn(_id("toUserId", push.toUserId), im_pb2.FRIEND_REQUEST, data)


def decode_friend_response(data: bytes) -> PassedOn:
    """What he who was asked says to that."""
    push = _parse(im_pb2.FriendResponsePush(), data)
    return PassedOn(_id("toUserId", push.toUserId), im_pb2.FRIEND_RESPONSE, data)


def decode_transfer(data: bytes, now_ms: int) -> Message:
    """A message that another gateway accepted. Its time of acceptance is not said: now."""
    outer = _parse(im_pb2.ImProtoRequest(), data)
    if int(outer.type) != Command.C2C_SEND:
        raise Unreadable(f"type {outer.type} cannot be transferred, only C2C_SEND ({Command.C2C_SEND:d})", UNSUPPORTED)
    send = _parse(im_pb2.C2CSendReq(), outer.payload)
    _check_client_msg_id(send.clientMsgId)
    if not send.content:
        raise Unreadable("content is empty")
    if not 0 <= send.format <= 10:
        raise Unreadable("format must be 0-10")
    return Message(
        _id("msgId", send.msgId),
        send.clientMsgId,
        _id("from", getattr(send, "from")),  # a keyword of Python: no other spelling
        _id("to", send.to),
        send.format,
        send.content,
        send.time or now_ms,
        now_ms,
    )


def encode_answer(code: int, message: str = "") -> bytes:
    """`success` is what Java looks at."""
    answer = xzll_pb2.WebBaseResponse(code=code, message=message, success=code == SUCCESS)
    return answer.SerializeToString()


def _receipt(push: xzll_pb2.ServerAckPush | xzll_pb2.ClientAckPush, statuses: Collection[int]) -> Receipt:
    _check_client_msg_id(push.clientMsgId)
    if push.msgReceivedStatus not in statuses:
        raise Unreadable(f"msgReceivedStatus must be {' or '.join(str(int(status)) for status in statuses)}")
    user, msg_id = _id("toUserId", push.toUserId), _id("msgId", push.msgId)
    return Receipt(msg_id, push.clientMsgId, user, 0, push.msgReceivedStatus)


def _parse(message: _M, data: bytes) -> _M:
    try:
        message.ParseFromString(data)
    except ProtobufError:
        raise Unreadable(f"this is no {message.DESCRIPTOR.name}") from None
    return message


def _id(name: str, value: int) -> int:
    if not 0 < value <= MAX_ID:
        raise Unreadable(f"{name} must be 1 to 2^63-1")
    return value


def _check_client_msg_id(client_msg_id: bytes) -> None:
    if len(client_msg_id) not in (0, 16):
        raise Unreadable("clientMsgId must be 16 bytes or none")
