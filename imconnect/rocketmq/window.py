"""Where the consumption of one queue stands: fetched, in hand, done, committed. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from imconnect.rocketmq.admin import Pulled
from imconnect.rocketmq.messages import StoredMessage

UNKNOWN = -1


class Mark(NamedTuple):
    """What one message is known by. Times are ms since the epoch, by the broker's clock."""

    offset: int
    stored: int
    unique_id: str

    @classmethod
    def of(cls, message: StoredMessage) -> Mark:
        return cls(message.offset, message.stored, message.unique_id)


class Window:
    """Offsets name the next message: `done` is the first one that was not handled. UNKNOWN before the first answer."""

    def __init__(self, subscription: str, max_messages: int, max_bytes: int) -> None:
        self.fetch = self.done = self.committed = UNKNOWN
        self.in_hand = False
        self.newest: Mark | None = None  # the last message that was fetched
        self._end = 0
        self._buffer: deque[StoredMessage] = deque()
        self._bytes = 0
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._tags = frozenset(tag.strip() for tag in subscription.split("||")) - {"*"}

    @property
    def empty(self) -> bool:
        """Nothing is fetched that is not in hand."""
        return not self._buffer

    @property
    def has_room(self) -> bool:
        return len(self._buffer) < self._max_messages and self._bytes < self._max_bytes

    @property
    def lag(self) -> int:
        """Messages in the queue that were not handled, as last heard."""
        return max(0, self._end - self.done)

    def found(self, stored: int | None, begin: int) -> None:
        """The broker's committed offset, None where it has none: then the queue begins at `begin`.

        Another member may have had the queue meanwhile, so the broker's word counts where it is ahead; after a move
        not before it has ours.
        """
        first = self.fetch == UNKNOWN
        at = begin if stored is None else stored
        if first and stored is not None:
            self.committed = stored
        if not first and (stored is None or self.committed == UNKNOWN):
            return
        self.fetch, self.done = max(self.fetch, at), max(self.done, at)
        while self._buffer and self._buffer[0].offset < at:
            self._drop_first()

    def add(self, pulled: Pulled) -> None:
        """An answer to the pull at `fetch`. Brokers compare the hashes of tags, which may collide."""
        for message in pulled.messages:
            if message.offset >= self.fetch and (not self._tags or message.tags in self._tags):
                self._buffer.append(message)
                self._bytes += len(message.body)
        if pulled.messages:
            self.newest = Mark.of(pulled.messages[-1])
        self.fetch = max(self.fetch, pulled.next_offset)
        self._end = pulled.max_offset
        if self.empty and not self.in_hand:
            self.done = self.fetch

    def take(self, limit: int) -> Sequence[StoredMessage]:
        """The next messages, now in hand."""
        self.in_hand = True
        return [self._drop_first() for _ in range(min(len(self._buffer), limit))]

    def finish(self, batch: Sequence[StoredMessage]) -> None:
        """These were handled, and so is what was filtered out behind them."""
        self.in_hand = False
        self.done = max(self.done, self.fetch if self.empty else batch[-1].offset + 1)

    def give_up(self) -> None:
        """What was in hand was not handled, and nothing more will be taken."""
        self.in_hand = False

    def move(self, offset: int) -> None:
        """Go on elsewhere, forwards or back. Only while nothing is fetched or in hand."""
        self.fetch = self.done = offset
        self.committed = UNKNOWN

    def _drop_first(self) -> StoredMessage:
        message = self._buffer.popleft()
        self._bytes -= len(message.body)
        return message
