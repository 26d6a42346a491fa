"""Java's string hash: where a Java producer would put a key, and how brokers compare tags."""

from __future__ import annotations


def java_hash(text: str) -> int:
    """`String.hashCode`: over UTF-16 units, a signed int32."""
    data = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for at in range(0, len(data), 2):
        value = (31 * value + (data[at] << 8 | data[at + 1])) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def java_index(key: str, count: int) -> int:
    """`Math.abs(key.hashCode() % count)` with Java's remainder, which keeps the sign of the hash."""
    return abs(java_hash(key)) % count
