"""The points at which a test can make a process die: the moments in the life of a message, one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from imconnect.business.rows import Changes
from imconnect.core.drain import LEAVING
from imconnect.events.values import Acknowledged, Offlined, Sent, Withdrawn
from imconnect.model import Applied
from imconnect.rocketmq.codes import Request
from imconnect.wire.gateway_codec import TELL
from imconnect.wire.requests import Send

#: Whether a call counts: its arguments (the first is self), and what it returned, which is None before it has.
Counts = Callable[[Sequence[Any], Any], bool]
#: before: the method has not begun. after: it has returned (a coroutine: ended). written: it has returned, and what
#: was said to clients is in the kernel. soon: a moment after it has returned, what it wrote is on its way.
When = Literal["before", "after", "written", "soon"]


class Point(NamedTuple):
    """A moment: a method of a class (`module:Class.method`), and which of its calls count."""

    says: str
    target: str
    when: When
    counts: Counts = lambda call, result: True


def _writes(statements: Sequence[tuple[str, Any]], table: str) -> bool:
    return any(sql.startswith("INSERT") and table in sql for sql, _ in statements)


_SETTLE = "imconnect.core.act:Act._settle"
_PUSH = "imconnect.core.delivery:Delivery.push"
_WRITER = "imconnect.backends.outbox_writer:Writer._commit"

#: In the gateway, in the order in which a message comes by.
GATEWAY = {
    "decoded": Point(
        "a send was decoded, nothing is decided",
        "imconnect.core.dispatch:Dispatch._decide",
        "before",
        lambda call, _: type(call[2]) is Send,
    ),
    "batch-built": Point(
        "a batch is about to be handed to the outbox",
        "imconnect.core.pipeline:Pipeline._write",
        "before",
        lambda call, _: bool(call[1]),
    ),
    "claimed": Point(
        "the sends of a batch are claimed in Redis, nothing is committed",
        "imconnect.backends.sent_redis:RedisSentIndex._claim",
        "after",
    ),
    "append-begun": Point(
        "the outbox's thread is about to write a batch",
        _WRITER,
        "before",
        lambda call, _: _writes(call[1], "outbox_batch"),
    ),
    "append-durable": Point(
        "a batch is on the disk, the reactor has not heard of it",
        _WRITER,
        "after",
        lambda call, _: _writes(call[1], "outbox_batch"),
    ),
    "claim-settled": Point(
        "a batch is durable and its claims are settled in Redis, nobody is answered",
        "imconnect.backends.sent_redis:RedisSentIndex._settle",
        "after",
        lambda call, _: bool(call[1]),
    ),
    "reply-written": Point(
        "the sender has the answer, the receiver has no push",
        "imconnect.core.act:Act._answer",
        "written",
        lambda call, _: bool(call[1].session and call[1].events) and type(call[1].events[0]) is Sent,
    ),
    "push-written": Point(
        "the receiver has the push, the sender has the answer", _PUSH, "written", lambda call, _: call[3] == "live"
    ),
    "forwarded": Point(
        "the receiver has the push of a message that another node accepted", _PUSH, "written",
        lambda call, _: call[3] == "forwarded",
    ),
    "ack-durable": Point(
        "an ACK is durable, nobody was told", _SETTLE, "before", lambda call, _: type(call[2]) is Acknowledged
    ),
    "receipt-written": Point(
        "the sender has the receipt",
        "imconnect.core.act:Act._end",
        "written",
        lambda call, _: type(call[1]) is Acknowledged,
    ),
    "withdraw-durable": Point(
        "a withdrawal is durable, nobody was told", _SETTLE, "before", lambda call, _: type(call[2]) is Withdrawn
    ),
    "offline-durable": Point(
        "an OFFLINE event is durable, the core has not heard of it",
        _SETTLE,
        "before",
        lambda call, _: type(call[2]) is Offlined,
    ),
    "page-asked": Point(
        "a page of what somebody is owed is about to be read", "imconnect.backends.store_sql:SqlPendingStore._owed", "before"
    ),
    "page-read": Point(
        "a page of what somebody is owed was read, nothing of it pushed",
        "imconnect.backends.store_sql:SqlPendingStore._owed",
        "after",
        lambda _, result: bool(result),
    ),
    "page-pushed": Point("a message of a page was pushed", _PUSH, "written", lambda call, _: call[3] == "backfill"),
    "resend-pushed": Point("an unacknowledged message was pushed again", _PUSH, "written",
                           lambda call, _: call[3] == "resend"),
    "relay-sending": Point(
        "events were read from the outbox, none was sent to the queue", "imconnect.core.relay:Relay._send", "before"
    ),
    "relay-sent": Point(
        "events are on their way to the broker, its answer is not here",
        "imconnect.backends.producer_rocketmq:RocketmqProducer._offer",
        "soon",
    ),
    "relay-answered": Point(
        "the queue has said that it has the events, nothing is marked done", "imconnect.core.relay:Relay._take", "before"
    ),
    "relay-marked": Point(
        "that the queue has the events is on the disk",
        _WRITER,
        "after",
        lambda call, _: any("outbox_lane" in sql for sql, _ in call[1]),
    ),
    "told": Point(
        "what business had to tell was written to the clients", "imconnect.core.node:Node.tell", "written",
        lambda call, _: call[1] != Applied(),
    ),
    "recovery-done": Point(
        "a start has turned offline what the last process left open", "imconnect.core.node:Node.recover", "after"
    ),
    "drain-begun": Point("a stop is about to ask clients to leave", "imconnect.core.node:Node.drain", "before"),
    "drain-told": Point(
        "a client was asked to leave, the OFFLINE events of what he had not acknowledged wait for their commit",
        "imconnect.core.node:Node.end",
        "after",
        lambda call, _: len(call) > 2 and call[2] == LEAVING,
    ),
}  # fmt: skip

#: Where business is, in the gateway (embedded) or in imbusiness.
BUSINESS = {
    "transaction-begun": Point(
        "rows of a batch are written, the transaction is not committed",
        "imconnect.backends.sql.unit:SqlUnit.save",
        "after",
        lambda call, _: call[1] != Changes(),
    ),
    "database-committed": Point(
        "a batch is in the database, the queue has not heard of it",
        "imconnect.business.service:BusinessRules.apply",
        "after",
    ),
    "early-kept": Point(
        "an event whose message is not here was kept for it, and that is committed",
        "imconnect.business.rules:Counts.add",
        "after",
        lambda call, _: call[1].early_kept > 0,
    ),
}

#: In imbusiness only.
IMBUSINESS = {
    "consumed": Point(
        "messages were pulled, nothing is applied", "imconnect.backends.intake:Intake.take", "before"
    ),
    "offset-sent": Point(
        "the broker has the consumer's new offset",
        "imconnect.rocketmq.lane:Lane._call",
        "after",
        lambda call, _: call[1] == Request.UPDATE_OFFSET,
    ),
    "push-back-told": Point(
        "a gateway was told what was applied",
        "imconnect.backends.pushback_grpc:_Gateway._ended",
        "before",
        lambda call, _: call[1] == TELL,
    ),
}

POINTS = {**GATEWAY, **BUSINESS, **IMBUSINESS}
