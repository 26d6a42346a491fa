"""Business to gateway: what `gateway.proto` carries, as values. Version 1.

`SERVICE`, `TELL` and `HELLO` are the names under which gRPC finds the calls.
"""

from __future__ import annotations

from typing import NamedTuple

from imconnect.model import Applied, Receipt, Status, Withdrawal
from imconnect.wire import gateway_pb2
from imconnect.wire.checks import OtherVersion, Unreadable, check_ids, check_version, parse

__all__ = [
    "HELLO", "SERVICE", "TELL", "VERSION", "OtherVersion", "Party", "Unreadable", "decode_applied", "decode_hello",
    "decode_reply", "encode_applied", "encode_hello", "encode_reply",
]  # fmt: skip

VERSION = 1
SERVICE = "imconnect.gateway.v1.Gateway"
TELL, HELLO = "Tell", "Hello"

_STATUSES = (Status.STORED, Status.DELIVERED, Status.READ)
_NAME = 100  # characters of a peer's name that are kept


class Party(NamedTuple):
    """Who is at the other end: a name for logs."""

    node: str


def encode_applied(applied: Applied) -> bytes:
    """The request of `Tell`."""
    request = gateway_pb2.TellRequest(version=VERSION, hints=applied.hints)
    for msg_id, client_msg_id, sender, receiver, status in applied.receipts:
        request.receipts.add(
            msg_id=msg_id, client_msg_id=client_msg_id, sender=sender, receiver=receiver, status=status
        )
    for msg_id, sender, receiver in applied.withdrawals:
        request.withdrawals.add(msg_id=msg_id, sender=sender, receiver=receiver)
    return request.SerializeToString()


def decode_applied(data: bytes) -> Applied:
    """Raises Unreadable or OtherVersion."""
    request = parse(gateway_pb2.TellRequest(), data)
    check_version(request.version, VERSION, SERVICE)
    for receipt in request.receipts:
        check_ids(receipt.msg_id, receipt.sender, receipt.receiver)
        if receipt.status not in _STATUSES or len(receipt.client_msg_id) not in (0, 16):
            raise Unreadable("a receipt that is none")
    for withdrawal in request.withdrawals:
        check_ids(withdrawal.msg_id, withdrawal.sender, withdrawal.receiver)
    check_ids(*request.hints)
    return Applied(
        tuple(Receipt(r.msg_id, r.client_msg_id, r.sender, r.receiver, r.status) for r in request.receipts),
        tuple(Withdrawal(w.msg_id, w.sender, w.receiver) for w in request.withdrawals),
        tuple(request.hints),
    )


def encode_hello(party: Party) -> bytes:
    """The request of `Hello`."""
    return gateway_pb2.HelloRequest(version=VERSION, node=party.node).SerializeToString()


def decode_hello(data: bytes) -> Party:
    """Raises Unreadable or OtherVersion."""
    request = parse(gateway_pb2.HelloRequest(), data)
    check_version(request.version, VERSION, SERVICE)
    return Party(request.node[:_NAME])


def encode_reply(party: Party) -> bytes:
    """The answer to both calls."""
    return gateway_pb2.Reply(version=VERSION, node=party.node).SerializeToString()


def decode_reply(data: bytes) -> Party:
    """Raises Unreadable or OtherVersion."""
    reply = parse(gateway_pb2.Reply(), data)
    check_version(reply.version, VERSION, SERVICE)
    return Party(reply.node[:_NAME])
