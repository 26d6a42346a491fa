"""Events as packed binary records: what one row of the outbox holds.

A blob is a version byte, the CRC-32 of the rest, and the records one behind the other; numbers are little-endian.
A record is one struct, for messages followed by the content in UTF-8. Ids and times are unsigned 64-bit: a client's
clock may say anything. Whoever changes a layout raises the version and keeps reading the old one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from struct import Struct
from zlib import crc32

from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import Message

VERSION = 1

_SENT, _OFFLINED, _ACKNOWLEDGED, _WITHDRAWN = 1, 2, 3, 4

_HEADER = Struct("<BI")
#: kind, length of clientMsgId, clientMsgId, msg_id, sender, receiver, format, time, created, bytes of content
_MESSAGE = Struct("<BB16sQQQiQQI")
#: kind, length of clientMsgId, clientMsgId, msg_id, sender, receiver, status, time, by_business
_ACK = Struct("<BB16sQQQiQ?")
#: kind, length of clientMsgId, clientMsgId, msg_id, sender, receiver, time, by_business
_WITHDRAWAL = Struct("<BB16sQQQQ?")

_MESSAGES = (_SENT, _OFFLINED)
_CARRIERS = (Sent, Offlined)
_pack_message = _MESSAGE.pack
_unpack_message = _MESSAGE.unpack_from
_unpack_ack = _ACK.unpack_from
_MESSAGE_SIZE = _MESSAGE.size
_ACK_SIZE = _ACK.size
#: A named tuple without the Python frame of its constructor.
_make = tuple.__new__


class RecordError(ValueError):
    """A blob is damaged."""


class NewerRecord(ValueError):
    """A blob was written by a version of imconnect that this one does not know."""


def pack(events: Sequence[Event]) -> bytes:
    """One blob. ValueError or struct.error where a value does not fit: clientMsgId over 16 bytes, id over 64 bits."""
    parts: list[bytes] = []
    append = parts.append
    for event in events:
        if isinstance(event, _CARRIERS):
            msg_id, client_msg_id, sender, receiver, format_, text, time, created = event.message
            content = text.encode()
            mark = _SENT if isinstance(event, Sent) else _OFFLINED
            length = _fitting(client_msg_id)
            size = len(content)
            append(_pack_message(mark, length, client_msg_id, msg_id, sender, receiver, format_, time, created, size))
            append(content)
        elif isinstance(event, Acknowledged):
            msg_id, client_msg_id, sender, receiver, status, time, by_business = event
            length = _fitting(client_msg_id)
            append(_ACK.pack(_ACKNOWLEDGED, length, client_msg_id, msg_id, sender, receiver, status, time, by_business))
        elif isinstance(event, Withdrawn):
            msg_id, client_msg_id, sender, receiver, time, by_business = event
            length = _fitting(client_msg_id)
            append(_WITHDRAWAL.pack(_WITHDRAWN, length, client_msg_id, msg_id, sender, receiver, time, by_business))
        else:
            raise TypeError(f"not an event: {type(event).__name__}")
    body = b"".join(parts)
    return _HEADER.pack(VERSION, crc32(body)) + body


def unpack(blob: bytes) -> list[Event]:
    """The events of a blob. RecordError where it is damaged, NewerRecord where its version is unknown."""
    if not blob:
        raise RecordError("empty")
    if blob[0] != VERSION:
        raise NewerRecord(f"record version {blob[0]}; this imconnect reads {VERSION}")
    at = _HEADER.size
    if len(blob) < at or _HEADER.unpack_from(blob)[1] != crc32(memoryview(blob)[at:]):
        raise RecordError("checksum does not match")
    return _records(blob, at)


def _records(blob: bytes, at: int) -> list[Event]:
    # The checksum is right, so an error from here on means that the writer was wrong, not the disk.
    events: list[Event] = []
    append = events.append
    end = len(blob)
    try:
        while at < end:
            kind = blob[at]
            if kind in _MESSAGES:
                _, length, raw, msg_id, sender, receiver, format_, time, created, size = _unpack_message(blob, at)
                start = at + _MESSAGE_SIZE
                at = start + size
                client_msg_id = raw if length == 16 else raw[:length]
                content = blob[start:at].decode()
                message = _make(Message, (msg_id, client_msg_id, sender, receiver, format_, content, time, created))
                append(_make(Sent, (message,)) if kind == _SENT else _make(Offlined, (message,)))
            elif kind == _ACKNOWLEDGED:
                _, length, raw, msg_id, sender, receiver, status, time, by_business = _unpack_ack(blob, at)
                at += _ACK_SIZE
                client_msg_id = raw if length == 16 else raw[:length]
                append(_make(Acknowledged, (msg_id, client_msg_id, sender, receiver, status, time, by_business)))
            elif kind == _WITHDRAWN:
                _, length, raw, msg_id, sender, receiver, time, by_business = _WITHDRAWAL.unpack_from(blob, at)
                at += _WITHDRAWAL.size
                append(Withdrawn(msg_id, raw[:length], sender, receiver, time, by_business))
            else:
                raise RecordError(f"unknown kind of record: {kind}")
    except (struct.error, UnicodeDecodeError):
        raise RecordError("a record is not what its kind promises") from None
    if at != end:
        raise RecordError("the last record is cut")
    return events


def _fitting(client_msg_id: bytes) -> int:
    length = len(client_msg_id)
    if length > 16:
        raise ValueError("a clientMsgId has at most 16 bytes")
    return length
