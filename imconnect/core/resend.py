"""Pushed and not acknowledged yet: one entry per message, one timer wheel for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from imconnect.model import Message

#: Seconds per step of the wheel: a retry is late by at most this, never early.
STEP = 0.25
#: Seconds that an ACK's commit may take before the retry is due after all.
GRACE = 5.0


class Waiting:
    """One message that its receiver has not acknowledged. The frame is kept: a retry encodes nothing."""

    __slots__ = ("attempts", "due", "frame", "in_wheel", "message", "offline", "pushed")

    def __init__(self, message: Message, frame: bytes, offline: bool) -> None:
        self.message = message
        self.frame = frame
        #: The store has it as offline already, so giving up needs no event.
        self.offline = offline
        #: False while it only waits in the queue of a session that is behind.
        self.pushed = False
        self.attempts = 0
        self.due = 0
        #: The step in which the wheel will look at it next; 0 when it lies in none.
        self.in_wheel = 0


class Resend:
    """When to push what again. Each connection it was pushed on starts the clock anew; the attempts go on counting."""

    def __init__(self, delays: Sequence[float], give_up: float, limit: int) -> None:
        self._waits = (*delays, give_up)
        self._limit = limit
        self._entries: dict[int, Waiting] = {}
        self._users: dict[int, dict[int, Waiting]] = {}
        self._wheel: dict[int, list[Waiting]] = {}
        self._step = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, msg_id: int) -> Waiting | None:
        return self._entries.get(msg_id)

    def of(self, user: int) -> Sequence[Waiting]:
        """Everything of this user, in no order."""
        return list(self._users.get(user, {}).values())

    def hold(self, message: Message, frame: bytes, offline: bool = False) -> Waiting:
        """Remember a message that is about to be pushed or queued."""
        entry = self._entries.get(message.msg_id)
        if entry is None:
            entry = self._entries[message.msg_id] = Waiting(message, frame, offline)
            self._users.setdefault(message.receiver, {})[message.msg_id] = entry
        elif not offline:
            # First shown from the store, and now this node is the one that must end it.
            entry.offline = False
        return entry

    def pushed(self, entry: Waiting, now: float) -> None:
        """It was pushed, now: the next retry is counted from here."""
        entry.pushed = True
        entry.due = math.ceil((now + self._waits[entry.attempts]) / STEP)
        # An entry that already lies in an earlier step is moved on when the wheel comes to it.
        if not entry.in_wheel or entry.in_wheel > entry.due:
            self._put(entry)

    def postpone(self, msg_id: int) -> None:
        """Its ACK is being committed. If that fails, the retry asks again, so much later."""
        entry = self._entries.get(msg_id)
        if entry is not None and entry.due:
            entry.due += math.ceil(GRACE / STEP)

    def end(self, msg_id: int) -> Waiting | None:
        """Acknowledged, withdrawn or given up."""
        entry = self._entries.pop(msg_id, None)
        if entry is not None:
            entry.due = 0
            user = entry.message.receiver
            mine = self._users[user]
            del mine[msg_id]
            if not mine:
                del self._users[user]
        return entry

    def user_gone(self, user: int) -> list[Message]:
        """End everything of this user; -> what must be turned offline now, in order."""
        return self._end_all(list(self._users.get(user, ())))

    def overflow(self) -> list[Message]:
        """End the oldest over the limit; -> what must be turned offline now, in order."""
        over = len(self._entries) - self._limit
        return (
            self._end_all([msg_id for msg_id, _ in zip(self._entries, range(over), strict=False)]) if over > 0 else []
        )

    def due(self, now: float) -> tuple[list[Waiting], list[Waiting]]:
        """Move the wheel on; -> (to be pushed again, given up and ended). The caller reports each push by `pushed`."""
        again: list[Waiting] = []
        given_up: list[Waiting] = []
        last = math.floor(now / STEP)
        if not self._step:
            self._step = min(self._wheel, default=last + 1)
        while self._step <= last:
            for entry in self._wheel.pop(self._step, ()):
                if entry.in_wheel == self._step:
                    self._look_at(entry, last, again, given_up)
            self._step += 1
        return again, given_up

    def _look_at(self, entry: Waiting, step: int, again: list[Waiting], given_up: list[Waiting]) -> None:
        entry.in_wheel = 0
        if not entry.due:
            return
        if entry.due > step:
            self._put(entry)
            return
        entry.attempts += 1
        if entry.attempts < len(self._waits):
            again.append(entry)
        else:
            self.end(entry.message.msg_id)
            given_up.append(entry)

    def _put(self, entry: Waiting) -> None:
        if self._step and entry.due < self._step:
            entry.due = self._step
        entry.in_wheel = entry.due
        self._wheel.setdefault(entry.due, []).append(entry)

    def _end_all(self, msg_ids: list[int]) -> list[Message]:
        entries = [entry for entry in map(self.end, sorted(msg_ids)) if entry is not None]
        return [entry.message for entry in entries if not entry.offline]
