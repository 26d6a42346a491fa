"""MSG_STATE_QUERY: what became of what one has sent, for who was away when it was answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from imconnect.core.context import Context, NotAsked
from imconnect.core.outcome import AskStates, Outcome
from imconnect.core.recent import Row, State
from imconnect.core.session import Session
from imconnect.errors import CommandError
from imconnect.handlers.whose import Known
from imconnect.model import MessageState, Status, Stored
from imconnect.wire.codec import encode_states
from imconnect.wire.requests import StateQuery

#: clientMsgIds per request.
MOST = 100


def tell(
    context: Context, session: Session, request: StateQuery, stored: Sequence[Stored] | type[NotAsked] | None = NotAsked
) -> Outcome:
    """One row per clientMsgId of this user, from this node where it knows the message, else from the store."""
    asked = request.client_msg_ids
    if not 0 < len(asked) <= MOST:
        raise CommandError(400, f"1 to {MOST} clientMsgIds are expected", "bad_request")
    if any(len(each) != 16 for each in asked):
        raise CommandError(400, "clientMsgId must be 16 bytes", "bad_request")
    here = {each: context.recent.repeat_of(session.user, each) for each in asked}
    if stored is NotAsked and not all(map(_is_certain, here.values())):
        # All of them, because this node may have forgotten one when the answer comes.
        raise AskStates(session.user, tuple(here))
    there: Mapping[bytes, Stored] = {}
    if isinstance(stored, Sequence):
        there = {one.client_msg_id: one for one in stored}
    elif None in here.values():
        raise CommandError(503, "try again later", "unavailable")
    # What is not durable yet is answered when its fate is known: what was decided before this acts before it.
    return Outcome(late=partial(_answer, context, asked, here, there))


def _is_certain(row: Row | None) -> bool:
    """Whether nobody can know more. What is offline here, or was handed over, may have been shown by another node."""
    return row is not None and row.state is not State.OFFLINE and not row.passed


def _answer(
    context: Context, asked: Sequence[bytes], here: Mapping[bytes, Row | None], there: Mapping[bytes, Stored]
) -> bytes:
    states = [max(_here(each, here[each]), _there(each, there.get(each)), key=_state) for each in asked]
    return encode_states(states, context.settings.profile.success)


def _state(state: MessageState) -> int:
    return state.state


def _here(client_msg_id: bytes, row: Row | None) -> MessageState:
    if row is None or row.state < State.OPEN:
        return MessageState(client_msg_id, 0, 0)
    return MessageState(client_msg_id, row.msg_id, _told(row.state))


def _there(client_msg_id: bytes, stored: Stored | None) -> MessageState:
    if stored is None:
        return MessageState(client_msg_id, 0, 0)
    return MessageState(client_msg_id, stored.msg_id, _told(Known.of_store(stored).state))


def _told(state: State) -> int:
    """Offline is stored: where a message waits is not its sender's business."""
    return int(state) if state >= State.DELIVERED else int(Status.STORED)
