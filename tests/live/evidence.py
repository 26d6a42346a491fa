"""What is left of a run: the rows of the database and what lies in the topic, as plain values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import Engine, select

from imconnect.backends.sql import schema
from imconnect.backends.sql.unit import message_of
from imconnect.business.rows import MessageRow
from imconnect.events.decode import decode_body
from imconnect.events.values import Event
from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.routes import Queue

#: (user, chat) -> (last_msg_id, unread_count).
Sessions = Mapping[tuple[int, str], tuple[int, int]]


class Rows(NamedTuple):
    """Everything that business keeps."""

    messages: Sequence[MessageRow] = ()
    #: (user, msgId).
    owed: Collection[tuple[int, int]] = ()
    sessions: Sessions = MappingProxyType({})
    #: msgIds of events that wait for their message.
    early: Sequence[int] = ()
    #: Why events were parked.
    parked: Sequence[str] = ()


class Queued(NamedTuple):
    """One event as it lies in the topic."""

    queue: int
    offset: int
    unique: str
    body: bytes
    event: Event


def read_rows(engine: Engine) -> Rows:
    """Blocking."""
    with engine.connect() as connection:
        return Rows(
            messages=[message_of(row) for row in connection.execute(select(schema.message))],
            owed={(row.user_id, row.msg_id) for row in connection.execute(select(schema.offline))},
            sessions={
                (row.user_id, row.chat_id): (row.last_msg_id, row.unread_count)
                for row in connection.execute(select(schema.session))
            },
            early=[row.msg_id for row in connection.execute(select(schema.early))],
            parked=[row.reason for row in connection.execute(select(schema.parked))],
        )


async def read_topic(client: Client, topic: str, queues: Sequence[Queue]) -> list[Queued]:
    """Everything in these queues, pulled by somebody who belongs to no group."""
    admin, found = Admin(client), list[Queued]()
    for queue in queues:
        found += [
            Queued(message.queue, message.offset, message.unique_id, message.body, decode_body(message.body, False))
            for message in await admin.read_all(queue)
        ]
    return found
