"""C2C_WITHDRAW and WITHDRAW_MSG_SEND: the sender takes a message back."""

from __future__ import annotations

from imconnect.core.context import Context, NotAsked
from imconnect.core.outcome import AskStore, Outcome
from imconnect.core.recent import State
from imconnect.core.session import Session
from imconnect.errors import CommandError
from imconnect.events.values import Withdrawn
from imconnect.handlers.whose import Known, is_no_id_of_ours, known_here
from imconnect.model import MAX_ID, Stored
from imconnect.wire.codec import encode_withdraw_reply
from imconnect.wire.ids import time_of
from imconnect.wire.requests import Command, Withdraw


def withdraw(
    context: Context, session: Session, request: Withdraw, stored: Stored | type[NotAsked] | None = NotAsked
) -> Outcome:
    """Accept a withdrawal: his own message, not too old. Both sides are told once business has applied it."""
    if not 0 < request.msg_id <= MAX_ID:
        raise CommandError(400, "msgId must be a message id")
    if request.command == Command.C2C_WITHDRAW and not 0 < request.receiver <= MAX_ID:
        raise CommandError(400, "to must be a user id")
    if is_no_id_of_ours(context, request.msg_id):
        raise CommandError(404, "no such message")
    made = time_of(request.msg_id, context.settings.profile.epoch)
    known = known_here(context, request.msg_id)
    if known is None and isinstance(stored, Stored):
        known = Known.of_store(stored, made)
    if known is None and stored is NotAsked:
        raise AskStore(request.msg_id)
    if known is not None and (known.sender != session.user or known.state is State.PENDING):
        raise CommandError(403, "not your message")
    now = context.now_ms()
    if known is not None and known.state is State.WITHDRAWN:
        return Outcome(reply=_reply(context, request, known.client_msg_id, now))
    # A row that only an ACK has made is younger than its message; an id made under a clock that was ahead, older.
    if now - min(known.created if known else made, made) > context.settings.withdraw_window * 1000:
        raise CommandError(403, "too late to withdraw")
    if not context.room_for_ends():
        raise CommandError(503, "try again later", "unavailable")
    return _accepted(context, session, request, known, now)


def _accepted(context: Context, session: Session, request: Withdraw, known: Known | None, now: int) -> Outcome:
    if known is not None:
        client_msg_id, receiver = known.client_msg_id, known.receiver
    else:
        client_msg_id = request.client_msg_id if len(request.client_msg_id) == 16 else b""
        receiver = request.receiver
    code = context.settings.profile.code(503)
    event = Withdrawn(request.msg_id, client_msg_id, session.user, receiver, now, known is None)
    return Outcome(
        reply=_reply(context, request, client_msg_id, now),
        refusal=encode_withdraw_reply(request.msg_id, client_msg_id, False, code, "try again later", now),
        events=(event,),
    )


def _reply(context: Context, request: Withdraw, client_msg_id: bytes, now: int) -> bytes:
    return encode_withdraw_reply(request.msg_id, client_msg_id, True, context.settings.profile.success, "", now)
