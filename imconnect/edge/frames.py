"""RFC 6455 frames as a server sends them: unmasked and whole, so that many leave with one write."""

from __future__ import annotations

from collections.abc import Sequence

#: A ping without payload.
PING = b"\x89\x00"

_SHORT = [b"\x82" + bytes((size,)) for size in range(126)]


def binary_frames(payloads: Sequence[bytes]) -> bytes:
    """One binary message per payload, in order."""
    parts: list[bytes] = []
    for payload in payloads:
        size = len(payload)
        if size < 126:
            parts.append(_SHORT[size])
        elif size < 65536:
            parts.append(b"\x82\x7e" + size.to_bytes(2, "big"))
        else:
            parts.append(b"\x82\x7f" + size.to_bytes(8, "big"))
        parts.append(payload)
    return b"".join(parts)


def pong(payload: bytes) -> bytes:
    """The answer to a ping. A control frame holds at most 125 bytes; Autobahn refuses longer pings."""
    return b"\x8a" + bytes((len(payload),)) + payload
