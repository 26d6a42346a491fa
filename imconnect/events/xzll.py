"""The events as the Java services write and read them.

Not carried: `Message.time` (the client's clock) and `Withdrawn.client_msg_id`. The time of an ACK or a withdrawal is
the envelope's createTime; `by_business` travels as a user property beside the body.
"""

from __future__ import annotations

from imconnect.events.dialect import Dialect, Members, chat_of, whose, withdrawal
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import Status


def _members(event: Event, offline_status: int) -> Members:
    if isinstance(event, Withdrawn):
        return withdrawal(event)
    if isinstance(event, Acknowledged):
        members = whose(event.client_msg_id, event.msg_id, event.receiver, event.sender)
        members["msgIds"] = [members["msgId"]]
        members["msgStatus"] = event.status
        members["chatId"] = chat_of(event)
        return members
    message = event.message
    members = whose(message.client_msg_id, message.msg_id, message.sender, message.receiver)
    if isinstance(event, Offlined):
        members["msgStatus"] = offline_status
    members["msgFormat"] = message.format
    members["msgContent"] = message.content
    members["msgCreateTime"] = message.created
    members["chatId"] = chat_of(event)
    return members


XZLL = Dialect(
    topic="XZLL-C2CMSG-TOPIC",
    types={Sent: 10, Offlined: 20, Acknowledged: 30, Withdrawn: 40},
    tags={},
    keys=False,
    create_time=True,
    offline_status=int(Status.OFFLINE),
    queue_by_chat=False,
    members=_members,
)
