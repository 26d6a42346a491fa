"""The events as the seed (and the Go gateway) writes them, completed by what the consumers need.

Not carried: `Message.time` (the client's clock), `Withdrawn.client_msg_id` and `Withdrawn.time`; `by_business` travels
as a user property beside the body.
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
        members["chatId"] = chat_of(event)
        members["msgStatus"] = event.status
        members["msgIds"] = [members["msgId"]]
        members["ackTime"] = event.time
        return members
    message = event.message
    members = whose(message.client_msg_id, message.msg_id, message.sender, message.receiver)
    members["chatId"] = chat_of(event)
    members["msgContent"] = message.content
    members["msgFormat"] = message.format
    members["msgCreateTime"] = message.created
    if isinstance(event, Offlined):
        members["msgStatus"] = offline_status
    return members


SEED = Dialect(
    topic="XZLL_C2CMSG_TOPIC",
    types={
        Sent: "C2C_SEND_MSG",
        Offlined: "C2C_OFF_LINE_MSG",
        Acknowledged: "C2C_CLIENT_RECEIVED_ACK",
        Withdrawn: "C2C_WITHDRAW_MSG",
    },
    tags={Sent: "C2C_SEND", Offlined: "C2C_OFFLINE", Acknowledged: "C2C_ACK", Withdrawn: "C2C_WITHDRAW"},
    keys=True,
    create_time=False,
    offline_status=int(Status.STORED),
    queue_by_chat=True,
    members=_members,
)
