"""Identifiers: message ids (snowflake), chat ids, and UUIDs as the wire and as JSON have them."""

from __future__ import annotations

from collections.abc import Callable

from imconnect.errors import Unavailable

#: The two epochs in ms since 1970: of the seed (2024-01-01Z) and of the Java services (2010-11-04T01:42:54.657Z).
SEED_EPOCH = 1704067200000
XZLL_EPOCH = 1288834974657

_LAST_IN_MS = 4095
_LAST_MS = 2**41 - 1


class Snowflake:
    """Gives out message ids: 41 bits of ms since the epoch, 5 datacenter, 5 worker, 12 sequence. Never one twice.

    The time in an id is a logical one: it follows the clock but never goes back, and moves on by itself when a
    millisecond's 4096 ids are used up, so nobody ever waits for it.

    No id is of a millisecond at or below `floor_ms` (what an earlier process may have used) nor above `limit_ms`
    (what has been reserved durably so far; raise it as reservations succeed). At first the two are equal, so that
    nothing is given out before the first reservation: `Unavailable`. `last_ms` is the logical time of the newest id
    (how far the reservations are used up).
    """

    __slots__ = ("_epoch", "_node", "_now_ms", "_sequence", "last_ms", "limit_ms")

    def __init__(self, node: int, epoch: int, now_ms: Callable[[], int], floor_ms: int) -> None:
        """`node` is 0-1023 and this gateway's alone; `now_ms` the clock, ms since 1970."""
        if not 0 <= node <= 1023:
            raise ValueError(f"node must be 0-1023, not {node}")
        # Datacenter and worker lie side by side, so the node's ten bits are those two as they stand.
        self._node = node << 12
        self._epoch = epoch
        self._now_ms = now_ms
        self.last_ms = max(floor_ms, epoch)
        self._sequence = _LAST_IN_MS
        self.limit_ms = floor_ms

    def raise_floor(self, floor_ms: int) -> None:
        """No id of a millisecond at or below this one from now on: what is known of an earlier process."""
        if floor_ms > self.last_ms:
            self.last_ms = floor_ms
            self._sequence = _LAST_IN_MS

    def next(self) -> int:
        """A fresh id. Raises Unavailable where its millisecond is not reserved; the next call may succeed."""
        ms = self._now_ms()
        sequence = 0
        if ms <= self.last_ms:
            ms = self.last_ms
            sequence = self._sequence + 1
            if sequence > _LAST_IN_MS:
                ms += 1
                sequence = 0
        since = ms - self._epoch
        if ms > self.limit_ms or since > _LAST_MS:
            raise Unavailable("no message ids are reserved for this millisecond")
        self.last_ms = ms
        self._sequence = sequence
        return since << 22 | self._node | sequence

    def batch(self, count: int) -> list[int]:
        """Several fresh ids, ascending. Raises Unavailable like `next`; ids used up by then are lost."""
        return [self.next() for _ in range(count)]


def time_of(msg_id: int, epoch: int) -> int:
    """When an id was made, ms since 1970."""
    return (msg_id >> 22) + epoch


def chat_id(one: int, other: int) -> str:
    """The id of the chat of two users, the same from both sides."""
    return f"100-1-{one}-{other}" if one <= other else f"100-1-{other}-{one}"


def uuid_text(raw: bytes) -> str:
    """The text of a UUID of 16 bytes, big-endian; "" of none. ValueError for any other length."""
    if not raw:
        return ""
    if len(raw) != 16:
        raise ValueError(f"a UUID has 16 bytes, not {len(raw)}")
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID in its one usual form (8-4-4-4-12 hex digits); b"" of "". ValueError for all else."""
    if not text:
        return b""
    raw = bytes.fromhex(text.replace("-", ""))
    if len(raw) != 16 or uuid_text(raw) != text.lower():
        raise ValueError("not a UUID")
    return raw
