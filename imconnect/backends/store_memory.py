"""What business keeps, in memory: the verified twin of `store_sql` (the same contract suites run on both)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import TypeVar

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from imconnect.backends.memory_unit import MemoryUnit, Tables
from imconnect.errors import Unavailable
from imconnect.model import Overdue, Owed, Stored, Withdrawal

_T = TypeVar("_T")


class MemoryStore:
    """`business.store.Store`. `away` set to a reason makes it, and what reads it, answer Unavailable."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.away = ""
        self.lock = RLock()

    @contextmanager
    def transaction(self) -> Iterator[MemoryUnit]:
        with self.lock:
            self.check()
            with self.tables.undoing():
                yield MemoryUnit(self.tables)
                self.check()
            self.tables.keep()

    def check(self) -> None:
        if self.away:
            raise Unavailable(self.away)


class MemoryPendingStore:
    """`core.ports.PendingStore` over a MemoryStore: answers at once, or after `delay` seconds of a given clock."""

    def __init__(self, store: MemoryStore, clock: IReactorTime | None = None, delay: float = 0.0) -> None:
        self._store = store
        self._clock = clock
        self._delay = delay

    def owed(self, user: int, after: int, limit: int) -> Deferred[Sequence[Owed]]:
        return self._answer(lambda: self._owed(user, after, limit))

    def _owed(self, user: int, after: int, limit: int) -> Sequence[Owed]:
        tables = self._store.tables
        ids = sorted(msg_id for owner, msg_id in tables.owed if owner == user and msg_id > after)
        rows = [tables.messages[i] for i in ids if i in tables.messages]
        return [row.as_owed() for row in rows if not row.withdrawn][:limit]

    def known(self, msg_ids: Collection[int]) -> Deferred[set[int]]:
        return self._answer(lambda: {i for i in msg_ids if i in self._store.tables.messages})

    def overdue(self, users: Collection[int], before: int, per_user: int) -> Deferred[Sequence[Overdue]]:
        return self._answer(lambda: self._overdue(users, before, per_user))

    def _overdue(self, users: Collection[int], before: int, per_user: int) -> Sequence[Overdue]:
        wanted = set(users)
        rows = [row for row in self._store.tables.owed.values() if row.user_id in wanted and row.create_time < before]
        rows.sort(key=lambda row: (row.create_time, row.msg_id))
        taken: dict[int, int] = {}
        result: list[Overdue] = []
        for row in rows:
            taken[row.user_id] = taken.get(row.user_id, 0) + 1
            if taken[row.user_id] <= per_user:
                result.append(Overdue(row.user_id, row.msg_id, row.create_time))
        return result

    def find(self, msg_id: int) -> Deferred[Stored | None]:
        return self._answer(lambda: self._find(msg_id))

    def _find(self, msg_id: int) -> Stored | None:
        row = self._store.tables.messages.get(msg_id)
        return None if row is None else row.as_stored()

    def states(self, user: int, client_msg_ids: Collection[bytes]) -> Deferred[Sequence[Stored]]:
        return self._answer(lambda: self._states(user, client_msg_ids))

    def _states(self, user: int, client_msg_ids: Collection[bytes]) -> Sequence[Stored]:
        tables = self._store.tables
        ids = (tables.sends.get((user, each)) for each in set(client_msg_ids))
        return [tables.messages[msg_id].as_stored() for msg_id in ids if msg_id is not None]

    def notices(self, user: int, since: int, limit: int) -> Deferred[Sequence[Withdrawal]]:
        return self._answer(lambda: self._notices(user, since, limit))

    def _notices(self, user: int, since: int, limit: int) -> Sequence[Withdrawal]:
        rows = [row for row in self._store.tables.notices.values() if row.user_id == user and row.time >= since]
        rows.sort(key=lambda row: (row.time, row.msg_id))
        return [Withdrawal(row.msg_id, row.from_id, row.user_id) for row in rows[max(0, len(rows) - limit) :]]

    def close(self) -> Deferred[None]:
        return succeed(None)

    def _answer(self, read: Callable[[], _T]) -> Deferred[_T]:
        if self._clock is None:
            return execute(self._read, read)
        return deferLater(self._clock, self._delay, self._read, read)

    def _read(self, read: Callable[[], _T]) -> _T:
        with self._store.lock:
            self._store.check()
            return read()
