"""The consumer's rules over a store: one transaction per batch, culprits parked, and the jobs that tidy up.

Synchronous, for one thread of its own. What it returns is told after the commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b

from twisted.logger import Logger

from imconnect.business.rows import ParkedKey, ParkedRow, Source, Stock
from imconnect.business.rules import Counts, Rules, Terms, flaw
from imconnect.business.store import BadData, Conflict, Store, Unit
from imconnect.business.work import Work
from imconnect.errors import Unavailable
from imconnect.events.plain import plain
from imconnect.events.values import Event, Offlined, Sent
from imconnect.model import Applied

_log = Logger()

DAY_MS = 86_400_000
#: Early events and withdraw notices live this long.
KEEP_MS = 7 * DAY_MS
#: Rows that one step of a job touches at most.
PIECE = 500


class BusinessRules:
    """`core.ports.Business` over a store.

    `counts` only grow, with every commit. `stock()` counts what is parked and kept early in the database.
    """

    def __init__(self, store: Store, now_ms: Callable[[], int], terms: Terms | None = None) -> None:
        self._store = store
        self._now_ms = now_ms
        self._terms = terms or Terms()
        self.counts = Counts()

    def apply(self, events: Sequence[Event], sources: Sequence[Source] | None = None) -> Applied:
        """One batch, one transaction; `sources` (one per event) say where a parked event came from.

        Returns after the commit. Raises Unavailable when nothing was committed: the same batch comes again.
        """
        origins = list(sources) if sources is not None else [Source("", 0, 0)] * len(events)
        if len(origins) != len(events):
            raise ValueError(f"{len(events)} events, {len(origins)} sources")
        batch = list(zip(events, origins, strict=True))
        try:
            return self._together(batch)
        except BadData:
            return self._one_by_one(batch)
        except Conflict:
            return self._after_conflict(batch)

    def park(self, source: Source, reason: str) -> None:
        """Put an event aside that the caller could not read or gave up. Raises Unavailable."""
        with self._store.transaction() as unit:
            new = _park(unit, source, source.body, reason, self._now_ms())
        self._count_parked([(source, 0, reason)] if new else [])

    def parked(self, limit: int = 100, after: ParkedKey | None = None) -> Sequence[ParkedRow]:
        """What is parked, by its key, all of it or what is behind `after`. Raises Unavailable."""
        with self._store.transaction() as unit:
            return unit.parked(limit, after=after)

    def parked_at(self, key: ParkedKey) -> ParkedRow | None:
        """What is parked there. Raises Unavailable."""
        with self._store.transaction() as unit:
            return next(iter(unit.parked(1, key)), None)

    def replay(self, key: ParkedKey, event: Event) -> Applied:
        """Apply a parked event after all: it leaves the table in the same transaction.

        Raises BadData where it still cannot be applied, then it stays; Unavailable.
        """
        try:
            with self._store.transaction() as unit:
                rules = self._alone(unit, event, self._now_ms())
                unit.unpark(key)
        except Conflict as error:
            raise Unavailable(f"another consumer stored the same rows: {error}") from error
        self.counts.add(rules.counts)
        return rules.applied()

    def stock(self) -> Stock:
        """How many events are parked and kept early. Raises Unavailable."""
        with self._store.transaction() as unit:
            return unit.stock()

    def settle_early(self, now: int) -> Applied:
        """Once a minute: apply early events whose message is here (two consumers passed each other), a bounded
        number; delete early events and withdraw notices older than seven days. Raises Unavailable."""
        with self._store.transaction() as unit:
            kept = unit.settleable(PIECE)
            work = Work.of(unit, unit.load_messages({row.msg_id for row in kept}, ()))
            rules = Rules(work, self._terms, now)
            rules.settle(kept)
            unit.save(work.changes())
            rules.counts.early_expired += unit.drop_early(now - KEEP_MS, PIECE)
            unit.drop_notices(now - KEEP_MS, PIECE)
        self.counts.add(rules.counts)
        return rules.applied()

    def purge(self, now: int, keep_days: int) -> int:
        """One step of the retention job (`business.keep_days`): deletes at most 500 messages created more than
        `keep_days` days before `now` that nobody is owed, and says how many; call it until that is less than 500.

        A message that its receiver has but never read stops counting as unread. Sessions stay. What is still owed
        stays however old it is. An event of a deleted message that came once more would store it again: keep longer
        than the queue does. Raises Unavailable.
        """
        with self._store.transaction() as unit:
            rows = unit.purgeable(now - keep_days * DAY_MS, PIECE)
            work = Work.of(unit, rows)
            Rules(work, self._terms, now).purge(rows)
            unit.save(work.changes())
        return len(rows)

    def _together(self, batch: Sequence[tuple[Event, Source]]) -> Applied:
        """The ordinary way: all events on one unit of work."""
        now = self._now_ms()
        parked: list[tuple[Source, int, str]] = []
        good: list[tuple[Event, Source]] = []
        bad: list[tuple[Event, Source, str]] = []
        for event, source in batch:
            reason = flaw(event)
            if reason:
                bad.append((event, source, reason))
            else:
                good.append((event, source))
        with self._store.transaction() as unit:
            work = Work.load(unit, [event for event, _ in good])
            rules = Rules(work, self._terms, now)
            for event, source in good:
                try:
                    rules.apply(event)
                except BadData as error:
                    bad.append((event, source, str(error)))
            rules.counts.early_dropped += work.trim_early(unit)
            unit.save(work.changes())
            for event, source, reason in bad:
                if _park(unit, source, _written(event), reason, now):
                    parked.append((source, _msg_id(event), reason))
        self.counts.add(rules.counts)
        self._count_parked(parked)
        return rules.applied()

    def _after_conflict(self, batch: Sequence[tuple[Event, Source]]) -> Applied:
        """Another consumer stored one of these rows meanwhile; now it can be seen."""
        try:
            return self._together(batch)
        except Conflict as error:
            raise Unavailable(f"two consumers keep storing the same rows: {error}") from error
        except BadData:
            return self._one_by_one(batch)

    def _one_by_one(self, batch: Sequence[tuple[Event, Source]]) -> Applied:
        """The same in small steps, still one transaction: what cannot be applied is parked, the rest is kept."""
        now = self._now_ms()
        counts, applied, parked = Counts(), Applied(), list[tuple[Source, int, str]]()
        try:
            with self._store.transaction() as unit:
                for event, source in batch:
                    try:
                        with unit.nested():
                            rules = self._alone(unit, event, now)
                    except BadData as error:
                        if _park(unit, source, _written(event), str(error), now):
                            parked.append((source, _msg_id(event), str(error)))
                    else:
                        counts.add(rules.counts)
                        applied = _joined(applied, rules.applied())
        except Conflict as error:
            raise Unavailable(f"another consumer stored the same rows: {error}") from error
        self.counts.add(counts)
        self._count_parked(parked)
        return applied

    def _alone(self, unit: Unit, event: Event, now: int) -> Rules:
        reason = flaw(event)
        if reason:
            raise BadData(reason)
        work = Work.load(unit, [event])
        rules = Rules(work, self._terms, now)
        rules.apply(event)
        rules.counts.early_dropped += work.trim_early(unit)
        unit.save(work.changes())
        return rules

    def _count_parked(self, parked: Sequence[tuple[Source, int, str]]) -> None:
        self.counts.parked += len(parked)
        for source, msg_id, reason in parked:
            _log.error(
                "an event was parked: {reason} (message {msg_id}, topic {source.topic!r}, queue {source.queue}, "
                "offset {source.offset})",
                reason=reason,
                msg_id=msg_id,
                source=source,
            )


def _park(unit: Unit, source: Source, body: bytes, reason: str, now: int) -> bool:
    """Parked once per place. An event without one, or whose place holds another body (a queue that was made anew
    counts its offsets from the start), gets a place from its own content."""
    body = source.body or body
    digest = int.from_bytes(blake2b(body, digest_size=8).digest(), "big") >> 1
    offset = source.offset if source.topic else digest
    row = ParkedRow(source.topic, source.queue, offset, body, reason[:250], now)
    if unit.park(row):
        return True
    there = unit.parked(1, (row.topic, row.queue, row.offset))
    if not there or there[0].body == body:
        return False
    return unit.park(row._replace(offset=-digest))


def _written(event: Event) -> bytes:
    """An event of the embedded queue, as a person can read it in the table."""
    return json.dumps(plain(event)).encode()


def _msg_id(event: Event) -> int:
    return event.message.msg_id if isinstance(event, Sent | Offlined) else event.msg_id


def _joined(one: Applied, two: Applied) -> Applied:
    hints = dict.fromkeys((*one.hints, *two.hints))
    withdrawals = dict.fromkeys((*one.withdrawals, *two.withdrawals))
    receipts = dict.fromkeys((*one.receipts, *two.receipts))
    return Applied(tuple(receipts), tuple(withdrawals), tuple(hints))
