"""What business keeps in a database (SQLite, MariaDB/MySQL), and what the gateway reads of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, Row
from twisted.internet.defer import Deferred, succeed

from imconnect.backends.calls import Calls
from imconnect.backends.sql import queries
from imconnect.backends.sql.engine import WRITES
from imconnect.backends.sql.errors import translated
from imconnect.backends.sql.keys import pieces
from imconnect.backends.sql.unit import SqlUnit, message_of
from imconnect.backends.sql.writes import Writes
from imconnect.model import Overdue, Owed, Stored, Withdrawal
from imconnect.wire.ids import uuid_bytes, uuid_text


class SqlStore:
    """`business.store.Store` on an engine whose schema is in place (`sql.migrate.ensure_schema`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writes = Writes(engine.dialect.name)

    @contextmanager
    def transaction(self) -> Iterator[SqlUnit]:
        with translated(), self._engine.connect() as connection:
            connection = connection.execution_options(**{WRITES: True})
            with connection.begin():
                yield SqlUnit(connection, self._writes)


class SqlPendingStore:
    """`core.ports.PendingStore`. Each call runs on the pool; a database that is away or older is Unavailable."""

    def __init__(self, engine: Engine, pool: Calls) -> None:
        self._engine = engine
        self._pool = pool

    def owed(self, user: int, after: int, limit: int) -> Deferred[Sequence[Owed]]:
        return self._pool.run(self._owed, user, after, limit)

    def known(self, msg_ids: Collection[int]) -> Deferred[set[int]]:
        return self._pool.run(self._known, msg_ids)

    def overdue(self, users: Collection[int], before: int, per_user: int) -> Deferred[Sequence[Overdue]]:
        return self._pool.run(self._overdue, users, before, per_user)

    def find(self, msg_id: int) -> Deferred[Stored | None]:
        return self._pool.run(self._find, msg_id)

    def states(self, user: int, client_msg_ids: Collection[bytes]) -> Deferred[Sequence[Stored]]:
        return self._pool.run(self._states, user, client_msg_ids)

    def notices(self, user: int, since: int, limit: int) -> Deferred[Sequence[Withdrawal]]:
        return self._pool.run(self._notices, user, since, limit)

    def close(self) -> Deferred[None]:
        """The engine is its maker's to dispose of: business may still write to it."""
        return succeed(None)

    def _read(self, statement: queries.Rows) -> Sequence[Row[Any]]:
        with translated(), self._engine.connect() as connection:
            return connection.execute(statement).all()

    def _owed(self, user: int, after: int, limit: int) -> list[Owed]:
        return [message_of(row).as_owed() for row in self._read(queries.owed(user, after, limit))]

    def _known(self, msg_ids: Collection[int]) -> set[int]:
        return {row[0] for ids in pieces(set(msg_ids)) for row in self._read(queries.known(ids))}

    def _overdue(self, users: Collection[int], before: int, per_user: int) -> list[Overdue]:
        found = [
            Overdue(*tuple(row))
            for some in pieces(set(users))
            for row in self._read(queries.overdue(some, before, per_user))
        ]
        found.sort(key=lambda row: (row.created, row.msg_id))
        return found

    def _find(self, msg_id: int) -> Stored | None:
        rows = self._read(queries.find(msg_id))
        return message_of(rows[0]).as_stored() if rows else None

    def _states(self, user: int, client_msg_ids: Collection[bytes]) -> list[Stored]:
        wanted = {uuid_text(each) for each in client_msg_ids}
        return [
            Stored(row.msg_id, uuid_bytes(row.client_msg_id), user, row.to_id, row.msg_status, bool(row.withdraw_flag))
            for some in pieces(wanted)
            for row in self._read(queries.states(user, some))
        ]

    def _notices(self, user: int, since: int, limit: int) -> list[Withdrawal]:
        rows = self._read(queries.notices(user, since, limit))
        return [Withdrawal(row.msg_id, row.from_id, row.user_id) for row in reversed(rows)]
