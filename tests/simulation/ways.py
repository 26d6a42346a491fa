"""The ways between the nodes: parcels arrive late or never, answers are lost, nodes die over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from imconnect.errors import Unavailable
from imconnect.model import Parcel
from tests.simulation.across import Across
from tests.simulation.clock import Life, Timeline
from tests.simulation.faults import Fate, Faults

if TYPE_CHECKING:
    from tests.simulation.server import Server


class Ways:
    """All of them. `cut`: (from, to) between which nothing passes."""

    def __init__(self, timeline: Timeline, faults: Faults, across: Across) -> None:
        self.network = Life(timeline)
        self.faults = faults
        self.across = across
        self.cut: set[tuple[int, int]] = set()
        #: Who takes parcels now.
        self.doors: dict[int, Server] = {}


class Way:
    """`core.ports.Peer` of one life of a node. What it sent arrives, whether it lives then or not."""

    def __init__(self, ways: Ways, life: Life, number: int) -> None:
        self._ways = ways
        self._life = life
        self._number = number

    def hand(self, node: int, parcel: Parcel) -> Deferred[Sequence[bool]]:
        answer: Deferred[Any] = Deferred()
        ways = self._ways
        faults = ways.faults
        fate = faults.fate("peer")
        arrives = (self._number, node) not in ways.cut and fate is not Fate.BEFORE
        if fate is Fate.NEVER:
            # It hangs before it has taken anything, or behind.
            arrives = faults.random.random() < 0.5

        def arrive() -> None:
            server = ways.doors.get(node) if arrives else None
            taken: Any = ways.across.parcel(node, parcel, server) if server is not None else None
            if fate is Fate.DEATH and server is not None and faults.random.random() < 0.5:
                server.crash()
            elif fate is Fate.DEATH:
                self._life.die()
            if taken is None or fate is Fate.AFTER or node not in ways.doors:
                taken = Failure(Unavailable(f"no answer from node {node} (simulated)"))
            if fate is not Fate.NEVER:
                self._life.callLater(faults.pause("peer"), tell, taken)

        def tell(result: Any) -> None:
            if not answer.called:
                answer.callback(result)

        ways.network.callLater(faults.pause("peer"), arrive)
        answer.addErrback(self._failed, node, parcel)
        return answer

    def _failed(self, failure: Any, node: int, parcel: Parcel) -> Any:
        self._ways.across.not_told(self._number, node, parcel)
        return failure

    def close(self) -> Deferred[None]:
        return succeed(None)
