"""Messages: what a producer sends, and what lies in a broker's store."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import attrs

from imconnect.rocketmq.errors import FrameError, Illegal

MAX_PROPERTIES = 32767  # bytes
MAX_INFLATED = 16 << 20  # bytes; a compressed body that grows beyond is left as it is
_NO_PROPERTIES: Mapping[str, str] = MappingProxyType({})
_BETWEEN, _AFTER = "\x01", "\x02"
_FORBIDDEN = frozenset("\x00\x01\x02")

_BATCHED = struct.Struct(">iiiii")  # total, magic, crc, flag, body length
_STORED = struct.Struct(">iIiiiqqiq")  # size, magic, crc, queue, flag, offset, position, system flag, born
_TAIL = struct.Struct(">iqi")  # attempts, prepared offset, body length
_INT64, _SHORT, _USHORT = struct.Struct(">q"), struct.Struct(">h"), struct.Struct(">H")

_COMPRESSED, _BORN_V6, _STORED_V6 = 0x1, 0x10, 0x20
_COMPRESSIONS = {0x100: "lz4", 0x200: "zstd"}  # anything else is zlib
_WIDE_TOPIC_MAGIC = 0xDAA320AB
_MESSAGE_MAGICS = frozenset({0xDAA320A7, _WIDE_TOPIC_MAGIC})


@attrs.frozen(kw_only=True)
class Message:
    """One message to send. `unique_id` stays the same when it is sent again; consumers can know it by that."""

    body: bytes
    keys: str = ""  # separated by spaces; indexed by the broker
    tags: str = ""
    unique_id: str = ""
    properties: Mapping[str, str] = _NO_PROPERTIES
    flag: int = 0


@attrs.frozen(kw_only=True)
class StoredMessage:
    """One message as the broker keeps it. Times are ms since the epoch."""

    topic: str
    queue: int
    offset: int
    body: bytes
    properties: Mapping[str, str]
    flag: int
    attempts: int  # how often it was sent back by a concurrent consumer
    born: int
    stored: int
    undecoded: str = ""  # why `body` is still compressed; empty: it is not

    @property
    def keys(self) -> str:
        return self.properties.get("KEYS", "")

    @property
    def tags(self) -> str:
        return self.properties.get("TAGS", "")

    @property
    def unique_id(self) -> str:
        return self.properties.get("UNIQ_KEY", "")


def properties_of(message: Message) -> str:
    """The message's properties as they travel. Raises Illegal."""
    named = {"UNIQ_KEY": message.unique_id, "WAIT": "true", "KEYS": message.keys, "TAGS": message.tags}
    named.update(message.properties)
    return encode_properties({key: value for key, value in named.items() if value})


def encode_properties(properties: Mapping[str, str]) -> str:
    """Raises Illegal for what would be read back as something else, or is too long."""
    for key, value in properties.items():
        if not key or not _FORBIDDEN.isdisjoint(key) or not _FORBIDDEN.isdisjoint(value):
            raise Illegal(f"property {key!r} has a control character, or no name")
    text = "".join(f"{key}{_BETWEEN}{value}{_AFTER}" for key, value in properties.items())
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise Illegal("a property that is not valid Unicode") from None
    if length > MAX_PROPERTIES:
        raise Illegal(f"properties of {length} bytes, at most {MAX_PROPERTIES} fit")
    return text


def decode_properties(text: str) -> dict[str, str]:
    """What is not `key \\x01 value` is left out, as Java does."""
    return dict(item.split(_BETWEEN, 1) for item in text.split(_AFTER) if _BETWEEN in item)


def encode_batch(messages: Sequence[tuple[Message, str]]) -> bytes:
    """The body of a batch: each message with its encoded properties."""
    parts = []
    for message, text in messages:
        properties = text.encode()
        total = batched_size(len(message.body), len(properties))
        parts.append(_BATCHED.pack(total, 0, 0, message.flag, len(message.body)))
        parts += [message.body, _SHORT.pack(len(properties)), properties]
    return b"".join(parts)


def batched_size(body: int, properties: int) -> int:
    """Bytes that one message takes in a batch."""
    return _BATCHED.size + body + _SHORT.size + properties


def decode_stored(data: bytes) -> Iterator[StoredMessage]:
    """The messages of a pull. Raises FrameError where the bytes are not messages."""
    at = 0
    while at < len(data):
        try:
            size, message = _decode_one(data, at)
        except (struct.error, UnicodeDecodeError):
            raise FrameError("a stored message that is cut short or not UTF-8") from None
        if not 0 < size <= len(data) - at:
            raise FrameError("a stored message whose size is impossible")
        yield message
        at += size


def _decode_one(data: bytes, at: int) -> tuple[int, StoredMessage]:
    size, magic, _crc, queue, flag, offset, _position, system, born = _STORED.unpack_from(data, at)
    if magic not in _MESSAGE_MAGICS:
        raise FrameError("a stored message of an unknown kind")
    at += _STORED.size + (20 if system & _BORN_V6 else 8)
    stored = _INT64.unpack_from(data, at)[0]
    at += _INT64.size + (20 if system & _STORED_V6 else 8)
    attempts, _prepared, length = _TAIL.unpack_from(data, at)
    at += _TAIL.size
    body, at = _cut(data, at, length)
    if magic == _WIDE_TOPIC_MAGIC:
        length, at = _SHORT.unpack_from(data, at)[0], at + _SHORT.size
    else:
        length, at = data[at] if at < len(data) else -1, at + 1
    topic, at = _cut(data, at, length)
    length, at = _USHORT.unpack_from(data, at)[0], at + _USHORT.size
    properties, _ = _cut(data, at, length)
    body, undecoded = _inflate(body, system) if system & _COMPRESSED else (body, "")
    message = StoredMessage(
        topic=topic.decode(),
        queue=queue,
        offset=offset,
        body=body,
        properties=decode_properties(properties.decode(errors="replace")),  # others may write anything
        flag=flag,
        attempts=attempts,
        born=born,
        stored=stored,
        undecoded=undecoded,
    )
    return size, message


def _cut(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if not 0 <= length <= len(data) - at:
        raise FrameError("a stored message whose parts do not fit it")
    return data[at : at + length], at + length


def _inflate(body: bytes, system: int) -> tuple[bytes, str]:
    """The body, and why it could not be inflated: that is the message's fault and must not stop its queue."""
    other = _COMPRESSIONS.get(system & 0x700)
    if other is not None:
        return body, f"compressed with {other}"
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(body, MAX_INFLATED)
    except zlib.error:
        return body, "not what zlib wrote"
    if not inflater.eof:
        return body, "cut short, or larger than it may become"
    return plain, ""
