"""The rows of `store_memory` and its transactions: dictionaries that can undo what happened since a mark."""

from __future__ import annotations

from collections.abc import Collection, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from imconnect.business.rows import (
    Changes,
    EarlyKey,
    EarlyRow,
    MessageRow,
    NoticeRow,
    OwedKey,
    OwedRow,
    ParkedKey,
    ParkedRow,
    SendKey,
    SessionKey,
    SessionRow,
    Stock,
)
from imconnect.business.store import BadData, Conflict

_MISSING: Any = object()


class Tables:
    """The rows by their keys. Every change can be undone back to a mark."""

    def __init__(self) -> None:
        self.messages: dict[int, MessageRow] = {}
        self.sends: dict[SendKey, int] = {}
        self.sessions: dict[SessionKey, SessionRow] = {}
        self.owed: dict[OwedKey, OwedRow] = {}
        self.early: dict[EarlyKey, EarlyRow] = {}
        self.notices: dict[OwedKey, NoticeRow] = {}
        self.parked: dict[tuple[str, int, int], ParkedRow] = {}
        self._undo: list[tuple[MutableMapping[Any, Any], Any, Any]] = []

    def put(self, table: MutableMapping[Any, Any], key: Any, row: Any) -> None:
        self._undo.append((table, key, table.get(key, _MISSING)))
        table[key] = row

    def drop(self, table: MutableMapping[Any, Any], key: Any) -> None:
        old = table.pop(key, _MISSING)
        if old is not _MISSING:
            self._undo.append((table, key, old))

    @contextmanager
    def undoing(self) -> Iterator[None]:
        """What happens inside is undone when an exception leaves it."""
        mark = len(self._undo)
        try:
            yield
        except BaseException:
            while len(self._undo) > mark:
                table, key, old = self._undo.pop()
                if old is _MISSING:
                    del table[key]
                else:
                    table[key] = old
            raise

    def keep(self) -> None:
        """What happened so far cannot be undone any more."""
        self._undo.clear()


class MemoryUnit:
    """`business.store.Unit`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def load_messages(self, msg_ids: Collection[int], keys: Collection[SendKey]) -> Sequence[MessageRow]:
        tables = self._tables
        found = {i for i in msg_ids if i in tables.messages}
        found.update(tables.sends[key] for key in keys if key in tables.sends)
        return [attrs.evolve(tables.messages[i]) for i in sorted(found)]

    def load_sessions(self, keys: Collection[SessionKey]) -> Sequence[SessionRow]:
        return [attrs.evolve(self._tables.sessions[key]) for key in sorted(keys) if key in self._tables.sessions]

    def load_early(self, msg_ids: Collection[int]) -> Sequence[EarlyRow]:
        wanted = set(msg_ids)
        return [row for key, row in sorted(self._tables.early.items()) if key.msg_id in wanted]

    def count_early(self, actors: Collection[int]) -> dict[int, int]:
        wanted = set(actors)
        counts: dict[int, int] = {}
        for row in self._tables.early.values():
            if row.actor in wanted:
                counts[row.actor] = counts.get(row.actor, 0) + 1
        return counts

    def oldest_early(self, actor: int, limit: int) -> Sequence[EarlyRow]:
        mine = [row for row in self._tables.early.values() if row.actor == actor]
        return sorted(mine, key=lambda row: (row.kept_time, *row.key))[:limit]

    def save(self, changes: Changes) -> None:
        tables = self._tables
        for message in changes.new_messages:
            key = (message.from_id, message.client_msg_id)
            if message.msg_id in tables.messages or (message.client_msg_id and key in tables.sends):
                raise Conflict(f"message {message.msg_id} is stored already")
            try:
                message.content.encode()
            except UnicodeEncodeError:
                # As a database would: half of a surrogate pair is no text.
                raise BadData("a text is not valid Unicode") from None
            tables.put(tables.messages, message.msg_id, attrs.evolve(message))
            if message.client_msg_id:
                tables.put(tables.sends, key, message.msg_id)
        for message in changes.changed_messages:
            tables.put(tables.messages, message.msg_id, attrs.evolve(message))
        for msg_id in changes.gone_messages:
            gone = tables.messages[msg_id]
            tables.drop(tables.messages, msg_id)
            tables.drop(tables.sends, (gone.from_id, gone.client_msg_id))
        self._save_sessions(changes)
        for owed_row in changes.owed_in:
            tables.put(tables.owed, (owed_row.user_id, owed_row.msg_id), owed_row)
        for owed_key in changes.owed_out:
            tables.drop(tables.owed, owed_key)
        for early_row in changes.early_in:
            tables.put(tables.early, early_row.key, tables.early.get(early_row.key, early_row))
        for early_key in changes.early_out:
            tables.drop(tables.early, early_key)
        for notice in changes.notices_in:
            at = (notice.user_id, notice.msg_id)
            tables.put(tables.notices, at, tables.notices.get(at, notice))

    def _save_sessions(self, changes: Changes) -> None:
        tables = self._tables
        for row in changes.new_sessions:
            if (row.user_id, row.chat_id) in tables.sessions:
                raise Conflict(f"the session of user {row.user_id} is stored already")
            tables.put(tables.sessions, (row.user_id, row.chat_id), attrs.evolve(row))
        for row in changes.changed_sessions:
            tables.put(tables.sessions, (row.user_id, row.chat_id), attrs.evolve(row))

    def park(self, row: ParkedRow) -> bool:
        key = (row.topic, row.queue, row.offset)
        if key in self._tables.parked:
            return False
        self._tables.put(self._tables.parked, key, row)
        return True

    def parked(
        self, limit: int, at: ParkedKey | None = None, after: ParkedKey | None = None
    ) -> Sequence[ParkedRow]:
        rows = sorted(self._tables.parked.items())
        return [row for key, row in rows if (at is None or key == at) and (after is None or key > after)][:limit]

    def unpark(self, key: ParkedKey) -> None:
        self._tables.drop(self._tables.parked, key)

    @contextmanager
    def nested(self) -> Iterator[None]:
        with self._tables.undoing():
            yield

    def settleable(self, limit: int) -> Sequence[EarlyRow]:
        rows = sorted(self._tables.early.values(), key=lambda row: (row.time, row.kind, row.status, row.actor))
        return [row for row in rows if row.msg_id in self._tables.messages][:limit]

    def purgeable(self, before: int, limit: int) -> Sequence[MessageRow]:
        tables = self._tables
        rows = [
            row
            for row in tables.messages.values()
            if row.msg_create_time < before and (row.to_id, row.msg_id) not in tables.owed
        ]
        rows.sort(key=lambda row: (row.msg_create_time, row.msg_id))
        return [attrs.evolve(row) for row in rows[:limit]]

    def drop_early(self, before: int, limit: int) -> int:
        keys = [key for key, row in self._tables.early.items() if row.kept_time < before][:limit]
        for key in keys:
            self._tables.drop(self._tables.early, key)
        return len(keys)

    def drop_notices(self, before: int, limit: int) -> int:
        keys = [key for key, row in self._tables.notices.items() if row.time < before][:limit]
        for key in keys:
            self._tables.drop(self._tables.notices, key)
        return len(keys)

    def stock(self) -> Stock:
        return Stock(len(self._tables.parked), len(self._tables.early))
