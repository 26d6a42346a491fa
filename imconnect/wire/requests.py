"""What a client may ask for, decoded. Made once per frame, so plain tuples."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Command(IntEnum):
    """MsgType (contract/gateway.md 2.1), as far as this gateway speaks it."""

    C2C_SEND = 1
    C2C_ACK = 2
    C2C_WITHDRAW = 3
    GET_BATCH_MSG_IDS = 4
    C2C_MSG_PUSH = 5
    PUSH_BATCH_MSG_IDS = 6
    WITHDRAW_MSG_SEND = 14
    WITHDRAW_MSG_RESPONSE = 15
    MSG_STATE_QUERY = 20
    MSG_STATE = 21


class KeepAlive(NamedTuple):
    """An empty binary frame."""


class Send(NamedTuple):
    """C2C_SEND. Not validated; the payload's `from` and `msgId` are not even read: the sender is the session."""

    client_msg_id: bytes
    receiver: int
    format: int
    content: str
    time: int


class Ack(NamedTuple):
    """C2C_ACK from a client."""

    client_msg_id: bytes
    msg_id: int
    #: The original sender, as the client says (`to`).
    sender: int
    status: int


class Withdraw(NamedTuple):
    """C2C_WITHDRAW or WITHDRAW_MSG_SEND."""

    command: int
    msg_id: int
    #: b"" in C2C_WITHDRAW.
    client_msg_id: bytes
    #: 0 in WITHDRAW_MSG_SEND.
    receiver: int


class MsgIds(NamedTuple):
    """GET_BATCH_MSG_IDS; whose ids they are is the session's business."""


class StateQuery(NamedTuple):
    """MSG_STATE_QUERY: what became of these messages of the session's user. Not validated."""

    client_msg_ids: tuple[bytes, ...]


class Malformed(NamedTuple):
    """The outer message is fine, its payload is not what the type promises."""

    command: int


class Unknown(NamedTuple):
    """A type without a handler."""

    command: int


Request = KeepAlive | Send | Ack | Withdraw | MsgIds | StateQuery | Malformed | Unknown
