"""Values that cross floors. Immutable, and tuples because several of them are made per message.

Units: every `time`, `created` and `..._ms` is milliseconds since 1970 (UTC) unless it says otherwise.
User and message ids are 1 to 2**63-1.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

MAX_ID = 2**63 - 1


class Status(IntEnum):
    """msgStatus (contract/gateway.md 2.3). In the store it only climbs: 1 -> 2 -> 3 -> 4."""

    FAILED = -1
    STORED = 1
    OFFLINE = 2
    DELIVERED = 3
    READ = 4


class Identity(NamedTuple):
    """Who signed in. An empty device means: a device of its own."""

    user: int
    device: str = ""


class Message(NamedTuple):
    """One message from one user to another, as this gateway accepted it."""

    msg_id: int
    client_msg_id: bytes
    sender: int
    receiver: int
    format: int
    content: str
    #: What the receiver is shown: the client's clock if it sent one, else `created`.
    time: int
    #: The server's clock when the message was accepted (msgCreateTime of the events).
    created: int


class Owed(NamedTuple):
    """One row of a page of what a user is owed."""

    message: Message
    #: Whether the store has it as offline already (status 2).
    offline: bool


class Stored(NamedTuple):
    """What the store knows about one message."""

    msg_id: int
    client_msg_id: bytes
    sender: int
    receiver: int
    status: int
    withdrawn: bool


class Overdue(NamedTuple):
    """A message that has been owed to a user for a while."""

    user: int
    msg_id: int
    created: int


class Receipt(NamedTuple):
    """Tells the original sender that the receiver has (3) or has read (4) a message."""

    msg_id: int
    client_msg_id: bytes
    sender: int
    receiver: int
    status: int


class Withdrawal(NamedTuple):
    """A withdrawal that business has applied; both sides are told (C2C_WITHDRAW)."""

    msg_id: int
    sender: int
    receiver: int


class Applied(NamedTuple):
    """What business has to tell people after the commit of a batch."""

    receipts: tuple[Receipt, ...] = ()
    withdrawals: tuple[Withdrawal, ...] = ()
    #: Users who may have something new to fetch from the store: receivers of OFFLINE events.
    hints: tuple[int, ...] = ()
