"""What a start does before anybody signs in: the log is read, and what an earlier process left open is turned offline."""

from __future__ import annotations

from typing import NamedTuple

from twisted.logger import Logger

from imconnect.core.claims import Claims
from imconnect.core.ports import Entry, Outbox
from imconnect.core.recent import Recent, Row
from imconnect.events.values import Offlined, Sent
from imconnect.observe.metrics import Metrics
from imconnect.wire.ids import time_of

_log = Logger()

#: OFFLINE events per commit.
BATCH = 1000


class Resumed(NamedTuple):
    """Where this process goes on."""

    #: The highest number in the log, and how many events lie parked beside it.
    last: int
    parked: int
    #: No id up to this millisecond is free; up to `reserved_ms` the log itself says so.
    floor_ms: int
    reserved_ms: int


async def recover(outbox: Outbox, recent: Recent, metrics: Metrics, claims: Claims | None, epoch: int) -> Resumed:
    """Open the log and end what was open. Nobody can be pushed anything yet. Raises Damaged or Unavailable."""
    recovered = await outbox.open()
    recent.replay(recovered.entries)
    last = recovered.last
    rows = await _left_open(recent, claims)
    for start in range(0, len(rows), BATCH):
        events = [Offlined(row.message) for row in rows[start : start + BATCH] if row.message]
        first = await outbox.append(events)
        for number, event in enumerate(events, first):
            recent.settle(number, event)
        metrics.offline["restart"] += len(events)
        last = first + len(events) - 1
    if rows:
        _log.info("{count} messages were open when the last process ended: offline now", count=len(rows))
    floor_ms = max((_id_ms(entry, epoch) for entry in recovered.entries), default=0)
    parked = len(await outbox.parked())
    return Resumed(last, parked, max(recovered.reserved_ms, floor_ms), recovered.reserved_ms)


async def _left_open(recent: Recent, claims: Claims | None) -> list[Row]:
    """What has not ended, in the order of the log, and not on another node either."""
    rows = recent.open_rows()
    if claims is None:
        return rows
    by_user: dict[int, list[int]] = {}
    for row in rows:
        by_user.setdefault(row.receiver, []).append(row.msg_id)
    ended: set[int] = set()
    for user, msg_ids in by_user.items():
        ended |= await claims.ended(user, msg_ids)
    for row in rows:
        # It ended elsewhere: the log need not keep it until something happens to it here.
        row.passed = row.msg_id in ended
    return [row for row in rows if not row.passed]


def _id_ms(entry: Entry, epoch: int) -> int:
    event = entry[1]
    return time_of(event.message.msg_id, epoch) if type(event) is Sent else 0
