"""The client's side of the wire: requests to frames, and what the server sends back.

Written for being read: a client's own machine has time. Both dialects are understood; `code` is passed on as it is,
since 0 means success in one and failure in the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from google.protobuf.message import DecodeError as ProtobufError

from imconnect.errors import DecodeError
from imconnect.model import MessageState
from imconnect.wire import im_pb2
from imconnect.wire.fields import blob, fixed, number, varint
from imconnect.wire.requests import Command


class Pushed(NamedTuple):
    """A message for this user (C2C_MSG_PUSH)."""

    msg_id: int
    client_msg_id: bytes
    sender: int
    receiver: int
    format: int
    content: str
    #: ms since 1970, by the sender's clock.
    time: int
    code: int


class SendReply(NamedTuple):
    """What became of a send of ours: status 1 stored, -1 refused (then msg_id is 0, `code` and `msg` say why)."""

    client_msg_id: bytes
    msg_id: int
    sender: int
    receiver: int
    status: int
    code: int
    msg: str


class ReceiptReply(NamedTuple):
    """The receiver has (3) or has read (4) a message of ours; any other status of a C2C_ACK also comes as this."""

    client_msg_id: bytes
    msg_id: int
    sender: int
    receiver: int
    status: int
    code: int


class WithdrawNotice(NamedTuple):
    """A message was taken back (C2C_WITHDRAW); it may be one that was never shown here."""

    msg_id: int
    sender: int
    receiver: int
    code: int


class WithdrawReply(NamedTuple):
    """What became of a withdrawal of ours."""

    msg_id: int
    client_msg_id: bytes
    success: bool
    #: Why not, in plain words.
    message: str
    timestamp: int
    code: int


class IdsReply(NamedTuple):
    """Fresh message ids."""

    ids: tuple[int, ...]
    code: int


class StatesReply(NamedTuple):
    """What became of messages of ours, in the order in which we asked."""

    states: tuple[MessageState, ...]
    code: int


class Other(NamedTuple):
    """An answer with nothing but a code, or of a type that this client does not read."""

    type: int
    code: int
    msg: str


Response = Pushed | SendReply | ReceiptReply | WithdrawNotice | WithdrawReply | IdsReply | StatesReply | Other

_SEND_STATUSES = (1, -1)


def encode_send(client_msg_id: bytes, to: int, content: str, format: int = 1, time: int = 0) -> bytes:
    """C2C_SEND. `client_msg_id` is a UUID's 16 bytes, new for every message and the same in every repeat of it."""
    payload = (
        blob(b"\x0a", client_msg_id)
        + fixed(b"\x21", to)
        + number(b"\x28", format)
        + blob(b"\x32", content.encode())
        + fixed(b"\x39", time)
    )
    return _request(Command.C2C_SEND, payload)


def encode_ack(client_msg_id: bytes, msg_id: int, sender: int, status: int, receiver: int = 0) -> bytes:
    """C2C_ACK: we have (3) or have read (4) a message of `sender`; `receiver` is oneself and may be left out."""
    payload = (
        blob(b"\x0a", client_msg_id)
        + fixed(b"\x11", msg_id)
        + fixed(b"\x19", receiver)
        + fixed(b"\x21", sender)
        + number(b"\x28", status)
    )
    return _request(Command.C2C_ACK, payload)


def encode_withdraw(msg_id: int, to: int) -> bytes:
    """C2C_WITHDRAW: take back a message that we sent to `to`."""
    return _request(Command.C2C_WITHDRAW, fixed(b"\x09", msg_id) + fixed(b"\x19", to))


def encode_withdraw_send(msg_id: int, client_msg_id: bytes, time: int) -> bytes:
    """WITHDRAW_MSG_SEND: the same in the Go dialect, with our clock (ms)."""
    payload = fixed(b"\x09", msg_id) + blob(b"\x12", client_msg_id) + fixed(b"\x19", time)
    return _request(Command.WITHDRAW_MSG_SEND, payload)


def encode_get_msg_ids(user: int = 0) -> bytes:
    """GET_BATCH_MSG_IDS; the server takes the user from the session."""
    return _request(Command.GET_BATCH_MSG_IDS, fixed(b"\x09", user))


def encode_state_query(client_msg_ids: Iterable[bytes]) -> bytes:
    """MSG_STATE_QUERY: what became of these messages that we sent; 1 to 100 of them."""
    return _request(Command.MSG_STATE_QUERY, b"".join(b"\x0a" + varint(len(each)) + each for each in client_msg_ids))


def decode_response(data: bytes) -> Response:
    """One frame from the server. DecodeError where it is no ImProtoResponse or its payload is not what it promises."""
    try:
        outer = im_pb2.ImProtoResponse.FromString(data)
        payload = outer.payload
        read = _READERS.get(outer.type) if payload else None
        return read(payload, outer) if read else Other(outer.type, outer.code, outer.msg)
    except ProtobufError:
        raise DecodeError("not an ImProtoResponse") from None


def _request(command: Command, payload: bytes) -> bytes:
    return number(b"\x08", command) + blob(b"\x12", payload)


def _pushed(payload: bytes, outer: im_pb2.ImProtoResponse) -> Response:
    push = im_pb2.C2CMsgPush.FromString(payload)
    return Pushed(push.msgId, push.clientMsgId, _from(push), push.to, push.format, push.content, push.time, outer.code)


def _acknowledged(payload: bytes, outer: im_pb2.ImProtoResponse) -> Response:
    ack = im_pb2.C2CAckReq.FromString(payload)
    # In every C2C_ACK from a server `to` is who is told: the sender of the message.
    if ack.status in _SEND_STATUSES:
        return SendReply(ack.clientMsgId, ack.msgId, ack.to, _from(ack), ack.status, outer.code, outer.msg)
    return ReceiptReply(ack.clientMsgId, ack.msgId, ack.to, _from(ack), ack.status, outer.code)


def _withdrawn(payload: bytes, outer: im_pb2.ImProtoResponse) -> Response:
    notice = im_pb2.C2CWithdrawReq.FromString(payload)
    return WithdrawNotice(notice.msgId, _from(notice), notice.to, outer.code)


def _withdraw_answer(payload: bytes, outer: im_pb2.ImProtoResponse) -> Response:
    reply = im_pb2.WithdrawMsgResponse.FromString(payload)
    return WithdrawReply(
        reply.msgId, reply.clientMsgId, reply.success, reply.message or outer.msg, reply.timestamp, outer.code
    )


def _ids(payload: bytes, outer: im_pb2.ImProtoResponse) -> Response:
    return IdsReply(tuple(im_pb2.BatchMsgIdsPush.FromString(payload).msgIds), outer.code)


def _states(payload: bytes, outer: im_pb2.ImProtoResponse) -> Response:
    rows = im_pb2.MsgState.FromString(payload).rows
    return StatesReply(tuple(MessageState(row.clientMsgId, row.msgId, row.state) for row in rows), outer.code)


def _from(message: im_pb2.C2CMsgPush | im_pb2.C2CAckReq | im_pb2.C2CWithdrawReq) -> int:
    sender: int = getattr(message, "from")  # a keyword of Python: no other spelling
    return sender


_READERS = {
    Command.C2C_MSG_PUSH.value: _pushed,
    Command.C2C_ACK.value: _acknowledged,
    Command.C2C_WITHDRAW.value: _withdrawn,
    Command.WITHDRAW_MSG_RESPONSE.value: _withdraw_answer,
    Command.PUSH_BATCH_MSG_IDS.value: _ids,
    Command.MSG_STATE.value: _states,
}
