"""A broker that lost the end of its queue: how that is seen, and where to read on.

The numbers of what it lost are given to what is written next. Whoever has passed them misses that.
"""

from __future__ import annotations

from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.routes import Queue
from imconnect.rocketmq.window import Mark

#: How far before the last message that we had, by the broker's clock, a queue that lost its end is read again.
REWIND_MS = 600_000


async def has_lost(admin: Admin, group: str, queue: Queue, mark: Mark) -> bool:
    """Whether this message, which was there, is another one now or none. One that is too old to be there was not lost."""
    pulled = await admin.pull(queue, mark.offset, 1, group=group)
    if pulled.max_offset <= mark.offset:
        return True
    return any(message.offset == mark.offset and Mark.of(message) != mark for message in pulled.messages)


async def before_the_loss(admin: Admin, queue: Queue, mark: Mark | None) -> int:
    """Where to read again so that nothing new is passed over. The loss is found by its time; nobody knows its place."""
    first = await admin.min_offset(queue)
    return first if mark is None else max(first, await admin.offset_at(queue, mark.stored - REWIND_MS))
