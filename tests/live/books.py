"""The books of a run: what people did and saw, found by what the accounts ask about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from imconnect.model import Status
from imconnect.wire.client_codec import Pushed, ReceiptReply, SendReply, WithdrawNotice, WithdrawReply
from tests.live.evidence import Queued, Rows
from tests.live.record import Ack, Came, Link, Record, Send, Went

#: A sender and his clientMsgId.
Key = tuple[int, bytes]


class Terms(NamedTuple):
    """What was set for the run."""

    #: `retry.delays`.
    delays: Sequence[float]
    #: Times in which the gateway could not read the store: who signs in then goes live without what he is owed.
    store_away: Sequence[tuple[float, float]] = ()
    #: Times in which receipts waited for a broker that was away (`outbox.ack_after: broker`).
    queue_away: Sequence[tuple[float, float]] = ()
    #: With several, order is per node, and a receipt that cannot be carried to another node is not told later.
    nodes: int = 1
    #: msgIds of events that wait for a message that nobody will send.
    early: Sequence[int] = ()


class Books:
    """The same facts, found by what is asked about."""

    def __init__(self, record: Record, rows: Rows, terms: Terms, topic: Sequence[Queued] | None) -> None:
        self.record, self.rows, self.terms, self.topic = record, rows, terms, topic
        self.sends: dict[Key, Send] = {}
        self.answers: dict[Key, list[SendReply]] = defaultdict(list)
        self.refused: set[Key] = set()
        for went, send in record.said(Send):
            self.sends.setdefault((went.user, send.key), send)
        for came, reply in record.told(SendReply):
            if reply.status == Status.FAILED:
                self.refused.add((came.user, reply.client_msg_id))
            else:
                self.answers[came.user, reply.client_msg_id].append(reply)
        self._last = {link.user: link for link in record.links}
        self.row = {row.msg_id: row for row in rows.messages}
        self.row_of = {(row.from_id, row.client_msg_id): row for row in rows.messages}
        #: Who has shown whom what: msgId -> when it came to its receivers.
        self.pushes: dict[int, list[tuple[Came, Pushed]]] = defaultdict(list)
        for came, push in record.told(Pushed):
            self.pushes[push.msg_id].append((came, push))
        #: When who acknowledged what, on which connection.
        self.acks: dict[int, list[tuple[Went, Ack]]] = defaultdict(list)
        for went, ack in record.said(Ack):
            self.acks[ack.msg_id].append((went, ack))
        self.receipts: dict[int, list[tuple[Came, ReceiptReply]]] = defaultdict(list)
        for came, receipt in record.told(ReceiptReply):
            self.receipts[receipt.msg_id].append((came, receipt))
        #: On which connection who was told that which message is withdrawn.
        self.notices = {(came.connection, notice.msg_id) for came, notice in record.told(WithdrawNotice)}
        #: Accepted withdrawals: when the sender was told so first.
        self.withdrawn: dict[int, float] = {}
        for came, answer in record.told(WithdrawReply):
            if answer.success:
                self.withdrawn.setdefault(answer.msg_id, came.at)

    def last_link(self, user: int) -> Link | None:
        """On which a user was told things at the end."""
        return self._last.get(user)
