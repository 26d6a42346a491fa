"""A signed-in client on one connection: what it may do, what it has had, what waits for it."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from imconnect.core.ports import Link
from imconnect.model import Identity, Message

if TYPE_CHECKING:
    from imconnect.core.node import Node

#: How many acknowledged ids a session remembers, so that a lagging store does not show them again.
ACKNOWLEDGED = 1000
#: A client this many times over what it may send is not answered but closed.
FLOOD = 10


class Stage(Enum):
    """How far a session is."""

    #: Reading what it is owed; live messages wait in its queue.
    BEHIND = "behind"
    #: Too much unacknowledged: gets nothing until half of it is; what comes meanwhile waits in the store.
    FULL = "full"
    LIVE = "live"
    ENDED = "ended"


class Session:
    """What the node keeps per connection."""

    __slots__ = (
        "acknowledged",
        "backfilling",
        "flood",
        "identity",
        "kicked",
        "link",
        "lookups",
        "lookups_at",
        "node",
        "open",
        "out",
        "paused",
        "pending",
        "reread",
        "stage",
        "tokens",
        "tokens_at",
        "turn",
        "user",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, node: Node, identity: Identity, link: Link, now: float, burst: float) -> None:
        self.node = node
        self.identity = identity
        self.user = identity.user
        self.link = link
        self.stage = Stage.BEHIND
        #: Pushed here and not acknowledged, also what the node has given up on.
        self.open: set[int] = set()
        #: The last ids that were acknowledged, oldest first.
        self.acknowledged: dict[int, None] = {}
        #: Live messages that came while behind, with the frame to push.
        self.waiting: deque[tuple[Message, bytes]] = deque()
        self.waiting_bytes = 0
        self.backfilling = False
        #: Something new may be in the store: read once more before going live.
        self.reread = False
        #: The turn of this login (`model.Entered`); None until presence has said. And the newest login of this device
        #: elsewhere that was heard of meanwhile.
        self.turn: int | None = None
        self.kicked = 0
        #: Payloads of this reactor turn, written at its end.
        self.out: list[bytes] = []
        #: Requests taken in and not answered yet.
        self.pending = 0
        self.paused = False
        self.tokens = burst
        self.flood = FLOOD * burst
        self.tokens_at = now
        self.lookups = 0
        self.lookups_at = now

    def receive(self, payloads: list[bytes]) -> None:
        """All binary messages of one read."""
        self.node.receive(self, payloads)

    def closed(self) -> None:
        """The connection is gone."""
        self.node.end(self)

    def had(self, msg_id: int) -> bool:
        """Whether this connection was shown this message already."""
        return msg_id in self.open or msg_id in self.acknowledged

    def wait(self, message: Message, frame: bytes, bound: int) -> bool:
        """Queue a live message behind the backfill; False where it does not fit."""
        if self.waiting_bytes + len(frame) > bound:
            return False
        self.waiting.append((message, frame))
        self.waiting_bytes += len(frame)
        return True

    def take_waiting(self) -> deque[tuple[Message, bytes]]:
        """Empty the queue."""
        waiting, self.waiting = self.waiting, deque()
        self.waiting_bytes = 0
        return waiting

    def drop_had(self) -> None:
        """Make room in the queue: what was shown meanwhile need not wait."""
        for message, frame in self.take_waiting():
            if not self.had(message.msg_id):
                self.waiting.append((message, frame))
                self.waiting_bytes += len(frame)

    def acknowledge(self, msg_id: int) -> None:
        """The user has this message, from whichever of his connections."""
        self.open.discard(msg_id)
        self.acknowledged[msg_id] = None
        if len(self.acknowledged) > ACKNOWLEDGED:
            del self.acknowledged[next(iter(self.acknowledged))]

    def spend(self, commands: int, now: float, rate: float, burst: float) -> int:
        """How many of these commands are within the limit."""
        elapsed, self.tokens_at = now - self.tokens_at, now
        tokens = min(burst, self.tokens + elapsed * rate)
        allowed = min(commands, int(tokens))
        self.tokens = tokens - allowed
        self.flood = min(FLOOD * burst, self.flood + elapsed * FLOOD * rate) - commands
        return allowed

    def answered(self, bound: int) -> None:
        """One request less that waits; goes on reading where that was paused."""
        self.pending -= 1
        if self.paused and self.pending <= bound // 2:
            self.paused = False
            self.link.resume()

    def may_look_up(self, now: float, per_second: int) -> bool:
        """Whether one more question to the store is within the limit."""
        if now - self.lookups_at >= 1.0:
            self.lookups_at = now
            self.lookups = 0
        self.lookups += 1
        return self.lookups <= per_second
