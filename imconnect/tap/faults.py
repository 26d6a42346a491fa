"""Faults for tests: the process dies, or stands still, exactly at a named point in the life of a message.

`IMCONNECT_FAULT=append-durable@3` kills it (SIGKILL) the third time that point is reached; `append-durable@3=stop`
stops it (SIGSTOP) there until somebody continues it, so that a test can kill another process meanwhile. The methods
concerned are replaced on their classes before anything is made of them. Without the variable this module is never
imported and no method is touched (`tests/tap/test_faults.py`).
"""

from __future__ import annotations

import functools
import os
import re
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from inspect import iscoroutine
from typing import Any, Literal, NamedTuple

from twisted.logger import Logger

from imconnect.business.rows import Changes
from imconnect.core.drain import LEAVING
from imconnect.errors import ConfigError
from imconnect.events.values import Acknowledged, Offlined, Sent, Withdrawn
from imconnect.model import Applied
from imconnect.rocketmq.codes import Request
from imconnect.tap.logged import FAULT
from imconnect.wire.gateway_codec import TELL
from imconnect.wire.requests import Send

_log = Logger()

_SETTING = re.compile(r"([a-z-]+)(?:@([1-9][0-9]{0,5}))?(?:=(kill|stop))?")

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
    "reply-written": Point(
        "the sender has the answer, the receiver has no push",
        "imconnect.core.act:Act._answer",
        "written",
        lambda call, _: bool(call[1].session and call[1].events) and type(call[1].events[0]) is Sent,
    ),
    "push-written": Point(
        "the receiver has the push, the sender has the answer", _PUSH, "written", lambda call, _: call[3] == "live"
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


def die() -> None:
    """kill -9, by our own hand."""
    os.kill(os.getpid(), signal.SIGKILL)


def stand_still() -> None:
    """SIGSTOP for this very thread, and with it for the process: it goes on from here when it is continued."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class Fault:
    """Counts how often its point is reached, and acts once."""

    def __init__(self, point: Point, nth: int, act: Callable[[], None]) -> None:
        self._point, self._left, self._act = point, nth, act
        self._lock = threading.Lock()  # the points are on several threads

    def reached(self, call: Sequence[Any], result: Any = None) -> None:
        """The method was called, or has returned."""
        if not self._point.counts(call, result):
            return
        with self._lock:
            self._left -= 1
            if self._left:
                return
        if self._point.when == "written":
            _write_out(call[0])
        if self._point.when == "soon":
            from twisted.internet import reactor

            reactor.callLater(0.001, self._act)
        else:
            self._act()

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The method that takes the real one's place."""

        @functools.wraps(real)
        def before(*call: Any, **named: Any) -> Any:
            self.reached(call)
            return real(*call, **named)

        @functools.wraps(real)
        def after(*call: Any, **named: Any) -> Any:
            result = real(*call, **named)
            if iscoroutine(result):
                return self._ended(result, call)
            self.reached(call, result)
            return result

        return before if self._point.when == "before" else after

    async def _ended(self, coroutine: Coroutine[Any, Any, Any], call: Sequence[Any]) -> Any:
        result = await coroutine
        self.reached(call, result)
        return result


def arm(setting: str, kill: Callable[[], None] = die, stop: Callable[[], None] = stand_still) -> None:
    """`POINT[@N][=kill|stop]`: at the Nth time (1) do that (kill). ConfigError where it says something else."""
    match = _SETTING.fullmatch(setting)
    point = POINTS.get(match[1]) if match else None
    if match is None or point is None:
        raise ConfigError(FAULT, f"expected POINT[@N][=kill|stop], POINT one of {', '.join(POINTS)}: {setting!r}")
    fault = Fault(point, int(match[2] or 1), stop if match[3] == "stop" else kill)
    owner, name = located(point)
    setattr(owner, name, fault.around(vars(owner)[name]))
    _log.critical("a fault is armed by {variable}: {setting}", variable=FAULT, setting=setting)


def located(point: Point) -> tuple[type, str]:
    """The class and the name of the method that a point is about."""
    module, _, path = point.target.partition(":")
    owner, name = path.split(".")
    return getattr(import_module(module), owner), name


def _write_out(owner: Any) -> None:
    """What was said to clients so far goes to the kernel now, which keeps it when we die."""
    hub = owner.hub if hasattr(owner, "hub") else owner._hub
    sessions = hub.all()
    hub.flush()
    for session in sessions:
        session.link.transport.doWrite()
