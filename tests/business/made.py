"""Events to test with, and everything that a store holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Engine, select
from twisted.internet.defer import Deferred, execute

from imconnect.backends.memory_unit import Tables
from imconnect.backends.sql import schema
from imconnect.backends.sql.unit import early_of, message_of
from imconnect.business.rows import (
    EarlyRow,
    MessageRow,
    NoticeRow,
    OwedRow,
    ParkedRow,
    SessionRow,
)
from imconnect.events.values import Acknowledged, Offlined, Sent, Withdrawn
from imconnect.model import Message

_T = TypeVar("_T")

#: When the tests' messages are made, and business's clock.
T0 = 1_764_000_000_000
NOW = T0 + 1000

ANN, BEN, CAT = 1001, 1002, 1003


def client_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def message(
    msg_id: int,
    sender: int = ANN,
    receiver: int = BEN,
    content: str = "hello, 世界 😀",
    client: bytes | None = None,
    created: int | None = None,
    format: int = 1,
) -> Message:
    """Numbered: its clientMsgId and its times follow from its id where nothing else is said."""
    at = T0 + msg_id if created is None else created
    return Message(msg_id, client_id(msg_id) if client is None else client, sender, receiver, format, content, at, at)


def sent(msg_id: int, **kwargs: Any) -> Sent:
    return Sent(message(msg_id, **kwargs))


def offlined(msg_id: int, **kwargs: Any) -> Offlined:
    return Offlined(message(msg_id, **kwargs))


def ack(
    msg_id: int, status: int, actor: int = BEN, sender: int = ANN, by_business: bool = False, time: int = T0 + 500
) -> Acknowledged:
    return Acknowledged(msg_id, client_id(msg_id), sender, actor, status, time, by_business)


def withdraw(
    msg_id: int, actor: int = ANN, receiver: int = BEN, by_business: bool = False, time: int = T0 + 500
) -> Withdrawn:
    return Withdrawn(msg_id, client_id(msg_id), actor, receiver, time, by_business)


class Everything(NamedTuple):
    """All rows of a store, each table in the order of its key."""

    messages: list[MessageRow]
    sessions: list[SessionRow]
    owed: list[OwedRow]
    early: list[EarlyRow]
    notices: list[NoticeRow]
    parked: list[ParkedRow]


def in_memory(tables: Tables) -> Everything:
    return Everything(
        [row for _, row in sorted(tables.messages.items())],
        [row for _, row in sorted(tables.sessions.items())],
        sorted(tables.owed.values()),
        sorted(tables.early.values()),
        sorted(tables.notices.values()),
        sorted(tables.parked.values()),
    )


def in_database(engine: Engine) -> Everything:
    with engine.connect() as connection:

        def rows(table: Any) -> Sequence[tuple[Any, ...]]:
            return [tuple(row) for row in connection.execute(select(*table.c).order_by(*table.primary_key))]

        return Everything(
            [message_of(row) for row in rows(schema.message)],
            [SessionRow(*row) for row in rows(schema.session)],
            [OwedRow(*row) for row in rows(schema.offline)],
            [early_of(row) for row in rows(schema.early)],
            [NoticeRow(*row) for row in rows(schema.notice)],
            [ParkedRow(*row) for row in rows(schema.parked)],
        )


class AtOnce:
    """`backends.calls.Calls` without threads."""

    def run(self, function: Callable[..., _T], /, *args: Any) -> Deferred[_T]:
        return execute(function, *args)
