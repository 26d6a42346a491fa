"""Business to gateway: what `gateway.proto` carries, as values. Version 1.

`SERVICE`, `TELL` and `HELLO` are the names under which gRPC finds the calls.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message as ProtobufMessage

from imconnect.model import MAX_ID, Applied, Receipt, Status, Withdrawal
from imconnect.wire import gateway_pb2

VERSION = 1
SERVICE = "imconnect.gateway.v1.Gateway"
TELL, HELLO = "Tell", "Hello"

_STATUSES = (Status.STORED, Status.DELIVERED, Status.READ)
_NAME = 100  # characters of a peer's name that are kept
_M = TypeVar("_M", bound=ProtobufMessage)


class Unreadable(ValueError):
    """A peer sent what is not a message of this service."""


class OtherVersion(ValueError):
    """A peer speaks a version that is not ours. `str()` says which."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version} of {SERVICE}; this imconnect speaks {VERSION}")


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
    request = _parse(gateway_pb2.TellRequest(), data)
    _check_version(request.version)
    for receipt in request.receipts:
        _check_ids(receipt.msg_id, receipt.sender, receipt.receiver)
        if receipt.status not in _STATUSES or len(receipt.client_msg_id) not in (0, 16):
            raise Unreadable("a receipt that is none")
    for withdrawal in request.withdrawals:
        _check_ids(withdrawal.msg_id, withdrawal.sender, withdrawal.receiver)
    _check_ids(*request.hints)
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
    request = _parse(gateway_pb2.HelloRequest(), data)
    _check_version(request.version)
    return Party(request.node[:_NAME])


def encode_reply(party: Party) -> bytes:
    """The answer to both calls."""
    return gateway_pb2.Reply(version=VERSION, node=party.node).SerializeToString()


def decode_reply(data: bytes) -> Party:
    """Raises Unreadable or OtherVersion."""
    reply = _parse(gateway_pb2.Reply(), data)
    _check_version(reply.version)
    return Party(reply.node[:_NAME])


def _parse(message: _M, data: bytes) -> _M:
    try:
        message.ParseFromString(data)
    except ProtobufError:
        raise Unreadable("not a message of this service") from None
    return message


def _check_version(version: int) -> None:
    if version != VERSION:
        raise OtherVersion(version)


def _check_ids(*ids: int) -> None:
    if not all(0 < value <= MAX_ID for value in ids):
        raise Unreadable("an id out of range")
