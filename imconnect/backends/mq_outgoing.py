"""An entry of the log as a message for RocketMQ: the same for every transport, byte for byte."""

from __future__ import annotations

from typing import NamedTuple

from imconnect.core.ports import Entry
from imconnect.events.dialect import Dialect, msg_id_of
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.rocketmq.messages import Message

_KINDS: dict[type, int] = {Sent: 1, Offlined: 2, Acknowledged: 3, Withdrawn: 4}


class Outgoing(NamedTuple):
    """One entry, ready to be sent; without a message where it never can be, and why."""

    number: int
    message: Message | None
    refused: str = ""


def outgoing(entry: Entry, dialect: Dialect, node_id: int, max_bytes: int) -> Outgoing:
    """`max_bytes` bounds the body. An event that cannot be written is refused; its text is in no reason."""
    number, event = entry
    try:
        body = dialect.encode(event)
    except ValueError as error:
        return Outgoing(number, None, f"cannot be encoded: {error}")
    if len(body.body) > max_bytes:
        return Outgoing(number, None, f"a body of {len(body.body)} bytes is over max_message_size ({max_bytes})")
    message = Message(
        body=body.body,
        keys=body.keys,
        tags=body.tag,
        unique_id=unique_id(node_id, number, event),
        properties=body.properties,
    )
    return Outgoing(number, message)


def unique_id(node_id: int, number: int, event: Event) -> str:
    """UNIQ_KEY: 32 hexadecimal digits as RocketMQ's own, the same whenever this entry is sent again.

    Node id (3), number in the log (12), kind of event (1), msgId (16): also another log of this node repeats none.
    """
    return f"{node_id:03X}{number:012X}{_KINDS[type(event)]:X}{msg_id_of(event):016X}"
