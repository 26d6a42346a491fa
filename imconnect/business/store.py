"""The port between the rules and a database. Synchronous: it is used on business's own thread.

Implemented by `backends.store_sql.SqlStore` and `backends.store_memory.MemoryStore`; both pass
`tests/contracts/business.py`. Two consumers may work on one database: what a unit loads stays locked until its end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from imconnect.business.rows import (
    Changes,
    EarlyRow,
    MessageRow,
    ParkedKey,
    ParkedRow,
    SendKey,
    SessionKey,
    SessionRow,
    Stock,
)


class BadData(Exception):
    """The data of an event is at fault: it contradicts what is stored, or cannot be stored. Never names contents."""


class Conflict(Exception):
    """Somebody else stored the same row meanwhile: nothing was committed, the same batch will see it."""


class Unit(Protocol):
    """One transaction. Rows come as copies; nothing changes before `save`."""

    def load_messages(self, msg_ids: Collection[int], keys: Collection[SendKey]) -> Sequence[MessageRow]:
        """The messages with one of these ids, and those with one of these (from_id, client_msg_id); each once."""

    def load_sessions(self, keys: Collection[SessionKey]) -> Sequence[SessionRow]:
        """Those of these sessions that exist."""

    def load_early(self, msg_ids: Collection[int]) -> Sequence[EarlyRow]:
        """What is kept for these messages."""

    def count_early(self, actors: Collection[int]) -> dict[int, int]:
        """How many early rows each of these people has; who has none may be missing."""

    def oldest_early(self, actor: int, limit: int) -> Sequence[EarlyRow]:
        """The oldest early rows of one person, by (kept_time, msg_id, kind, status)."""

    def save(self, changes: Changes) -> None:
        """Write what changed. New owed, early and notice rows that exist already are left as they are.

        Raises Conflict when a new message or session exists already, BadData when a value cannot be stored.
        """

    def park(self, row: ParkedRow) -> bool:
        """Put an event aside. False: something is parked at this (topic, queue, offset) already; it stays."""

    def parked(
        self, limit: int, at: ParkedKey | None = None, after: ParkedKey | None = None
    ) -> Sequence[ParkedRow]:
        """What is parked, by (topic, queue, offset): all of it, what is parked `at` this very place, or behind one."""

    def unpark(self, key: ParkedKey) -> None:
        """It is parked no more."""

    def nested(self) -> AbstractContextManager[None]:
        """A part that is undone alone when an exception leaves it."""

    def settleable(self, limit: int) -> Sequence[EarlyRow]:
        """Early rows whose message is here after all: two consumers passed each other."""

    def purgeable(self, before: int, limit: int) -> Sequence[MessageRow]:
        """The oldest messages created before this time that nobody is owed."""

    def drop_early(self, before: int, limit: int) -> int:
        """Delete early rows kept since before this time, at most `limit`; says how many."""

    def drop_notices(self, before: int, limit: int) -> int:
        """Delete withdraw notices older than this, at most `limit`; says how many."""

    def stock(self) -> Stock:
        """How much is parked and kept early."""


class Store(Protocol):
    """A database that business keeps."""

    def transaction(self) -> AbstractContextManager[Unit]:
        """Commits when the block ends, undoes everything when an exception leaves it.

        Raises Unavailable (away, too slow, deadlock, disk full: the whole batch comes again), Conflict, BadData.
        """
