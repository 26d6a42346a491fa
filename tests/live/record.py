"""What people in a live test did and saw, frame by frame with its time: what the accounts are made of."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from imconnect.wire.client_codec import Response

R = TypeVar("R")


class Send(NamedTuple):
    """A message as its sender gave it."""

    key: bytes
    to: int
    format: int
    content: str
    #: His clock, ms.
    time: int


class Ack(NamedTuple):
    """He says that he has (3) or has read (4) a message."""

    msg_id: int
    status: int


class Withdraw(NamedTuple):
    """He takes a message back."""

    msg_id: int


class Went(NamedTuple):
    """Somebody wrote something to a connection, perhaps for the gateway to never read it."""

    at: float
    user: int
    connection: int
    what: Send | Ack | Withdraw


class Came(NamedTuple):
    """Somebody was told something on a connection."""

    at: float
    user: int
    connection: int
    what: Response


class Link(NamedTuple):
    """A connection, from its upgrade to its end."""

    user: int
    connection: int
    opened: float
    #: When it ended; infinity while it has not.
    closed: float


class Record:
    """Of one run. Times are seconds of one clock: of reading, which on a busy machine is later than that of coming."""

    def __init__(self) -> None:
        self.went: list[Went] = []
        self.came: list[Came] = []
        self._links: dict[int, Link] = {}
        #: When the reactor that reads turned, in order.
        self.turns: list[float] = []

    def snapshot(self) -> Record:
        """As it is now, for another thread."""
        copy = Record()
        copy.went, copy.came, copy.turns = list(self.went), list(self.came), list(self.turns)
        copy._links = dict(self._links)
        return copy

    def earliest(self, at: float) -> float:
        """When something that was read at this time may have come: since the last turn, or as read where none was
        written down."""
        index = bisect_left(self.turns, at)
        return self.turns[index - 1] if index else at

    def opened(self, at: float, user: int) -> int:
        """-> the number of a new connection."""
        number = len(self._links) + 1
        self._links[number] = Link(user, number, at, float("inf"))
        return number

    def closed(self, at: float, connection: int) -> None:
        self._links[connection] = self._links[connection]._replace(closed=at)

    @property
    def links(self) -> list[Link]:
        """All connections, in the order in which they were opened."""
        return list(self._links.values())

    def link(self, connection: int) -> Link:
        return self._links[connection]

    def told(self, kind: type[R]) -> Iterator[tuple[Came, R]]:
        """What came, of one kind, in the order in which it came."""
        return ((came, came.what) for came in self.came if isinstance(came.what, kind))

    def said(self, kind: type[R]) -> Iterator[tuple[Went, R]]:
        """What went, of one kind, in the order in which it went."""
        return ((went, went.what) for went in self.went if isinstance(went.what, kind))
