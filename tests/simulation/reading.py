"""What a node reads of the database: late, stale, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from imconnect.backends.store_memory import MemoryPendingStore
from imconnect.model import Overdue, Owed, Stored, Withdrawal
from tests.simulation.clock import Life
from tests.simulation.faults import Faults

_T = TypeVar("_T")

#: In place of a user: it is not known whose page failed.
EVERYBODY = 0


class Reading:
    """`core.ports.PendingStore` of one life of a node. An answer is as old as its way back is long."""

    def __init__(self, store: MemoryPendingStore, life: Life, faults: Faults, failed: Callable[[int], None]) -> None:
        self._store = store
        self._life = life
        self._faults = faults
        #: Called with the user whose page could not be read.
        self._failed = failed

    def owed(self, user: int, after: int, limit: int) -> Deferred[Sequence[Owed]]:
        return self._call(lambda: self._store.owed(user, after, limit)).addErrback(self._page_failed, user)

    def known(self, msg_ids: Collection[int]) -> Deferred[set[int]]:
        ids = list(msg_ids)
        return self._call(lambda: self._store.known(ids)).addErrback(self._page_failed, EVERYBODY)

    def overdue(self, users: Collection[int], before: int, per_user: int) -> Deferred[Sequence[Overdue]]:
        wanted = list(users)
        return self._call(lambda: self._store.overdue(wanted, before, per_user))

    def find(self, msg_id: int) -> Deferred[Stored | None]:
        return self._call(lambda: self._store.find(msg_id))

    def states(self, user: int, client_msg_ids: Collection[bytes]) -> Deferred[Sequence[Stored]]:
        wanted = list(client_msg_ids)
        return self._call(lambda: self._store.states(user, wanted))

    def notices(self, user: int, since: int, limit: int) -> Deferred[Sequence[Withdrawal]]:
        return self._call(lambda: self._store.notices(user, since, limit)).addErrback(self._page_failed, user)

    def close(self) -> Deferred[None]:
        return self._store.close()

    def _call(self, read: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        return self._faults.call(self._life, "store", read)

    def _page_failed(self, failure: Failure, user: int) -> Failure:
        self._failed(user)
        return failure
