"""How a refusal looks on the wire, per request."""

from __future__ import annotations

from imconnect.core.session import Session
from imconnect.errors import CommandError
from imconnect.wire.codec import encode_reply, encode_send_refusal, encode_withdraw_reply
from imconnect.wire.requests import Command, KeepAlive, Malformed, MsgIds, Request, Send, StateQuery, Unknown, Withdraw


def refuse(session: Session, request: Request, error: CommandError) -> bytes:
    """The answer to a refused request; the client stays connected."""
    if isinstance(request, Send):
        return encode_send_refusal(request.client_msg_id, session.user, request.receiver, error.code, error.message)
    if isinstance(request, Withdraw):
        return encode_withdraw_reply(request.msg_id, request.client_msg_id, False, error.code, error.message, 0)
    if isinstance(request, MsgIds):
        return encode_reply(Command.PUSH_BATCH_MSG_IDS, error.code, error.message)
    if isinstance(request, StateQuery):
        return encode_reply(Command.MSG_STATE, error.code, error.message)
    if isinstance(request, KeepAlive):
        return b""
    if isinstance(request, Unknown):
        return encode_reply(request.command, error.code, error.message)
    if isinstance(request, Malformed):
        return _malformed(session, request, error)
    return encode_reply(Command.C2C_ACK, error.code, error.message)


def _malformed(session: Session, request: Malformed, error: CommandError) -> bytes:
    """In the shape in which the client waits for the answer, as far as it can be told which request it was."""
    if request.command == Command.C2C_SEND:
        return encode_send_refusal(b"", session.user, 0, error.code, error.message)
    if request.command in (Command.C2C_WITHDRAW, Command.WITHDRAW_MSG_SEND):
        return encode_withdraw_reply(0, b"", False, error.code, error.message, 0)
    if request.command == Command.GET_BATCH_MSG_IDS:
        return encode_reply(Command.PUSH_BATCH_MSG_IDS, error.code, error.message)
    if request.command == Command.MSG_STATE_QUERY:
        return encode_reply(Command.MSG_STATE, error.code, error.message)
    return encode_reply(request.command, error.code, error.message)
