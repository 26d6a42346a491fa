"""The rows that business keeps, as plain objects. What a table means is in docs of the store's schema.

The mutable ones are changed by the rules in memory and written back once per batch. Times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import attrs

from imconnect.model import Message, Owed, Status, Stored

#: (from_id, client_msg_id): what makes a send a repeat of another.
SendKey = tuple[int, bytes]
#: (user_id, chat_id)
SessionKey = tuple[int, str]
#: (user_id, msg_id)
OwedKey = tuple[int, int]
#: (topic, queue, offset)
ParkedKey = tuple[str, int, int]


class EarlyKind(IntEnum):
    """What came before its message."""

    ACK = 3
    WITHDRAW = 4


@attrs.define(slots=True)
class MessageRow:
    """im_c2c_message. `client_msg_id` is b"" where the event has none (NULL in the table)."""

    msg_id: int
    client_msg_id: bytes
    from_id: int
    to_id: int
    chat_id: str
    content: str
    msg_format: int
    msg_status: int
    withdrawn: bool
    msg_create_time: int

    def as_owed(self) -> Owed:
        """As a login page shows it. The client's own time is not kept: the server's stands for it."""
        message = Message(
            self.msg_id,
            self.client_msg_id,
            self.from_id,
            self.to_id,
            self.msg_format,
            self.content,
            time=self.msg_create_time,
            created=self.msg_create_time,
        )
        return Owed(message, self.msg_status == Status.OFFLINE)

    def as_stored(self) -> Stored:
        """What the gateway wants to know about a message that it does not know itself."""
        return Stored(self.msg_id, self.client_msg_id, self.from_id, self.to_id, self.msg_status, self.withdrawn)


@attrs.define(slots=True)
class SessionRow:
    """im_session: one person's side of a chat."""

    user_id: int
    chat_id: str
    peer_id: int
    last_msg_id: int
    last_msg_time: int
    unread_count: int


class OwedRow(NamedTuple):
    """im_offline_message: this user has neither acknowledged the message nor was it withdrawn."""

    user_id: int
    msg_id: int
    create_time: int


class EarlyKey(NamedTuple):
    """The same acknowledgement of the same person is kept once. `status` is 0 for a withdrawal."""

    msg_id: int
    kind: int
    actor: int
    status: int


class EarlyRow(NamedTuple):
    """im_event_early: an ACK or a withdrawal whose message is not here yet."""

    msg_id: int
    kind: int
    actor: int
    status: int
    #: When the client asked for it.
    time: int
    #: When business saw it first: the age that counts for deletion.
    kept_time: int
    by_business: bool

    @property
    def key(self) -> EarlyKey:
        return EarlyKey(self.msg_id, self.kind, self.actor, self.status)


class NoticeRow(NamedTuple):
    """im_withdraw_notice: to be told at login."""

    user_id: int
    msg_id: int
    from_id: int
    time: int


class Source(NamedTuple):
    """Where an event came from, so that a parked one can be found and is parked once."""

    topic: str
    queue: int
    offset: int
    #: The body as it was read; empty: business writes the event down itself.
    body: bytes = b""


class ParkedRow(NamedTuple):
    """im_event_parked: an event that could not be applied, with the reason."""

    topic: str
    queue: int
    offset: int
    body: bytes
    reason: str
    first_seen: int

    @property
    def key(self) -> ParkedKey:
        return self.topic, self.queue, self.offset


class Stock(NamedTuple):
    """How many rows wait for a hand (parked) or for their message (early)."""

    parked: int
    early: int


@attrs.define(slots=True)
class Changes:
    """What one batch changed; `Unit.save` writes it with a few multi-row statements."""

    new_messages: Sequence[MessageRow] = ()
    changed_messages: Sequence[MessageRow] = ()
    gone_messages: Sequence[int] = ()
    new_sessions: Sequence[SessionRow] = ()
    changed_sessions: Sequence[SessionRow] = ()
    owed_in: Sequence[OwedRow] = ()
    owed_out: Sequence[OwedKey] = ()
    early_in: Sequence[EarlyRow] = ()
    early_out: Sequence[EarlyKey] = ()
    notices_in: Sequence[NoticeRow] = ()
