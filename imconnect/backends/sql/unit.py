"""One transaction of business on a SQLAlchemy connection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, func, select, update

from imconnect.backends.sql import queries, schema
from imconnect.backends.sql.errors import translated
from imconnect.backends.sql.keys import delete_keys, pieces, select_keys
from imconnect.backends.sql.writes import Writes, insert
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
from imconnect.wire.ids import uuid_bytes, uuid_text


class SqlUnit:
    """`business.store.Unit`. Rows are locked where the dialect can, always in the order of their keys."""

    def __init__(self, connection: Connection, writes: Writes) -> None:
        self._connection = connection
        self._writes = writes

    def load_messages(self, msg_ids: Collection[int], keys: Collection[SendKey]) -> Sequence[MessageRow]:
        found: dict[int, MessageRow] = {}
        with translated():
            for ids in pieces(msg_ids):
                for row in self._connection.execute(queries.messages(ids)):
                    found[row[0]] = message_of(row)
            # A message that was found by its id was found under its clientMsgId too.
            rest = set(keys).difference((row.from_id, row.client_msg_id) for row in found.values())
            sends = {(sender, uuid_text(client_msg_id)) for sender, client_msg_id in rest}
            for row in select_keys(self._connection, schema.message, ("from_id", "client_msg_id"), sends):
                found[row[0]] = message_of(row)
        return list(found.values())

    def load_sessions(self, keys: Collection[SessionKey]) -> Sequence[SessionRow]:
        with translated():
            rows = select_keys(self._connection, schema.session, ("user_id", "chat_id"), keys)
            return [SessionRow(*tuple(row)) for row in rows]

    def load_early(self, msg_ids: Collection[int]) -> Sequence[EarlyRow]:
        with translated():
            return [early_of(row) for ids in pieces(msg_ids) for row in self._connection.execute(queries.early_of(ids))]

    def count_early(self, actors: Collection[int]) -> dict[int, int]:
        with translated():
            return {
                row[0]: row[1]
                for piece in pieces(actors)
                for row in self._connection.execute(queries.early_counts(piece))
            }

    def oldest_early(self, actor: int, limit: int) -> Sequence[EarlyRow]:
        with translated():
            return [early_of(row) for row in self._connection.execute(queries.oldest_early(actor, limit))]

    def save(self, changes: Changes) -> None:
        connection, writes = self._connection, self._writes
        with translated():
            insert(connection, writes.message, map(_message_values, changes.new_messages))
            self._update_messages(changes.changed_messages)
            delete_keys(connection, schema.message, [(msg_id,) for msg_id in changes.gone_messages])
            insert(connection, writes.new_session, map(_session_values, changes.new_sessions))
            insert(connection, writes.session, map(_session_values, changes.changed_sessions))
            insert(connection, writes.offline, changes.owed_in)
            delete_keys(connection, schema.offline, changes.owed_out)
            insert(connection, writes.early, changes.early_in)
            delete_keys(connection, schema.early, changes.early_out)
            insert(connection, writes.notice, changes.notices_in)

    def _update_messages(self, rows: Sequence[MessageRow]) -> None:
        """One statement for all messages that end in the same state: there are at most ten states."""
        states: dict[tuple[int, bool], list[int]] = {}
        for row in rows:
            states.setdefault((row.msg_status, row.withdrawn), []).append(row.msg_id)
        for (status, withdrawn), msg_ids in sorted(states.items()):
            values = {"msg_status": status, "withdraw_flag": int(withdrawn)}
            for ids in pieces(msg_ids):
                self._connection.execute(update(schema.message).where(schema.message.c.msg_id.in_(ids)).values(values))

    def park(self, row: ParkedRow) -> bool:
        with translated():
            if self._connection.execute(queries.parked_rows(1, (row.topic, row.queue, row.offset))).first():
                return False
            self._connection.execute(schema.parked.insert().values(row._asdict()))
            return True

    def parked(
        self, limit: int, at: ParkedKey | None = None, after: ParkedKey | None = None
    ) -> Sequence[ParkedRow]:
        with translated():
            return [ParkedRow(*row) for row in self._connection.execute(queries.parked_rows(limit, at, after))]

    def unpark(self, key: ParkedKey) -> None:
        with translated():
            self._connection.execute(schema.parked.delete().where(queries.parked_at(key)))

    @contextmanager
    def nested(self) -> Iterator[None]:
        with translated(), self._connection.begin_nested():
            yield

    def settleable(self, limit: int) -> Sequence[EarlyRow]:
        with translated():
            return [early_of(row) for row in self._connection.execute(queries.settleable(limit))]

    def purgeable(self, before: int, limit: int) -> Sequence[MessageRow]:
        with translated():
            return [message_of(row) for row in self._connection.execute(queries.purgeable(before, limit))]

    def drop_early(self, before: int, limit: int) -> int:
        return self._drop(schema.early, schema.early.c.kept_time, before, limit)

    def drop_notices(self, before: int, limit: int) -> int:
        return self._drop(schema.notice, schema.notice.c.time, before, limit)

    def _drop(self, table: Any, age: Any, before: int, limit: int) -> int:
        """Chosen first, because DELETE with a limit is not everywhere."""
        key = tuple(table.primary_key.columns)
        with translated():
            keys = [
                tuple(row)
                for row in self._connection.execute(select(*key).where(age < before).order_by(age).limit(limit))
            ]
            delete_keys(self._connection, table, keys)
        return len(keys)

    def stock(self) -> Stock:
        with translated():
            parked = self._connection.execute(select(func.count()).select_from(schema.parked)).scalar_one()
            early = self._connection.execute(select(func.count()).select_from(schema.early)).scalar_one()
        return Stock(parked, early)


def message_of(row: Sequence[Any]) -> MessageRow:
    """A row of im_c2c_message with all its columns."""
    msg_id, client_msg_id, from_id, to_id, chat, content, format_, status, withdrawn, created = tuple(row)
    return MessageRow(
        msg_id,
        uuid_bytes(client_msg_id or ""),
        from_id,
        to_id,
        chat,
        content,
        format_,
        status,
        bool(withdrawn),
        created,
    )


def early_of(row: Sequence[Any]) -> EarlyRow:
    """A row of im_event_early with all its columns."""
    msg_id, kind, actor, status, time, kept_time, by_business = tuple(row)
    return EarlyRow(msg_id, kind, actor, status, time, kept_time, bool(by_business))


def _message_values(row: MessageRow) -> tuple[Any, ...]:
    return (
        row.msg_id,
        uuid_text(row.client_msg_id) or None,
        row.from_id,
        row.to_id,
        row.chat_id,
        row.content,
        row.msg_format,
        row.msg_status,
        int(row.withdrawn),
        row.msg_create_time,
    )


def _session_values(row: SessionRow) -> tuple[Any, ...]:
    return row.user_id, row.chat_id, row.peer_id, row.last_msg_id, row.last_msg_time, row.unread_count
