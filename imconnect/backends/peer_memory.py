"""The way between nodes that live in one process: the twin of the gRPC one, for tests and the simulation."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

from twisted.internet.defer import Deferred, execute, fail, succeed

from imconnect.errors import Unavailable
from imconnect.model import Parcel

#: By node: how it takes a parcel.
Doors = MutableMapping[int, Callable[[Parcel], Sequence[bool]]]


class MemoryPeer:
    """`core.ports.Peer`: a call is a call."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def hand(self, node: int, parcel: Parcel) -> Deferred[Sequence[bool]]:
        take = self._doors.get(node)
        if take is None:
            return fail(Unavailable(f"no node {node}"))
        return execute(take, parcel)

    def close(self) -> Deferred[None]:
        return succeed(None)
