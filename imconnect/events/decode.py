"""Bodies from the queue to events, for business: both dialects, whoever wrote them.

Tolerant where an event can still be understood without doubt (numbers as strings and the other way round, snake_case,
a byte order mark, text behind the object, members nobody knows); whatever cannot be is a `MalformedEvent`, to be
parked with its reason.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import orjson

from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import MAX_ID, Message, Status
from imconnect.wire.ids import uuid_bytes

_TYPES: dict[str, type] = {
    "10": Sent,
    "20": Offlined,
    "30": Acknowledged,
    "40": Withdrawn,
    "C2C_SEND_MSG": Sent,
    "C2C_OFF_LINE_MSG": Offlined,
    "C2C_CLIENT_RECEIVED_ACK": Acknowledged,
    "C2C_CLIENT_RECEIVED_ACK_MSG": Acknowledged,
    "C2C_WITHDRAW_MSG": Withdrawn,
    "C2C_CLIENT_WITHDRAW_MSG": Withdrawn,
}
#: Members whose snake_case spelling is also read.
_SNAKE = {
    "clusterEventType": "cluster_event_type",
    "createTime": "create_time",
    "clientMsgId": "client_msg_id",
    "msgId": "msg_id",
    "fromUserId": "from_user_id",
    "toUserId": "to_user_id",
    "msgFormat": "msg_format",
    "msgContent": "msg_content",
    "msgCreateTime": "msg_create_time",
    "msgStatus": "msg_status",
    "ackTime": "ack_time",
}
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_TEXT = 1
_DELIVERED = (Status.DELIVERED, Status.READ)


class MalformedEvent(ValueError):
    """A body is not an event. `reason` says why, without anything of its content."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Members:
    """A JSON object, asked for its members one by one."""

    __slots__ = ("_members",)

    def __init__(self, members: object, what: str) -> None:
        if not isinstance(members, dict):
            raise MalformedEvent(f"{what} is not an object")
        self._members: dict[str, object] = members

    def get(self, name: str) -> object:
        """The value; None where it is null or missing."""
        value = self._members.get(name)
        return self._members.get(_SNAKE.get(name, name)) if value is None else value

    def integer(self, name: str) -> int | None:
        """A whole number, also as a string or as 10.0; None where it is null, missing or blank."""
        value = self.get(name)
        if isinstance(value, str):
            text = value.strip()
            if not text:
                return None
            if _WHOLE.fullmatch(text):
                return int(text)
        elif isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
            return int(value)
        elif value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise MalformedEvent(f"{name} is not a whole number")

    def user(self, name: str) -> int:
        """An id, 1 to 2**63-1."""
        value = self.integer(name)
        if value is None:
            raise MalformedEvent(f"{name} is missing")
        if not 1 <= value <= MAX_ID:
            raise MalformedEvent(f"{name} is not an id")
        return value

    def user_or_none(self, name: str) -> int:
        """An id, or 0 where there is none."""
        return self.user(name) if self.integer(name) else 0

    def small(self, name: str, default: int) -> int:
        """A whole number of 32 bits."""
        value = self.integer(name)
        if value is None:
            return default
        if not -(2**31) <= value < 2**31:
            raise MalformedEvent(f"{name} is out of range")
        return value

    def time(self, *names: str) -> int | None:
        """The first of these that is there: ms since 1970, or a date in words (UTC where it names no zone)."""
        for name in names:
            value = self.get(name)
            if value is not None and value != "":
                return _time(name, value, self)
        return None

    def client_msg_id(self) -> bytes:
        """16 bytes, or none where there is no clientMsgId."""
        value = self.get("clientMsgId")
        try:
            return uuid_bytes(str(value)) if value is not None else b""
        except ValueError:
            raise MalformedEvent("clientMsgId is not a UUID") from None

    def content(self) -> str:
        """The text; what is no text is shown as its JSON, as the Java side does."""
        value = self.get("msgContent")
        if value is None or isinstance(value, str):
            return value or ""
        try:
            return orjson.dumps(value).decode()
        except orjson.JSONEncodeError:
            raise MalformedEvent("msgContent is not a text") from None


def decode_body(body: bytes, by_business: bool = False) -> Event:
    """The event in a body of either dialect; `by_business` is whether the message had the property RECEIPT=business.

    Raises MalformedEvent, and nothing else. The chat id is not read: the two users say it. A time that is not told
    is 0. The client's own time (`Message.time`) is not carried and comes as `created`.
    """
    envelope = _Members(_parse(body, "body"), "body")
    kind = _kind(envelope.get("clusterEventType"))
    data = envelope.get("data")
    if data is None:
        raise MalformedEvent("data is missing")
    inner = _Members(_parse(data.encode(), "data") if isinstance(data, str) else data, "data")
    told = envelope.time("createTime")
    if kind is Acknowledged:
        return _acknowledged(inner, told or 0, by_business)
    if kind is Withdrawn:
        return Withdrawn(
            inner.user("msgId"),
            inner.client_msg_id(),
            inner.user("fromUserId"),
            inner.user_or_none("toUserId"),
            told or 0,
            by_business,
        )
    message = _message(inner, told or 0)
    return Sent(message) if kind is Sent else Offlined(message)


def _message(inner: _Members, told: int) -> Message:
    created = inner.time("msgCreateTime") or told
    return Message(
        msg_id=inner.user("msgId"),
        client_msg_id=inner.client_msg_id(),
        sender=inner.user("fromUserId"),
        receiver=inner.user("toUserId"),
        format=inner.small("msgFormat", _TEXT),
        content=inner.content(),
        time=created,
        created=created,
    )


def _acknowledged(inner: _Members, told: int, by_business: bool) -> Acknowledged:
    status = inner.integer("msgStatus")
    if status is None:
        raise MalformedEvent("msgStatus is missing")
    if status not in _DELIVERED:
        raise MalformedEvent("msgStatus of an ACK is neither 3 nor 4")
    return Acknowledged(
        msg_id=inner.user("msgId"),
        client_msg_id=inner.client_msg_id(),
        sender=inner.user_or_none("toUserId"),
        receiver=inner.user("fromUserId"),
        status=status,
        time=inner.time("ackTime") or told,
        by_business=by_business,
    )


def _parse(raw: bytes, what: str) -> object:
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass  # Perhaps only for what stands behind the object: the slower parser stops there.
    try:
        text = raw.decode().lstrip()
        value, _ = json.JSONDecoder().raw_decode(text)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        raise MalformedEvent(f"{what} is not JSON") from None
    return value


def _kind(value: object) -> type:
    if value is None or value == "":
        raise MalformedEvent("clusterEventType is missing")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    kind = _TYPES.get(str(value).strip()) if isinstance(value, int | str) else None
    if kind is None:
        raise MalformedEvent("clusterEventType is unknown")
    return kind


def _time(name: str, value: object, members: _Members) -> int:
    if isinstance(value, str) and not _WHOLE.fullmatch(value.strip()):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise MalformedEvent(f"{name} is not a time") from None
        ms = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    else:
        ms = members.integer(name) or 0
    if not 0 <= ms <= MAX_ID:
        raise MalformedEvent(f"{name} is not a time")
    return ms
