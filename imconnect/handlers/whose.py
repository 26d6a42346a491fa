"""Whose message is this? Asked before an ACK or a withdrawal; answered without I/O where this node can."""

from __future__ import annotations

from typing import NamedTuple

from imconnect.core.context import Context
from imconnect.core.recent import State
from imconnect.model import Status, Stored
from imconnect.wire.ids import time_of

#: How far the clock of another node may be ahead of ours, ms; ids from later are from no node of ours.
AHEAD_MS = 300_000


class Known(NamedTuple):
    """What is known about a message, from whichever place knows it."""

    client_msg_id: bytes
    sender: int
    receiver: int
    state: State
    created: int

    @staticmethod
    def of_store(stored: Stored, created: int = 0) -> Known:
        """What the store says."""
        state = State.WITHDRAWN if stored.withdrawn else State(max(stored.status, Status.STORED))
        return Known(stored.client_msg_id, stored.sender, stored.receiver, state, created)


def known_here(context: Context, msg_id: int) -> Known | None:
    """What this node knows: from its recent messages, what waits for an acknowledgement, what ended elsewhere."""
    row = context.recent.get(msg_id)
    if row is not None:
        return Known(row.client_msg_id, row.sender, row.receiver, row.state, row.created)
    entry = context.resend.get(msg_id)
    if entry is not None:
        message = entry.message
        return Known(message.client_msg_id, message.sender, message.receiver, State.OPEN, message.created)
    end = context.recent.ended_elsewhere(msg_id)
    if end is not None:
        created = time_of(msg_id, context.settings.profile.epoch)
        return Known(end.client_msg_id, end.sender, end.receiver, State(end.status), created)
    return None


def is_no_id_of_ours(context: Context, msg_id: int) -> bool:
    """An id from the future or from before the epoch: nobody can have been given it."""
    epoch = context.settings.profile.epoch
    made = time_of(msg_id, epoch)
    return made <= epoch or made > max(context.now_ms(), context.ids.last_ms) + AHEAD_MS
