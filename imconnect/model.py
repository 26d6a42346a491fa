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


class MessageState(NamedTuple):
    """What became of a message that somebody asks about by its clientMsgId (MSG_STATE)."""

    client_msg_id: bytes
    #: 0 where nobody knows the message.
    msg_id: int
    #: 0 unknown, 1 stored (offline or not), 3 delivered, 4 read, 5 withdrawn: it only climbs.
    state: int


class Overdue(NamedTuple):
    """A message that has been owed to a user for a while."""

    user: int
    msg_id: int
    created: int


class Receipt(NamedTuple):
    """Tells the original sender that business has stored (1), or that the receiver has (3) or has read (4) a message."""

    msg_id: int
    client_msg_id: bytes
    sender: int
    #: 0 where who tells it does not know: the Java im-business never says.
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


class End(NamedTuple):
    """A message has ended, durably: nobody is shown it any more, and its sender is told."""

    msg_id: int
    client_msg_id: bytes
    sender: int
    receiver: int
    #: 3 delivered, 4 read, 5 withdrawn.
    status: int


class Handed(NamedTuple):
    """A message that one node hands to another, because its receiver is signed in there."""

    message: Message
    #: It was turned offline a moment ago and travels ahead of the next one, so that the order of the chat holds.
    late: bool = False


class Kick(NamedTuple):
    """A newer login of this device: older ones end. `turn` is the newer login's (`Entered`)."""

    user: int
    device: str
    turn: int


class Parcel(NamedTuple):
    """What one node has for another. Taken in this order: kicks, ends, what business applied, messages."""

    messages: tuple[Handed, ...] = ()
    ends: tuple[End, ...] = ()
    kicks: tuple[Kick, ...] = ()
    applied: Applied = Applied()


class Entered(NamedTuple):
    """A login, as presence has it."""

    #: Grows with every login on any node: of two logins of a device the one with the higher turn stays.
    turn: int
    #: The other nodes on which this user is signed in.
    nodes: frozenset[int]


class Claim(NamedTuple):
    """A send that is about to be committed: this user's clientMsgId belongs to this message."""

    sender: int
    client_msg_id: bytes
    msg_id: int
    #: 8 bytes that tell whether a repeat has the same receiver, format and content; the same on every node.
    digest: bytes


class Claimed(NamedTuple):
    """What another node, or an earlier life of this one, has claimed before."""

    msg_id: int
    digest: bytes
    #: Whether that message is durable; else its fate is not known yet.
    settled: bool
