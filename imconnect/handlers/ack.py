"""C2C_ACK: the receiver has (3) or has read (4) a message."""

from __future__ import annotations

from imconnect.core.context import Context, NotAsked
from imconnect.core.outcome import AskStore, Outcome
from imconnect.core.recent import State
from imconnect.core.session import Session
from imconnect.errors import CommandError
from imconnect.events.values import Acknowledged
from imconnect.handlers.whose import Known, is_no_id_of_ours, known_here
from imconnect.model import MAX_ID, Status, Stored
from imconnect.wire.requests import Ack


def acknowledge(
    context: Context, session: Session, request: Ack, stored: Stored | type[NotAsked] | None = NotAsked
) -> Outcome | None:
    """End a message for its receiver. Anybody else's ACK, and a repeated one, is ignored and counted."""
    if not 0 < request.msg_id <= MAX_ID:
        raise CommandError(400, "msgId must be a message id", "bad_request")
    if request.status not in (Status.DELIVERED, Status.READ):
        raise CommandError(400, "status must be 3 or 4", "bad_request")
    if is_no_id_of_ours(context, request.msg_id):
        return ignore(context, "no_such_id")
    known = known_here(context, request.msg_id) or _of_store(stored)
    if known is None and stored is NotAsked:
        raise AskStore(request.msg_id)
    if known is None:
        return _by_business(context, session, request)
    if known.state is State.PENDING or known.receiver != session.user:
        return ignore(context, "not_receiver")
    if known.state >= request.status:
        session.acknowledge(request.msg_id)
        return ignore(context, "repeated")
    event = Acknowledged(
        request.msg_id, known.client_msg_id, known.sender, session.user, request.status, context.now_ms()
    )
    return _committed(context, event)


def _of_store(stored: Stored | type[NotAsked] | None) -> Known | None:
    return Known.of_store(stored) if isinstance(stored, Stored) else None


def _by_business(context: Context, session: Session, request: Ack) -> Outcome | None:
    """Nobody knows the message (yet): business decides when it does, and tells the sender."""
    client_msg_id = request.client_msg_id if len(request.client_msg_id) == 16 else b""
    sender = request.sender if request.sender <= MAX_ID else 0
    event = Acknowledged(request.msg_id, client_msg_id, sender, session.user, request.status, context.now_ms(), True)
    return _committed(context, event)


def _committed(context: Context, event: Acknowledged) -> Outcome | None:
    if not context.room_for_ends():
        return ignore(context, "outbox_full")
    context.resend.postpone(event.msg_id)
    return Outcome(events=(event,))


def ignore(context: Context, reason: str) -> Outcome | None:
    """An ACK that changes nothing: counted, not answered."""
    context.metrics.acks_ignored[reason] += 1
    return None
