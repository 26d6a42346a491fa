"""What this node turned offline a moment ago: it travels ahead of the next message to the same user on another node.

Without it a receiver whose node did not answer for a second would be shown the later message first.
"""

from __future__ import annotations

from collections import deque

from imconnect.model import Message

#: Seconds for which it is remembered, and bytes that all of it may take; the oldest go.
SECONDS, BYTES = 60.0, 16 << 20
#: Bytes of a message without its text, roughly; a character takes up to 4.
OVERHEAD, PER_CHARACTER = 300, 4


class Late:
    """By user, oldest first."""

    def __init__(self) -> None:
        self._users: dict[int, dict[int, Message]] = {}
        self._ids: set[int] = set()
        self._order: deque[tuple[float, Message]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._order)

    def add(self, message: Message, now: float) -> None:
        """This message was turned offline, or went ahead and did not arrive; remembered from the first time on."""
        self._users.setdefault(message.receiver, {})[message.msg_id] = message
        if message.msg_id in self._ids:
            return
        self._ids.add(message.msg_id)
        self._order.append((now, message))
        self._bytes += _size(message)
        self._shed(now)

    def take(self, user: int, now: float) -> list[Message]:
        """What to hand over ahead of the next message to this user, in order; handed over once."""
        if user not in self._users:
            return []
        self._shed(now)
        return [message for _, message in sorted(self._users.pop(user, {}).items())]

    def _shed(self, now: float) -> None:
        while self._order and (self._bytes > BYTES or self._order[0][0] < now - SECONDS):
            _, oldest = self._order.popleft()
            self._bytes -= _size(oldest)
            self._ids.discard(oldest.msg_id)
            mine = self._users.get(oldest.receiver)
            if mine is not None and mine.pop(oldest.msg_id, None) is not None and not mine:
                del self._users[oldest.receiver]


def _size(message: Message) -> int:
    return OVERHEAD + PER_CHARACTER * len(message.content)
