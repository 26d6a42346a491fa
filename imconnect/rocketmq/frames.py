"""The remoting protocol's frames: bytes in, values out, and back. No I/O.

On the wire a frame is `int32 length`, then what `encode` returns: `int32 codec << 24 | header length`, the header
(JSON, or RocketMQ's own binary form), the body. Everything is big-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from imconnect.rocketmq.errors import FrameError

MAX_FRAME = 16 << 20  # bytes, the same cap that the Java side has
JSON, BINARY = 0, 1
REPLY, ONEWAY = 1, 2  # bits of `flag`
VERSION = 401  # V4_9_4: brokers from 4.9 to 5.x answer it alike
_LANGUAGE, _LANGUAGE_BYTE = "PYTHON", 3
_NO_FIELDS: Mapping[str, str] = MappingProxyType({})

_WORD = struct.Struct(">I")
_FIXED = struct.Struct(">hbhii")  # code, language, version, opaque, flag
_INT = struct.Struct(">i")
_SHORT = struct.Struct(">h")


class Frame(NamedTuple):
    """One request or reply. `opaque` joins a reply to its request."""

    code: int
    opaque: int = 0
    flag: int = 0
    fields: Mapping[str, str] = _NO_FIELDS
    remark: str | None = None
    body: bytes = b""
    codec: int = JSON

    @property
    def is_reply(self) -> bool:
        return bool(self.flag & REPLY)

    @property
    def is_oneway(self) -> bool:
        """Nobody waits for a reply to this request."""
        return bool(self.flag & ONEWAY)


def encode(frame: Frame) -> bytes:
    """The frame without its length prefix."""
    header = _encode_binary(frame) if frame.codec == BINARY else _encode_json(frame)
    return b"".join((_WORD.pack(frame.codec << 24 | len(header)), header, frame.body))


def decode(data: bytes) -> Frame:
    """The inverse of `encode`. Raises FrameError for anything that is not a frame, and nothing else."""
    if len(data) < 4:
        raise FrameError("a frame shorter than its header length")
    word = _WORD.unpack_from(data)[0]
    codec, end = word >> 24, 4 + (word & 0xFFFFFF)
    if end > len(data):
        raise FrameError("a header that is longer than its frame")
    if codec == JSON:
        return _decode_json(data[4:end], data[end:])
    if codec == BINARY:
        return _decode_binary(data[4:end], data[end:])
    raise FrameError(f"unknown header codec {codec}")


def _encode_json(frame: Frame) -> bytes:
    header = {
        "code": frame.code,
        "language": _LANGUAGE,
        "version": VERSION,
        "opaque": frame.opaque,
        "flag": frame.flag,
        "remark": frame.remark,
        "extFields": dict(frame.fields),
        "serializeTypeCurrentRPC": "JSON",
    }
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()


def _decode_json(header: bytes, body: bytes) -> Frame:
    try:
        value = json.loads(header)
    except (ValueError, RecursionError):
        raise FrameError("a header that is not JSON") from None
    if not isinstance(value, dict):
        raise FrameError("a header that is not an object")
    remark = value.get("remark")
    return Frame(
        code=_integer(value, "code"),
        opaque=_integer(value, "opaque"),
        flag=_integer(value, "flag"),
        fields=_fields(value.get("extFields")),
        remark=remark if isinstance(remark, str) else None,
        body=body,
    )


def _integer(value: dict[str, Any], name: str) -> int:
    number = value.get(name, 0)
    if type(number) is not int or not -(1 << 31) <= number < 1 << 31:
        raise FrameError(f"a header whose {name} is not an int32")
    return number


def _fields(value: object) -> Mapping[str, str]:
    if value is None:
        return _NO_FIELDS
    if not isinstance(value, dict):
        raise FrameError("extFields that are not an object")
    return {key: item if isinstance(item, str) else str(item) for key, item in value.items() if item is not None}


def _encode_binary(frame: Frame) -> bytes:
    remark = (frame.remark or "").encode()
    fields = b"".join(_encode_field(key.encode(), value.encode()) for key, value in frame.fields.items())
    fixed = _FIXED.pack(frame.code, _LANGUAGE_BYTE, VERSION, frame.opaque, frame.flag)
    return b"".join((fixed, _INT.pack(len(remark)), remark, _INT.pack(len(fields)), fields))


def _encode_field(key: bytes, value: bytes) -> bytes:
    return b"".join((_SHORT.pack(len(key)), key, _INT.pack(len(value)), value))


def _decode_binary(header: bytes, body: bytes) -> Frame:
    try:
        code, _language, _version, opaque, flag = _FIXED.unpack_from(header)
        remark, at = _text(header, _FIXED.size, _INT)
        length = _INT.unpack_from(header, at)[0]
        at += _INT.size
        if length != len(header) - at:
            raise FrameError("a binary header whose fields do not fill it")
        fields = {}
        while at < len(header):
            key, at = _text(header, at, _SHORT)
            fields[key], at = _text(header, at, _INT)
    except (struct.error, UnicodeDecodeError):
        raise FrameError("a binary header that is cut short or not UTF-8") from None
    return Frame(code, opaque, flag, fields, remark or None, body, BINARY)


def _text(data: bytes, at: int, width: struct.Struct) -> tuple[str, int]:
    start = at + width.size
    end = start + width.unpack_from(data, at)[0]
    if not start <= end <= len(data):
        raise FrameError("a binary header with a text that leaves it")
    return data[start:end].decode(), end
