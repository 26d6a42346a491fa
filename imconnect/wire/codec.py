"""The server's side of the wire: frames from clients to requests, and the answers to frames.

On the ordinary path of a message nothing of protobuf's own runtime is used: the frames that real clients send are read
where they lie, and everything that leaves is put together from bytes. Tests hold both to the runtime's results, byte
by byte. (Its message objects cost two to three times as much, and reusing one is no way out: parsing into an object
again and again never gives the memory of the earlier parses back.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from struct import Struct

from google.protobuf.message import DecodeError as ProtobufError

from imconnect.errors import DecodeError
from imconnect.model import Message, MessageState, Receipt, Status, Withdrawal
from imconnect.wire import im_pb2
from imconnect.wire.fields import blob, fixed, number, varint
from imconnect.wire.requests import (
    Ack,
    Command,
    KeepAlive,
    Malformed,
    MsgIds,
    Request,
    Send,
    StateQuery,
    Unknown,
    Withdraw,
)

_KEEP_ALIVE = KeepAlive()
_MSG_IDS = MsgIds()

#: A named tuple without the Python frame of its constructor.
_make = tuple.__new__
_u64 = Struct("<Q").unpack_from
#: Tags and values of a send up to the length of its content; the second without `from`.
_send_with_from = Struct("<H16sB8xBQBBBB").unpack_from
_send_without_from = Struct("<H16sBQBBBB").unpack_from
#: clientMsgId, msgId, from, to, status behind the tags of an ACK; the second without `from`.
_ack_with_from = Struct("<6x16sBQB8xBQBB").unpack
_ack_without_from = Struct("<6x16sBQBQBB").unpack
#: A pushed message in which everything is set, up to the length of its content (48 bytes), and its end (9).
_push_head = Struct("<H16sBQBQBQBBB").pack
_time = Struct("<BQ").pack
#: A whole ack frame of the ordinary kind: everything is set.
_ack_frame = Struct("<6s16sBQBQBQBB").pack
_ACK_HEAD = b"\x08\x02\x12\x2f\x0a\x10"


def decode(data: bytes) -> Request:
    """What one binary frame asks for. Raises DecodeError where it is no ImProtoRequest, and nothing else ever."""
    head = data[:3]
    if head == b"\x08\x01\x12":
        request = _ordinary_send(data)
    elif head == b"\x08\x02\x12":
        request = _ordinary_ack(data)
    else:
        request = None
    return request or _decode_any(data)


def _ordinary_send(data: bytes) -> Request | None:
    """A C2C_SEND with its fields in order and without msgId, as clients write it; None where it is not like that."""
    try:
        size, at = data[3], 4
        if size > 127:
            size, at = size & 127 | data[4] << 7, 5
        if at + size != len(data):
            return None
        if data[at + 18] == 0x19:
            tag1, client_msg_id, _, tag4, receiver, tag5, format_, tag6, length = _send_with_from(data, at)
            at += 40
        else:
            tag1, client_msg_id, tag4, receiver, tag5, format_, tag6, length = _send_without_from(data, at)
            at += 31
        if tag1 != 0x100A or tag4 != 0x21 or tag5 != 0x28 or format_ > 127 or tag6 != 0x32:
            return None
        if length > 127:
            length, at = length & 127 | data[at] << 7, at + 1
        stop = at + length
        if stop + 9 == len(data) and data[stop] == 0x39:
            time = _u64(data, stop + 1)[0]
        elif stop == len(data):
            time = 0
        else:
            return None
        return _make(Send, (client_msg_id, receiver, format_, data[at:stop].decode(), time))
    except (IndexError, struct.error, UnicodeDecodeError):
        return None


def _ordinary_ack(data: bytes) -> Request | None:
    """A C2C_ACK with all its fields in order, with or without `from`; else None."""
    head = data[3:6]
    tag3 = 0x19
    if head == b"\x2f\x0a\x10" and len(data) == 51:
        client_msg_id, tag2, msg_id, tag3, tag4, sender, tag5, status = _ack_with_from(data)
    elif head == b"\x26\x0a\x10" and len(data) == 42:
        client_msg_id, tag2, msg_id, tag4, sender, tag5, status = _ack_without_from(data)
    else:
        return None
    if tag2 != 0x11 or tag3 != 0x19 or tag4 != 0x21 or tag5 != 0x28 or status > 127:
        return None
    return _make(Ack, (client_msg_id, msg_id, sender, status))


def _decode_any(data: bytes) -> Request:
    """Whatever protobuf allows: fields in any order, repeated, unknown, left out."""
    if not data:
        return _KEEP_ALIVE
    try:
        outer = im_pb2.ImProtoRequest.FromString(data)
    except ProtobufError:
        raise DecodeError() from None
    command = int(outer.type)
    payload = outer.payload
    try:
        if command == Command.C2C_SEND:
            send = im_pb2.C2CSendReq.FromString(payload)
            return Send(send.clientMsgId, send.to, send.format, send.content, send.time)
        if command == Command.C2C_ACK:
            ack = im_pb2.C2CAckReq.FromString(payload)
            return Ack(ack.clientMsgId, ack.msgId, ack.to, ack.status)
        if command == Command.C2C_WITHDRAW:
            withdraw = im_pb2.C2CWithdrawReq.FromString(payload)
            return Withdraw(command, withdraw.msgId, b"", withdraw.to)
        if command == Command.WITHDRAW_MSG_SEND:
            taken_back = im_pb2.WithdrawMsgSend.FromString(payload)
            return Withdraw(command, taken_back.msgId, taken_back.clientMsgId, 0)
        if command == Command.GET_BATCH_MSG_IDS:
            im_pb2.GetBatchMsgIdsReq.FromString(payload)
            return _MSG_IDS
        if command == Command.MSG_STATE_QUERY:
            return StateQuery(tuple(im_pb2.MsgStateQuery.FromString(payload).clientMsgIds))
    except ProtobufError:
        return Malformed(command)
    return Unknown(command)


def _response(head: bytes, payload: bytes, code: int, msg: str = "") -> bytes:
    """One ImProtoResponse; `head` is its type field."""
    return head + blob(b"\x12", payload) + number(b"\x18", code) + blob(b"\x22", msg.encode())


def _ack(client_msg_id: bytes, msg_id: int, from_: int, to: int, status: int) -> bytes:
    """A C2CAckReq; without its status also the beginning of a C2CMsgPush."""
    return (
        blob(b"\x0a", client_msg_id)
        + fixed(b"\x11", msg_id)
        + fixed(b"\x19", from_)
        + fixed(b"\x21", to)
        + number(b"\x28", status)
    )


def _ack_response(client_msg_id: bytes, msg_id: int, from_: int, to: int, status: int, code: int) -> bytes:
    if len(client_msg_id) == 16 and msg_id and from_ and to and 0 < status < 128:
        frame = _ack_frame(_ACK_HEAD, client_msg_id, 0x11, msg_id, 0x19, from_, 0x21, to, 0x28, status)
        return frame + b"\x18" + varint(code) if code else frame
    return _response(b"\x08\x02", _ack(client_msg_id, msg_id, from_, to, status), code)


def encode_reply(command: int, code: int, msg: str = "") -> bytes:
    """An answer of this type with nothing in it but a code."""
    return _response(number(b"\x08", command), b"", code, msg)


def encode_pass_on(command: int, payload: bytes, code: int) -> bytes:
    """A payload of another's making, as it is."""
    return _response(number(b"\x08", command), payload, code)


def encode_send_ack(client_msg_id: bytes, msg_id: int, receiver: int, sender: int, code: int) -> bytes:
    """To the sender: his message is durable (type 2, status 1)."""
    return _ack_response(client_msg_id, msg_id, receiver, sender, Status.STORED, code)


def encode_send_refusal(client_msg_id: bytes, sender: int, receiver: int, code: int, msg: str) -> bytes:
    """To the sender: his message was not taken, and why (type 2, msgId 0, status -1). The clientMsgId as he sent it."""
    return _response(b"\x08\x02", _ack(client_msg_id, 0, receiver, sender, Status.FAILED), code, msg)


def encode_push(message: Message, code: int) -> bytes:
    """To the receiver: a message (type 5)."""
    msg_id, client_msg_id, sender, receiver, format_, text, time, _ = message
    content = text.encode()
    if len(client_msg_id) != 16 or not (msg_id and sender and receiver and 0 < format_ < 128 and content and time):
        payload = _ack(client_msg_id, msg_id, sender, receiver, 0) + number(b"\x28", format_)
        return _response(b"\x08\x05", payload + blob(b"\x32", content) + fixed(b"\x39", time), code)
    head = _push_head(0x100A, client_msg_id, 0x11, msg_id, 0x19, sender, 0x21, receiver, 0x28, format_, 0x32)
    length = varint(len(content))
    frame = b"\x08\x05\x12" + varint(57 + len(length) + len(content)) + head + length + content + _time(0x39, time)
    return frame + b"\x18" + varint(code) if code else frame


def encode_receipt(receipt: Receipt, code: int) -> bytes:
    """To the original sender: the receiver has (3) or has read (4) his message (type 2, `from` acknowledged)."""
    msg_id, client_msg_id, sender, receiver, status = receipt
    return _ack_response(client_msg_id, msg_id, receiver, sender, status, code)


def encode_withdrawal(withdrawal: Withdrawal, code: int) -> bytes:
    """To both sides: a message was taken back (type 3)."""
    msg_id, sender, receiver = withdrawal
    return _response(b"\x08\x03", fixed(b"\x09", msg_id) + fixed(b"\x11", sender) + fixed(b"\x19", receiver), code)


def encode_withdraw_reply(
    msg_id: int, client_msg_id: bytes, success: bool, code: int, msg: str, timestamp: int
) -> bytes:
    """To who asked for a withdrawal (type 15): accepted and durable, or not and why (in the message and in `msg`)."""
    payload = (
        fixed(b"\x09", msg_id)
        + blob(b"\x12", client_msg_id)
        + number(b"\x18", success)
        + blob(b"\x22", msg.encode())
        + fixed(b"\x29", timestamp)
    )
    return _response(b"\x08\x0f", payload, code, msg)


def encode_msg_ids(ids: Sequence[int], code: int) -> bytes:
    """Fresh message ids (type 6)."""
    payload = blob(b"\x0a", Struct(f"<{len(ids)}Q").pack(*ids))
    return _response(b"\x08\x06", payload, code)


def encode_states(states: Iterable[MessageState], code: int) -> bytes:
    """What became of somebody's own messages (type 21)."""
    rows = (
        blob(b"\x0a", state.client_msg_id) + fixed(b"\x11", state.msg_id) + number(b"\x18", state.state)
        for state in states
    )
    # A row of nothing but defaults is a row all the same.
    return _response(b"\x08\x15", b"".join(b"\x0a" + varint(len(row)) + row for row in rows), code)
