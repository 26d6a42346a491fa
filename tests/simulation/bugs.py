"""Bugs to plant: each is what somebody might write on a bad day. `test_bugs.py` shows that the simulation finds them.

A bug is a function that patches the product. It gets `patch(where, name, value)`, which the caller undoes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from imconnect.backends.intake import Intake
from imconnect.business.rows import EarlyKind
from imconnect.business.rules import Rules
from imconnect.core import recent
from imconnect.core.act import Act
from imconnect.core.backfill import Backfill
from imconnect.core.delivery import Delivery
from imconnect.core.dispatch import Dispatch
from imconnect.core.gate import Gate
from imconnect.core.outcome import Outcome
from imconnect.core.recent import Recent
from imconnect.core.relay import Relay
from imconnect.core.session import Session
from imconnect.events.values import Acknowledged, Event, Sent, Withdrawn
from imconnect.handlers import c2c

Patch = Callable[[Any, str, Any], object]
Bug = Callable[[Patch], None]


def acknowledge_before_append(patch: Patch) -> None:
    """The reply leaves when the send is decided."""
    queue = Dispatch._queue

    def early(self: Dispatch, session: Session, outcome: Outcome) -> None:
        if any(isinstance(event, Sent) for event in outcome.events):
            session.link.write([outcome.reply])
            outcome.reply = b""
        queue(self, session, outcome)

    patch(Dispatch, "_queue", early)


def repeat_answered_before_its_original(patch: Patch) -> None:
    """A repeat does not share the fate of the send that it repeats."""
    answer = Act._answer

    def alone(self: Act, outcome: Outcome, refused: bool = False) -> None:
        outcome.repeats = None
        answer(self, outcome, refused)

    patch(Act, "_answer", alone)


def forgotten_before_relayed(patch: Patch) -> None:
    """The log lets go of what was read for the queue, whether the queue has it or not."""
    patch(Relay, "position", property(lambda self: self._lanes.read))
    patch(Recent, "oldest_number", lambda self: self._settled + 1)


def open_messages_stay_open_at_start(patch: Patch) -> None:
    """A start does not turn offline what the last process left open."""
    patch(Recent, "open_rows", lambda self: [])


def live_without_the_waiting_queue(patch: Patch) -> None:
    """The page is empty, the session is live, what waited behind the page is gone."""

    def dropped(self: Delivery, session: Session) -> None:
        session.take_waiting()

    patch(Delivery, "catch_up_waiting", dropped)


def given_up_is_pushed_again(patch: Patch) -> None:
    """A session forgets that it was shown what nobody acknowledged in time."""
    retry = Delivery.retry

    def forgetting(self: Delivery) -> None:
        retry(self)
        for session in self._hub.all():
            session.open = {msg_id for msg_id in session.open if self._resend.get(msg_id)}

    patch(Delivery, "retry", forgetting)


def done_before_the_queue_has_it(patch: Patch) -> None:
    """The relay marks what it sends, not what was stored."""
    send = Relay._send

    async def hasty(self: Relay, number: int, lane: Any, batch: Sequence[tuple[int, Event]]) -> None:
        self._outbox.done({number: batch[-1][0]})
        await send(self, number, lane, batch)

    patch(Relay, "_send", hasty)


def pushed_before_remembered(patch: Patch) -> None:
    """A message is in `resend` after it was written, not before."""
    push = Delivery.push

    def hasty(self: Delivery, session: Session, entry: Any, kind: str) -> None:
        self._resend.end(entry.message.msg_id)
        self._hub.say(session, entry.frame)
        self._hub.flush()
        push(self, session, self._resend.hold(entry.message, entry.frame), kind)
        session.out.pop()

    patch(Delivery, "push", hasty)


def queue_acknowledged_before_commit(patch: Patch) -> None:
    """The offset moves on while the batch is still being applied."""
    take = Intake.take

    async def hasty(self: Intake, *args: Any) -> None:
        Deferred.fromCoroutine(take(self, *args)).addErrback(lambda _: None)

    patch(Intake, "take", hasty)


def unread_counted_twice(patch: Patch) -> None:
    """A SEND that comes again counts again."""
    stored = Rules._stored

    def counting(self: Rules, message: Any, status: Any) -> None:
        row = self._work.message(message.msg_id)
        if row is not None:
            self._work.unread(row, 1)
        stored(self, message, status)

    patch(Rules, "_stored", counting)


def early_ack_dropped(patch: Patch) -> None:
    """An ACK that overtakes its message is thrown away."""
    early = Rules._early

    def dropping(self: Rules, msg_id: int, kind: EarlyKind, *rest: Any) -> None:
        if kind is not EarlyKind.ACK:
            early(self, msg_id, kind, *rest)

    patch(Rules, "_early", dropping)


def backfill_without_merge(patch: Patch) -> None:
    """A login shows what the store knows, and not what it does not know yet."""

    async def nothing(self: Backfill, session: Session) -> list[Any]:
        return []

    patch(Backfill, "_unknown", nothing)


def withdrawn_is_pushed_again(patch: Patch) -> None:
    """A withdrawal does not stop the retry clock."""
    end = Act._end

    def going_on(self: Act, event: Acknowledged | Withdrawn) -> None:
        if isinstance(event, Acknowledged):
            end(self, event)

    patch(Act, "_end", going_on)


def receipt_told_twice(patch: Patch) -> None:
    """An ACK that comes again while the first is being committed is news again."""
    settle = Recent.settle

    def news(self: Recent, number: int, event: Event) -> bool:
        return settle(self, number, event) or isinstance(event, Acknowledged)

    patch(Recent, "settle", news)


def another_content_not_seen(patch: Patch) -> None:
    """The same clientMsgId with another text is answered like a repeat."""
    for module in (c2c, recent):
        patch(module, "digest", lambda message: 0)


def hints_and_watch_off(patch: Patch) -> None:
    """Nobody looks for what somebody online is owed."""
    patch(Backfill, "hint", lambda self, user: None)
    patch(Backfill, "watch", lambda self: None)


def full_session_never_counted(patch: Patch) -> None:
    """What was acknowledged through another node fills a session for ever."""

    async def not_counted(self: Backfill, session: Session) -> None:
        return None

    patch(Backfill, "_count_open", not_counted)


def offline_of_nobody(patch: Patch) -> None:
    """A message whose receiver is away is stored, and that is that."""
    offline = Delivery.offline

    def quiet(self: Delivery, messages: Any, reason: str) -> None:
        if reason != "absent":
            offline(self, messages, reason)

    patch(Delivery, "offline", quiet)


def broker_not_waited_for(patch: Patch) -> None:
    """`ack_after: broker` acts on what is durable here."""
    patch(Gate, "durable", lambda self, batch, first: self._act.durable(batch, first))


BUGS: Sequence[Bug] = (
    acknowledge_before_append,
    repeat_answered_before_its_original,
    forgotten_before_relayed,
    open_messages_stay_open_at_start,
    live_without_the_waiting_queue,
    given_up_is_pushed_again,
    done_before_the_queue_has_it,
    pushed_before_remembered,
    queue_acknowledged_before_commit,
    unread_counted_twice,
    early_ack_dropped,
    backfill_without_merge,
    withdrawn_is_pushed_again,
    receipt_told_twice,
    another_content_not_seen,
    hints_and_watch_off,
    full_session_never_counted,
    offline_of_nobody,
    broker_not_waited_for,
)
