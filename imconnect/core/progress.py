"""How the relay gets on: how long the oldest event has been waiting, and how long nothing has moved."""

from __future__ import annotations

from collections import deque


class Progress:
    """Fed with numbers of the log and the time, in seconds."""

    __slots__ = ("_marks", "_moved_at", "last", "position")

    def __init__(self) -> None:
        #: Everything up to here is durable; everything up to here is settled.
        self.last = 0
        self.position = 0
        #: When `position` last moved, or began to wait.
        self._moved_at = 0.0
        #: (number, seconds) of what became durable, one per second at most.
        self._marks: deque[tuple[int, float]] = deque()

    def start(self, position: int, now: float) -> None:
        """What an earlier process left counts from now on: nobody knows better."""
        self.position = position
        self._moved_at = now

    def durable(self, last: int, now: float) -> None:
        """Everything up to this number is in the log."""
        if last <= self.last:
            return
        if self.position >= self.last:
            self._moved_at = now
        if not self._marks or now - self._marks[-1][1] >= 1.0:
            self._drop_marks()
            self._marks.append((self.last + 1, now))
        self.last = last

    def settled(self, position: int, now: float) -> bool:
        """Everything up to this number is settled; -> whether that is news."""
        if position <= self.position:
            return False
        self.position, self._moved_at = position, now
        return True

    def oldest_seconds(self, now: float) -> float:
        """Age of the oldest event that is not settled."""
        self._drop_marks()
        return now - self._marks[0][1] if self._marks and self.position < self.last else 0.0

    def stuck_seconds(self, now: float) -> float:
        """How long events have been waiting and the oldest of them was not settled."""
        return now - self._moved_at if self.position < self.last else 0.0

    def _drop_marks(self) -> None:
        while len(self._marks) > 1 and self._marks[1][0] <= self.position + 1:
            self._marks.popleft()
