"""The four events. One of these is what a durable record, an MQ body and a business rule are about."""

from __future__ import annotations

from typing import NamedTuple

from imconnect.model import Message


class Sent(NamedTuple):
    """A message was accepted (C2C_SEND_MSG)."""

    message: Message


class Offlined(NamedTuple):
    """A message could not be handed to its receiver for now (C2C_OFF_LINE_MSG). Carries the whole message."""

    message: Message


class Acknowledged(NamedTuple):
    """The receiver has (3) or has read (4) a message (C2C_CLIENT_RECEIVED_ACK)."""

    msg_id: int
    client_msg_id: bytes
    #: The original sender (toUserId of the event); as the client claims it where nobody knows the message.
    sender: int
    #: Who acknowledges (fromUserId of the event): the receiver of the message.
    receiver: int
    status: int
    time: int
    #: Nobody here knew the message: business checks the rights and tells the sender (property RECEIPT=business).
    by_business: bool = False


class Withdrawn(NamedTuple):
    """The sender takes a message back (C2C_WITHDRAW_MSG)."""

    msg_id: int
    client_msg_id: bytes
    sender: int
    #: 0 where neither this node nor the client's request says (business has it in its own row).
    receiver: int
    time: int
    by_business: bool = False


Event = Sent | Offlined | Acknowledged | Withdrawn
