"""C2C_SEND: one user writes to another, or to himself."""

from __future__ import annotations

from imconnect.core.context import Context, NotAsked
from imconnect.core.outcome import Outcome
from imconnect.core.recent import Row, State, digest
from imconnect.core.session import Session
from imconnect.errors import CommandError
from imconnect.events.values import Sent
from imconnect.model import MAX_ID, Message, Stored
from imconnect.wire.codec import encode_send_ack, encode_send_refusal
from imconnect.wire.requests import Send

#: What the sender is told when his message could not be made durable.
UNAVAILABLE = 503, "try again later"


def send(context: Context, session: Session, request: Send, _: Stored | type[NotAsked] | None = NotAsked) -> Outcome:
    """Accept a message under an id of ours. The sender is the session's user, whatever the payload's `from` says."""
    client_msg_id, receiver, format_, content, time = request
    if len(client_msg_id) != 16:
        raise CommandError(400, "clientMsgId must be 16 bytes", "bad_request")
    if not 0 < receiver <= MAX_ID:
        raise CommandError(400, "to must be a user id", "bad_request")
    if not content:
        raise CommandError(400, "content is empty", "bad_request")
    if not 0 <= format_ <= 10:
        raise CommandError(400, "format must be 0-10", "bad_request")
    sender = session.user
    created = context.now_ms()
    original = context.recent.repeat_of(sender, client_msg_id)
    msg_id = original.msg_id if original is not None else context.ids.next()
    message = Message(msg_id, client_msg_id, sender, receiver, format_, content, time or created, created)
    if original is not None:
        return _repeat(context, message, original)
    if not context.fits(message):
        raise CommandError(413, "content is too large", "too_large")
    if not context.room_for_sends():
        raise CommandError(*UNAVAILABLE, "unavailable")
    context.recent.accept(message)
    reply = _ack(context, message) if context.settings.profile.stored_by_gateway else b""
    refusal = _refusal(context, message)
    return Outcome(reply=reply, refusal=refusal, events=(Sent(message),), deliveries=(message,))


def _repeat(context: Context, message: Message, original: Row) -> Outcome:
    """The same clientMsgId again: the same answer, and never before the first one is durable."""
    if original.digest != digest(message):
        raise CommandError(409, "this clientMsgId was used for another message", "conflict")
    reply = _ack(context, message) if context.settings.profile.stored_by_gateway else _durable_ack(context, message, original)
    return Outcome(reply=reply, refusal=_refusal(context, message), repeats=original)


def _durable_ack(context: Context, message: Message, original: Row) -> bytes:
    """Where business acknowledges, only the repeat of what is durable already is answered here."""
    return _ack(context, message) if original.state >= State.OPEN else b""


def _ack(context: Context, message: Message) -> bytes:
    success = context.settings.profile.success
    return encode_send_ack(message.client_msg_id, message.msg_id, message.receiver, message.sender, success)


def _refusal(context: Context, message: Message) -> bytes:
    code, why = UNAVAILABLE
    code = context.settings.profile.code(code)
    return encode_send_refusal(message.client_msg_id, message.sender, message.receiver, code, why)
