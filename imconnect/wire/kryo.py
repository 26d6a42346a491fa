"""Strings as Redisson's Kryo5Codec writes them (contract/gateway.md 6.1): what the Java services read and write in Redis."""

from __future__ import annotations

#: Class id of a string plus 2; null is 0.
_STRING = 0x03
_EMPTY = 0x81


def encode(text: str) -> bytes:
    """A string, as a value, a member or a field of a hash."""
    if not text:
        return bytes((_STRING, _EMPTY))
    if 2 <= len(text) <= 32 and text.isascii():
        body = bytearray(text.encode())
        body[-1] |= 0x80
        return bytes((_STRING, *body))
    units = text.encode("utf-16-be")
    return bytes((_STRING,)) + _length(len(units) // 2 + 1) + _characters(units)


def _length(value: int) -> bytes:
    head = 0x80 | (value & 0x3F)
    value >>= 6
    if not value:
        return bytes((head,))
    out = bytearray((head | 0x40,))
    while value >= 0x80:
        out.append(0x80 | (value & 0x7F))
        value >>= 7
    out.append(value)
    return bytes(out)


def _characters(units: bytes) -> bytes:
    out = bytearray()
    for high, low in zip(units[::2], units[1::2], strict=True):
        unit = high << 8 | low
        if unit < 0x80:
            out.append(unit)
        elif unit < 0x800:
            out += bytes((0xC0 | unit >> 6, 0x80 | unit & 0x3F))
        else:
            out += bytes((0xE0 | unit >> 12, 0x80 | unit >> 6 & 0x3F, 0x80 | unit & 0x3F))
    return bytes(out)
