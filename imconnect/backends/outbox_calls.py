"""What passes between the reactor and the thread that writes the SQLite outbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

Statement = tuple[str, Sequence[Sequence[Any]]]
#: What a Deferred fires with; an exception is an errback.
Result = tuple[Deferred[Any], Any]


class Append(NamedTuple):
    """A batch: packed already, numbered by the writer."""

    deferred: Deferred[int]
    blob: bytes
    size: int  # events
    created: int


class Write(NamedTuple):
    """Any other statement that somebody waits for."""

    deferred: Deferred[None]
    statement: Statement


class Report(NamedTuple):
    """What the reactor hears of one transaction."""

    results: Sequence[Result]
    failed: bool
    checkpoint: bool  # the WAL has grown
    more: bool  # a failed transaction left positions, or there is more to trim
