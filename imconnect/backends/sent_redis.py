"""The index of what was sent, in Redis: `imconnect:sent:<user>:<clientMsgId in hex>` and `imconnect:ended:<user>:<slot>`.

A claim is 17 bytes: msgId (8, big-endian), digest (8), 1 where its message is durable and 0 where that is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from struct import Struct, error

from twisted.internet.defer import Deferred

from imconnect.backends.redis_calls import RedisCalls
from imconnect.errors import Unavailable
from imconnect.model import Claim, Claimed

_PACKED = Struct(">Q8s?")
#: Two sets per user take turns: what ended is known for 10 to 20 minutes. The next one is asked too: whoever wrote it may
#: have a clock that is ahead.
SLOT_MS = 600_000
#: Deletes what is still the caller's provisional claim.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisSentIndex:
    """`core.ports.SentIndex`, and a part of the service tree. One round trip per call."""

    def __init__(self, calls: RedisCalls, window: float, now_ms: Callable[[], int]) -> None:
        """`window`: seconds for which a claim is remembered."""
        self._calls = calls
        self._client = calls.client
        self._window_ms = int(window * 1000)
        self._now_ms = now_ms
        self._release = self._client.register_script(_RELEASE)

    def claim(self, claims: Sequence[Claim]) -> Deferred[Sequence[Claimed | None]]:
        return self._calls.run(self._claim, claims)

    def settle(self, claims: Sequence[Claim], ended: Sequence[tuple[int, int]]) -> Deferred[None]:
        return self._calls.run(self._settle, claims, ended)

    def release(self, claims: Sequence[Claim]) -> Deferred[None]:
        return self._calls.run(self._let_go, claims)

    def ended(self, user: int, msg_ids: Collection[int]) -> Deferred[set[int]]:
        return self._calls.run(self._ended, user, list(msg_ids))

    # -- on the thread

    def _claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | None]:
        pipe = self._client.pipeline(transaction=False)
        for claim in claims:
            pipe.set(_key(claim), _packed(claim, False), nx=True, get=True, px=self._window_ms)
        return [_claimed(claim, there) for claim, there in zip(claims, pipe.execute(), strict=True)]

    def _settle(self, claims: Sequence[Claim], ended: Sequence[tuple[int, int]]) -> None:
        pipe = self._client.pipeline(transaction=False)
        for claim in claims:
            pipe.set(_key(claim), _packed(claim, True), px=self._window_ms)
        slot = self._now_ms() // SLOT_MS
        for user, msg_id in ended:
            key = _slot(user, slot)
            pipe.sadd(key, msg_id)
            pipe.pexpire(key, 2 * SLOT_MS)
        pipe.execute()

    def _let_go(self, claims: Sequence[Claim]) -> None:
        pipe = self._client.pipeline(transaction=False)
        for claim in claims:
            self._release(keys=[_key(claim)], args=[_packed(claim, False)], client=pipe)
        pipe.execute()

    def _ended(self, user: int, msg_ids: list[int]) -> set[int]:
        slot = self._now_ms() // SLOT_MS
        pipe = self._client.pipeline(transaction=False)
        for asked in (slot - 1, slot, slot + 1):
            pipe.smismember(_slot(user, asked), msg_ids)
        return {msg_id for msg_id, *found in zip(msg_ids, *pipe.execute(), strict=True) if any(found)}


def _key(claim: Claim) -> str:
    return f"imconnect:sent:{claim.sender}:{claim.client_msg_id.hex()}"


def _slot(user: int, slot: int) -> str:
    return f"imconnect:ended:{user}:{slot}"


def _packed(claim: Claim, settled: bool) -> bytes:
    return _PACKED.pack(claim.msg_id, claim.digest, settled)


def _claimed(claim: Claim, there: bytes | None) -> Claimed | None:
    if there is None:
        return None
    try:
        return Claimed(*_PACKED.unpack(there))
    except error:
        raise Unavailable(f"the key {_key(claim)} holds something else") from None
