"""Gateway to gateway: what `peer.proto` carries, as values. Version 1."""

from __future__ import annotations

from collections.abc import Sequence

from imconnect.model import MAX_ID, Applied, End, Handed, Kick, Message, Parcel, Receipt, Withdrawal
from imconnect.wire import peer_pb2
from imconnect.wire.checks import Unreadable, check_ids, check_version, parse

VERSION = 1
SERVICE = "imconnect.peer.v1.Peer"
HAND = "Hand"


def encode_parcel(parcel: Parcel, node: int) -> bytes:
    """The request of `Hand`."""
    request = peer_pb2.HandRequest(version=VERSION, node=node)
    for message, late in parcel.messages:
        request.messages.add(late=late, **message._asdict())
    for end in parcel.ends:
        request.ends.add(**end._asdict())
    for kick in parcel.kicks:
        request.kicks.add(**kick._asdict())
    for withdrawal in parcel.applied.withdrawals:
        request.withdrawals.add(**withdrawal._asdict())
    for receipt in parcel.applied.receipts:
        request.receipts.add(**receipt._asdict())
    request.hints.extend(parcel.applied.hints)
    return request.SerializeToString()


def decode_parcel(data: bytes) -> Parcel:
    """Raises Unreadable or OtherVersion."""
    request = parse(peer_pb2.HandRequest(), data)
    check_version(request.version, VERSION, SERVICE)
    return Parcel(
        messages=tuple(_handed(message) for message in request.messages),
        ends=tuple(_end(end, 3, 4, 5) for end in request.ends),
        kicks=tuple(_kick(kick) for kick in request.kicks),
        applied=_applied(request),
    )


def encode_taken(taken: Sequence[bool]) -> bytes:
    """The answer of `Hand`."""
    return peer_pb2.HandReply(version=VERSION, taken=bytes(taken)).SerializeToString()


def decode_taken(data: bytes) -> Sequence[bool]:
    """Raises Unreadable or OtherVersion."""
    reply = parse(peer_pb2.HandReply(), data)
    check_version(reply.version, VERSION, SERVICE)
    return [value == 1 for value in reply.taken]


def _handed(m: peer_pb2.Message) -> Handed:
    check_ids(m.msg_id, m.sender, m.receiver, m.created)
    _check_client_id(m.client_msg_id)
    if not m.content:
        raise Unreadable("a message without content")
    message = Message(m.msg_id, m.client_msg_id, m.sender, m.receiver, m.format, m.content, m.time, m.created)
    return Handed(message, m.late)


def _applied(request: peer_pb2.HandRequest) -> Applied:
    for withdrawal in request.withdrawals:
        check_ids(withdrawal.msg_id, withdrawal.sender, withdrawal.receiver)
    check_ids(*request.hints)
    return Applied(
        receipts=tuple(Receipt(*_end(receipt, 1, 3, 4)) for receipt in request.receipts),
        withdrawals=tuple(Withdrawal(w.msg_id, w.sender, w.receiver) for w in request.withdrawals),
        hints=tuple(request.hints),
    )


def _end(e: peer_pb2.End, *statuses: int) -> End:
    check_ids(e.msg_id, e.receiver)
    _check_client_id(e.client_msg_id)
    if e.status not in statuses or e.sender > MAX_ID:
        raise Unreadable("an end that is none")
    return End(e.msg_id, e.client_msg_id, e.sender, e.receiver, e.status)


def _kick(k: peer_pb2.Kick) -> Kick:
    check_ids(k.user)
    return Kick(k.user, k.device, k.turn)


def _check_client_id(client_msg_id: bytes) -> None:
    if len(client_msg_id) not in (0, 16):
        raise Unreadable("a clientMsgId of another length than 16")
