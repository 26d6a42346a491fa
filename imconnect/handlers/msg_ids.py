"""GET_BATCH_MSG_IDS: a client wants message ids in advance."""

from __future__ import annotations

from imconnect.core.context import Context, NotAsked
from imconnect.core.outcome import Outcome
from imconnect.core.session import Session
from imconnect.model import Stored
from imconnect.wire.codec import encode_msg_ids, encode_reply
from imconnect.wire.requests import Command, MsgIds

COUNT = 100


def give(context: Context, _: Session, __: MsgIds, ___: Stored | type[NotAsked] | None = NotAsked) -> Outcome:
    """A hundred fresh ids, never issued twice: not after a restart either, so they are reserved before they leave."""
    ids = context.ids.batch(COUNT)
    return Outcome(
        reply=encode_msg_ids(ids, context.settings.profile.success),
        refusal=encode_reply(Command.PUSH_BATCH_MSG_IDS, context.settings.profile.code(503), "try again later"),
        reserve=context.ids.last_ms,
    )
