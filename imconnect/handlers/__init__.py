"""One module per message family: plain functions, a request in, an Outcome out. This table is what the core gets."""

from __future__ import annotations

from imconnect.core.context import Handlers
from imconnect.handlers import ack, c2c, msg_ids, other, state, withdraw
from imconnect.wire.requests import Ack, Malformed, MsgIds, Send, StateQuery, Unknown, Withdraw

HANDLERS: Handlers = {
    Send: c2c.send,
    Ack: ack.acknowledge,
    Withdraw: withdraw.withdraw,
    MsgIds: msg_ids.give,
    StateQuery: state.tell,
    Malformed: other.malformed,
    Unknown: other.unknown,
}
