"""What is on its way to other nodes: messages and the rest, the lane of a node, the course to a receiver."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from imconnect.model import Applied, End, Handed, Kick, Message, Parcel, Receipt, Withdrawal


class Flight:
    """A message on its way to the nodes of its receiver."""

    __slots__ = ("afresh", "here", "late", "message", "missed", "out", "taken")

    def __init__(self, message: Message, here: bool, late: bool) -> None:
        self.message = message
        #: This node has taken it for sessions of its own; another node has.
        self.here = here
        self.taken = False
        self.late = late
        #: One of the nodes has not taken it.
        self.missed = False
        #: Nodes that have not answered yet.
        self.out = 0
        #: Its route was read afresh already.
        self.afresh = False


class Hint(NamedTuple):
    """This user may have something new to fetch from the database."""

    user: int


Item = Flight | End | Kick | Receipt | Withdrawal | Hint


class Course:
    """Where the messages to one receiver are under way now, and how many they are."""

    __slots__ = ("nodes", "out")

    def __init__(self, nodes: frozenset[int]) -> None:
        self.nodes = nodes
        self.out = 0


class Lane:
    """One node: what waits for it."""

    __slots__ = ("down_until", "failures", "flying", "items")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.flying = False
        self.down_until = 0.0
        #: Calls in a row that it did not take.
        self.failures = 0


def place(item: Item) -> int:
    """The order of messages, whoever put them on their way when: a node's ids grow. The rest goes ahead of them."""
    return item.message.msg_id if isinstance(item, Flight) else 0


def parcel_of(items: Sequence[Item]) -> Parcel:
    """All of them in one call, each kind in its order."""
    applied = Applied(
        receipts=tuple(item for item in items if isinstance(item, Receipt)),
        withdrawals=tuple(item for item in items if isinstance(item, Withdrawal)),
        hints=tuple(item.user for item in items if isinstance(item, Hint)),
    )
    return Parcel(
        messages=tuple(Handed(item.message, item.late) for item in items if isinstance(item, Flight)),
        ends=tuple(item for item in items if isinstance(item, End)),
        kicks=tuple(item for item in items if isinstance(item, Kick)),
        applied=applied,
    )
