"""Who of a group consumes which queue. Every member computes it for itself, so all must compute alike."""

from __future__ import annotations

from collections.abc import Sequence

from imconnect.rocketmq.routes import Queue


def averagely(queues: Sequence[Queue], members: Sequence[str], me: str) -> list[Queue]:
    """My share of the sorted queues among the sorted members: Java's AllocateMessageQueueAveragely.

    Neighbouring queues stay together; the first members take one more where it does not divide.
    """
    if me not in members:
        return []
    index = members.index(me)
    size, more = divmod(len(queues), len(members))
    start = index * size + min(index, more)
    return list(queues[start : start + size + (1 if index < more else 0)])
