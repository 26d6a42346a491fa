"""The four protobuf field kinds that our messages use, as bytes. Defaults are left out, as proto3 does."""

from __future__ import annotations

from struct import Struct

_SMALL = tuple(bytes((n,)) for n in range(128))
_MIDDLE = tuple(bytes((n & 127 | 128, n >> 7)) for n in range(16384))
_fixed64 = Struct("<cQ").pack


def varint(value: int) -> bytes:
    """A varint; a negative number takes ten bytes, as int32 and enum do."""
    if 0 <= value < 128:
        return _SMALL[value]
    if 0 <= value < 16384:
        return _MIDDLE[value]
    rest = value & 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def number(tag: bytes, value: int) -> bytes:
    """A field of type int32, enum or bool."""
    return tag + varint(value) if value else b""


def blob(tag: bytes, value: bytes) -> bytes:
    """A field of type bytes, string (already UTF-8) or message."""
    return tag + varint(len(value)) + value if value else b""


def fixed(tag: bytes, value: int) -> bytes:
    """A field of type fixed64, unsigned. struct.error outside 0 to 2**64-1."""
    return _fixed64(tag, value) if value else b""
