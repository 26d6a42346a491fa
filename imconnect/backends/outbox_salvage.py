"""What an outbox file holds, whatever its state: read by SQLite where it is sound, else from its pages.

Nothing here writes, and no lock is taken: it may be used beside a gateway, whose commits it does not hold up.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from errno import ENOENT
from typing import NamedTuple

import attrs

from imconnect.backends import outbox_schema
from imconnect.backends.outbox_schema import PAGE_BYTES
from imconnect.backends.sqlite_pages import Pages, Place
from imconnect.errors import Damaged
from imconnect.events.records import NewerRecord, RecordError, unpack
from imconnect.events.values import Event

#: A batch holds at most so many events: a count beyond that is not one of ours.
_MOST = 1 << 20


class Found(NamedTuple):
    """A batch, or one event of a sound log. `events` is empty where it cannot be read; then `why` says why."""

    position: int
    size: int
    events: Sequence[Event]
    why: str = ""


class Parked(NamedTuple):
    """An event that the broker refused. `event` is None where it cannot be read."""

    position: int
    event: Event | None
    reason: str


@attrs.frozen(kw_only=True)
class Log:
    """One outbox, opened by `reading`."""

    #: What is wrong with it, without its path; empty: it is sound.
    trouble: str
    #: In the order of the numbers; may be gone through again.
    batches: Iterable[Found]
    #: Lane -> everything up to this number is relayed.
    lanes: dict[int, int]
    parked: Sequence[Parked]


@attrs.define
class Survey:
    """How much of a log can be read. Numbers of events."""

    kinds: Counter[str] = attrs.field(factory=Counter)
    first: int = 0
    last: int = 0
    saved: int = 0
    #: At least so many: what is missing at the end leaves no trace.
    lost: int = 0
    #: The first batch that cannot be read, or that is missing.
    first_broken: str = ""

    def add(self, found: Found) -> None:
        """One batch more, in the order of the numbers."""
        if self.last and found.position > self.last + 1:
            self._lose(found.position - self.last - 1, f"the events {self.last + 1} to {found.position - 1} are missing")
        if found.why:
            self._lose(found.size, f"the batch at event {found.position}: {found.why}")
        self.first = self.first or found.position
        self.last = found.position + found.size - 1
        self.saved += len(found.events)
        self.kinds.update(type(event).__name__ for event in found.events)

    def _lose(self, count: int, what: str) -> None:
        self.lost += count
        self.first_broken = self.first_broken or what


def survey(log: Log) -> Survey:
    """Goes through all of it."""
    result = Survey()
    for found in log.batches:
        result.add(found)
    return result


@contextmanager
def reading(path: str) -> Iterator[Log]:
    """The log at this path. Raises FileNotFoundError where there is none, and other OSErrors."""
    with closing(Pages(path, PAGE_BYTES)) as pages:
        if not pages.exists:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path)
        try:
            log, trouble = _sound(path), pages.wal_trouble
        except Damaged as error:
            trouble = error.what
        yield _damaged(pages, trouble) if trouble else log


def _sound(path: str) -> Log:
    """As SQLite reads it, all of it checked. Raises Damaged."""
    outbox_schema.is_new(path)
    with closing(outbox_schema.connect_reader(path)) as db:
        db.execute("BEGIN")  # one moment of a log that a gateway may be writing to
        recovered, lanes = outbox_schema.recover(db, path, thorough=True)
        parked = [Parked(*row) for row in outbox_schema.parked(db, path)]
    batches = [Found(number, 1, (event,)) for number, event in recovered.entries]
    return Log(trouble="", batches=batches, lanes=lanes, parked=parked)


class _Row(NamedTuple):
    position: int
    size: int
    readable: bool
    place: Place


class _Batches:
    """Read once more each time, so that only their places are in memory."""

    def __init__(self, pages: Pages, rows: Sequence[_Row]) -> None:
        self._pages, self._rows = pages, rows

    def __iter__(self) -> Iterator[Found]:
        for position, count, _, place in self._rows:
            row = self._pages.row(place)
            blob = row.values[3] if row is not None else b""
            events, why = _events(blob if isinstance(blob, bytes) else b"")
            yield Found(position, count, events, why)


def _damaged(pages: Pages, trouble: str) -> Log:
    """What the pages still say. The tables are told apart by the types of their columns."""
    batches: list[_Row] = []
    parked: dict[int, Parked] = {}
    lanes: dict[int, int] = {}
    for place, rowid, values in pages.rows():
        match values:
            case (None, int(count), int(), bytes(blob)) if rowid > 0 and 0 < count <= _MOST:
                events, _ = _events(blob)
                batches.append(_Row(rowid, len(events) or count, bool(events), place))
            case (None, int(), str(reason), bytes(blob)):
                events, why = _events(blob)
                parked[rowid] = Parked(rowid, events[0] if events else None, reason if events else why)
            case (None, int(position)):
                lanes[rowid] = position
    in_order = [parked[position] for position in sorted(parked)]
    return Log(trouble=trouble, batches=_Batches(pages, _plausible(batches)), lanes=lanes, parked=in_order)


def _plausible(rows: list[_Row]) -> list[_Row]:
    """In order, each event once. What cannot be read counts only where there is room for it: its number may be damaged
    too."""
    rows.sort(key=lambda row: (row.position, not row.readable))
    good = [row.position for row in rows if row.readable]
    kept: list[_Row] = []
    end = 0
    for row in rows:
        after = bisect_left(good, row.position)
        has_room = row.position + row.size <= good[after] if after < len(good) else row.position == end + 1 or not end
        if row.position > end and (row.readable or has_room):
            kept.append(row)
            end = row.position + row.size - 1
    return kept


def _events(blob: bytes) -> tuple[Sequence[Event], str]:
    try:
        return unpack(blob), ""
    except NewerRecord:
        return (), "it was written by a newer version of imconnect"
    except RecordError as error:
        return (), f"it is damaged: {error}"
