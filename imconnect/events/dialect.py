"""What both dialects of the events share: the envelope, the choice of the queue, the size of a body.

A dialect is one value. `attrs.evolve(SEED, topic="...")` overrides a single row of the table of differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import attrs
import orjson

from imconnect.events.values import Event, Offlined, Sent, Withdrawn
from imconnect.model import MAX_ID, Message
from imconnect.wire.ids import chat_id, uuid_text

#: The user property that asks business to check the rights and to tell people.
RECEIPT = "RECEIPT"
RECEIPT_BUSINESS = "business"

#: The most that one character of a text can take in a body: U+0001 is \\u0001 inside a JSON string inside another.
_BYTES_PER_CHARACTER = 7
_LARGEST = Message(MAX_ID, bytes(16), MAX_ID, MAX_ID, -(2**31), "", 2**64 - 1, 2**63 - 1)

#: The events that carry a whole message. (A tuple, because `A | B` in an isinstance makes an object each time.)
ABOUT_A_MESSAGE = (Sent, Offlined)

#: JSON members in the order in which they are written.
Members = dict[str, object]


class Body(NamedTuple):
    """One message for the queue, as far as the dialect decides about it."""

    topic: str
    #: TAGS and KEYS; "" where the dialect sets none.
    tag: str
    keys: str
    body: bytes
    #: User properties.
    properties: dict[str, str]


@attrs.frozen(kw_only=True)
class Dialect:
    """How an event is written for one family of consumers."""

    topic: str
    #: clusterEventType of each event: a name or a number.
    types: Mapping[type, str | int]
    #: TAGS of each event; empty: none.
    tags: Mapping[type, str]
    #: Whether KEYS is the msgId.
    keys: bool
    #: Whether the envelope says when the event happened.
    create_time: bool
    #: msgStatus of an OFFLINE event.
    offline_status: int
    #: Whether all messages of a chat share a queue; else only the events of one message do.
    queue_by_chat: bool
    #: (event, offline_status) -> the members of `data`.
    members: Callable[[Event, int], Members]
    _overhead: int = attrs.field(init=False, eq=False, repr=False)

    @_overhead.default
    def _measure(self) -> int:
        return self.largest_body(_LARGEST)

    def encode(self, event: Event) -> Body:
        """The message for the queue. ValueError where a clientMsgId has neither 16 bytes nor none."""
        kind = type(event)
        data = orjson.dumps(self.members(event, self.offline_status)).decode()
        envelope: Members = {"clusterEventType": self.types[kind], "data": data}
        if self.create_time:
            envelope["createTime"] = event_time(event)
        properties: dict[str, str] = {}
        if not isinstance(event, ABOUT_A_MESSAGE) and event.by_business:
            properties[RECEIPT] = RECEIPT_BUSINESS
        keys = str(msg_id_of(event)) if self.keys else ""
        return Body(self.topic, self.tags.get(kind, ""), keys, orjson.dumps(envelope), properties)

    def queue_key(self, event: Event) -> str:
        """What the queue is chosen by. A withdrawal that does not know its chat goes by its msgId."""
        chat = chat_of(event) if self.queue_by_chat else ""
        return chat or str(msg_id_of(event))

    def largest_body(self, message: Message) -> int:
        """The exact size in bytes of the largest event of a message: its OFFLINE body."""
        return len(self.encode(Offlined(message)).body)

    def fits(self, message: Message, max_bytes: int) -> bool:
        """Whether no event of this message is larger than `max_bytes`. At once for short texts."""
        if self._overhead + _BYTES_PER_CHARACTER * len(message.content) <= max_bytes:
            return True
        # A character takes at least a byte: a text that is far too long is not encoded to find that out.
        return len(message.content) < max_bytes and self.largest_body(message) <= max_bytes


def event_time(event: Event) -> int:
    """When the event happened, or when its message was accepted (ms)."""
    return event.message.created if isinstance(event, ABOUT_A_MESSAGE) else event.time


def msg_id_of(event: Event) -> int:
    """Which message the event is about."""
    return event.message.msg_id if isinstance(event, ABOUT_A_MESSAGE) else event.msg_id


def chat_of(event: Event) -> str:
    """The chat that the event belongs to; "" where one of the two users is not known."""
    about = event.message if isinstance(event, ABOUT_A_MESSAGE) else event
    return chat_id(about.sender, about.receiver) if about.sender and about.receiver else ""


def id_text(value: int) -> str:
    """An id as JSON has it: decimal, and "" for none."""
    return str(value) if value else ""


def whose(client_msg_id: bytes, msg_id: int, from_user: int, to_user: int) -> Members:
    """The members that every event but a withdrawal begins with."""
    return {
        "clientMsgId": uuid_text(client_msg_id),
        "msgId": id_text(msg_id),
        "fromUserId": id_text(from_user),
        "toUserId": id_text(to_user),
    }


def withdrawal(event: Withdrawn) -> Members:
    """The members of a withdrawal, the same in both dialects."""
    return {
        "msgId": id_text(event.msg_id),
        "fromUserId": id_text(event.sender),
        "toUserId": id_text(event.receiver),
        "withdrawFlag": 1,
        "chatId": chat_of(event),
    }


@lru_cache(maxsize=8192)
def java_hash(text: str) -> int:
    """String.hashCode of Java: over UTF-16 units, 32 bits, signed."""
    units = text.encode("utf-16-le", "surrogatepass")
    value = 0
    for at in range(0, len(units), 2):
        value = 31 * value + (units[at] | units[at + 1] << 8) & 0xFFFF_FFFF
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value


def java_queue(key: str, count: int) -> int:
    """Which of `count` queues Java's producer takes for a key. Its remainder keeps the sign, which is then dropped."""
    return abs(java_hash(key)) % count
