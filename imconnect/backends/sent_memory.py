"""The index of what was sent, of nodes that live in one process: the twin of the Redis one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from imconnect.errors import Unavailable
from imconnect.model import Claim, Claimed


class Index:
    """What the server would hold."""

    def __init__(self) -> None:
        self.claims: dict[tuple[int, bytes], Claimed] = {}
        self.ended: dict[int, set[int]] = {}
        self.reachable = True


class MemorySentIndex:
    """`core.ports.SentIndex` over a shared Index. Nothing is ever forgotten."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def claim(self, claims: Sequence[Claim]) -> Deferred[Sequence[Claimed | None]]:
        if not self._index.reachable:
            return _away()
        return succeed([self._claim(claim) for claim in claims])

    def settle(self, claims: Sequence[Claim], ended: Sequence[tuple[int, int]]) -> Deferred[None]:
        if not self._index.reachable:
            return _away()
        for claim in claims:
            self._index.claims[claim.sender, claim.client_msg_id] = Claimed(claim.msg_id, claim.digest, True)
        for user, msg_id in ended:
            self._index.ended.setdefault(user, set()).add(msg_id)
        return succeed(None)

    def release(self, claims: Sequence[Claim]) -> Deferred[None]:
        if not self._index.reachable:
            return _away()
        for claim in claims:
            key = claim.sender, claim.client_msg_id
            if self._index.claims.get(key) == Claimed(claim.msg_id, claim.digest, False):
                del self._index.claims[key]
        return succeed(None)

    def ended(self, user: int, msg_ids: Collection[int]) -> Deferred[set[int]]:
        if not self._index.reachable:
            return _away()
        return succeed(self._index.ended.get(user, set()).intersection(msg_ids))

    def _claim(self, claim: Claim) -> Claimed | None:
        key = claim.sender, claim.client_msg_id
        there = self._index.claims.get(key)
        if there is None:
            self._index.claims[key] = Claimed(claim.msg_id, claim.digest, False)
        return there


def _away() -> Deferred[Any]:
    return fail(Unavailable("the index is away"))
