"""What each event does to the rows. Pure: rows in, rows and things to tell out.

The end does not depend on the order in which the events of a message come, nor on how often:
status is the highest seen, withdrawn is withdrawn, a message is owed until it is acknowledged or withdrawn and unread
until it is read or withdrawn; each counts once, when its message is stored or when it ends.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from imconnect.business.rows import EarlyKind, EarlyRow, MessageRow, NoticeRow
from imconnect.business.store import BadData
from imconnect.business.work import Work
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import MAX_ID, Applied, Message, Receipt, Status, Withdrawal
from imconnect.wire.ids import chat_id


@attrs.define(slots=True)
class Counts:
    """What happened, since the process started. Each field is a number of events unless it says otherwise."""

    events: int = 0
    messages: int = 0  # stored for the first time
    repeats: int = 0  # a message that is stored already came again
    late_duplicates: int = 0  # same sender, clientMsgId and content under a new msgId: the first is kept
    withdrawn: int = 0  # messages taken back
    not_entitled: int = 0  # ACK not by the receiver, withdrawal not by the sender: ignored
    too_late: int = 0  # withdrawal after the window, where business has to check it: ignored
    early_kept: int = 0
    early_settled: int = 0  # applied once their message was here
    early_dropped: int = 0  # rows over the bound per person
    early_expired: int = 0  # rows older than the limit of days
    parked: int = 0

    def add(self, other: Counts) -> None:
        for field in attrs.fields(Counts):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@attrs.frozen(kw_only=True)
class Terms:
    """How the rules are set. Times in ms."""

    #: A withdrawal that business has to judge is refused when the message is older than this.
    withdraw_window: int = 120_000
    #: Profile xzll: business tells every receipt, not only those that a gateway asks it to tell.
    always_tell: bool = False
    #: Profile xzll: business tells senders that their messages are stored.
    tell_stored: bool = False


def flaw(event: Event) -> str:
    """Why this event can never be applied; empty if it can."""
    if isinstance(event, Sent | Offlined):
        message = event.message
        if not 0 < message.msg_id <= MAX_ID:
            return "msgId out of range"
        if not (0 < message.sender <= MAX_ID and 0 < message.receiver <= MAX_ID):
            return "user id out of range"
        if len(message.client_msg_id) not in (0, 16):
            return "clientMsgId is not 16 bytes"
        if not 0 <= message.created <= MAX_ID:
            return "msgCreateTime out of range"
        return "" if 0 <= message.format < 128 else "msgFormat out of range"
    if not 0 < event.msg_id <= MAX_ID:
        return "msgId out of range"
    if not 0 <= event.time <= MAX_ID:
        return "time out of range"
    if isinstance(event, Acknowledged):
        if event.status not in (Status.DELIVERED, Status.READ):
            return "an ACK with a status that is neither 3 nor 4"
        return "" if 0 < event.receiver <= MAX_ID else "user id out of range"
    return "" if 0 < event.sender <= MAX_ID else "user id out of range"


class Rules:
    """Applies events to one unit of work and collects what to tell."""

    __slots__ = ("_hints", "_now", "_receipts", "_terms", "_withdrawals", "_work", "counts")

    def __init__(self, work: Work, terms: Terms, now: int) -> None:
        self._work = work
        self._terms = terms
        self._now = now
        #: By message and status: the same is told once per batch.
        self._receipts: dict[tuple[int, int], Receipt] = {}
        self._withdrawals: dict[int, Withdrawal] = {}
        self._hints: dict[int, None] = {}
        self.counts = Counts()

    def apply(self, event: Event) -> None:
        """Raises BadData, with nothing changed, where the event contradicts what is stored."""
        if isinstance(event, Sent):
            self._stored(event.message, Status.STORED)
        elif isinstance(event, Acknowledged):
            row = self._work.message(event.msg_id)
            if row is not None:
                self._acknowledged(row, event.receiver, event.status, event.by_business)
            else:
                self._early(event.msg_id, EarlyKind.ACK, event.receiver, event.status, event.time, event.by_business)
        elif isinstance(event, Offlined):
            self._stored(event.message, Status.OFFLINE)
        else:
            self._withdraw(event)
        self.counts.events += 1

    def applied(self) -> Applied:
        return Applied(tuple(self._receipts.values()), tuple(self._withdrawals.values()), tuple(self._hints))

    def settle(self, rows: Iterable[EarlyRow]) -> None:
        """Apply kept events whose message is here after all."""
        for row in rows:
            message = self._work.message(row.msg_id)
            if message is not None:
                self._settle(message, row)
                self._work.early_done(row)

    def purge(self, rows: Iterable[MessageRow]) -> None:
        """Delete these messages; one that was never read stops counting as unread."""
        for row in rows:
            if not row.withdrawn and row.msg_status < Status.READ:
                self._work.unread(row, -1)
            self._work.gone(row)

    def _stored(self, message: Message, status: Status) -> None:
        row = self._work.message(message.msg_id)
        if row is None:
            first = self._work.same_send(message)
            if first is not None:
                _require_same(first, message, "another message has this clientMsgId of this sender")
                self.counts.late_duplicates += 1
                self._tell_stored(first)
                return
            row = self._insert(message, status)
        else:
            _require_same(row, message, "the message is stored with another content")
            self.counts.repeats += 1
            if status == Status.STORED:
                # The first telling may have died with the process after its commit.
                self._tell_stored(row)
            elif row.msg_status == Status.STORED:
                row.msg_status = Status.OFFLINE
                self._work.changed(row)
        if status == Status.OFFLINE and _is_owed(row):
            self._hints[row.to_id] = None

    def _tell_stored(self, row: MessageRow) -> None:
        if self._terms.tell_stored:
            self._tell(row, Status.STORED)

    def _tell(self, row: MessageRow, status: int) -> None:
        receipt = Receipt(row.msg_id, row.client_msg_id, row.from_id, row.to_id, int(status))
        self._receipts.setdefault((row.msg_id, receipt.status), receipt)

    def _insert(self, message: Message, status: Status) -> MessageRow:
        row = MessageRow(
            msg_id=message.msg_id,
            client_msg_id=message.client_msg_id,
            from_id=message.sender,
            to_id=message.receiver,
            chat_id=chat_id(message.sender, message.receiver),
            content=message.content,
            msg_format=message.format,
            msg_status=int(status),
            withdrawn=False,
            msg_create_time=message.created,
        )
        self._work.insert(row)
        self.counts.messages += 1
        self._tell_stored(row)  # before what its early ACKs tell
        for early in self._work.take_early(row.msg_id):
            self._settle(row, early)
        return row

    def _settle(self, row: MessageRow, early: EarlyRow) -> None:
        self.counts.early_settled += 1
        if early.kind == EarlyKind.ACK:
            self._acknowledged(row, early.actor, early.status, early.by_business)
        else:
            self._withdrawn(row, early.actor, early.time, early.by_business)

    def _early(self, msg_id: int, kind: EarlyKind, actor: int, status: int, time: int, by_business: bool) -> None:
        row = EarlyRow(msg_id, int(kind), actor, int(status), time, self._now, by_business)
        if self._work.keep_early(row):
            self.counts.early_kept += 1

    def _acknowledged(self, row: MessageRow, actor: int, status: int, by_business: bool) -> None:
        if actor != row.to_id:
            self.counts.not_entitled += 1
            return
        if status <= row.msg_status or row.msg_status == Status.FAILED:
            return
        if _is_owed(row):
            self._work.owed_no_more(row)
        if status == Status.READ and not row.withdrawn:
            self._work.unread(row, -1)
        row.msg_status = int(status)
        self._work.changed(row)
        if by_business or self._terms.always_tell:
            self._tell(row, status)

    def _withdraw(self, event: Withdrawn) -> None:
        row = self._work.message(event.msg_id)
        if row is not None:
            self._withdrawn(row, event.sender, event.time, event.by_business)
        else:
            self._early(event.msg_id, EarlyKind.WITHDRAW, event.sender, 0, event.time, event.by_business)

    def _withdrawn(self, row: MessageRow, actor: int, time: int, by_business: bool) -> None:
        if actor != row.from_id:
            self.counts.not_entitled += 1
            return
        if by_business and time - row.msg_create_time > self._terms.withdraw_window and not row.withdrawn:
            self.counts.too_late += 1
            return
        # A repeat tells again: the first telling may have died with the process after its commit.
        self._withdrawals[row.msg_id] = Withdrawal(row.msg_id, row.from_id, row.to_id)
        if row.withdrawn:
            return
        if _is_owed(row):
            self._work.owed_no_more(row)
        if row.msg_status < Status.READ:
            self._work.unread(row, -1)
        row.withdrawn = True
        self._work.changed(row)
        self._work.notice(NoticeRow(row.to_id, row.msg_id, row.from_id, self._now))
        self.counts.withdrawn += 1


def _is_owed(row: MessageRow) -> bool:
    return row.msg_status < Status.DELIVERED and not row.withdrawn


def _require_same(row: MessageRow, message: Message, otherwise: str) -> None:
    """The same message? A clientMsgId that one side does not have says nothing."""
    same = (
        row.to_id == message.receiver
        and row.from_id == message.sender
        and row.content == message.content
        and row.msg_format == message.format
        and (row.client_msg_id == message.client_msg_id or not row.client_msg_id or not message.client_msg_id)
    )
    if not same:
        raise BadData(otherwise)
