"""What every SentIndex does, asked by two nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imconnect.core.ports import SentIndex
from imconnect.errors import Unavailable
from imconnect.model import Claim, Claimed
from tests.support import ReactorTestCase

if TYPE_CHECKING:
    _Base = ReactorTestCase
else:
    _Base = object

ALICE, BOB = 1001, 1002


def claim(msg_id: int, client: bytes = b"c" * 16, digest: bytes = b"d" * 8, sender: int = ALICE) -> Claim:
    return Claim(sender, client, msg_id, digest)


class SentIndexContract(_Base):
    """Mix into a ReactorTestCase."""

    def make(self) -> SentIndex:
        """What another node sees of the same index."""
        raise NotImplementedError

    def take_away(self) -> None:
        """The server is gone."""
        raise NotImplementedError

    async def test_the_first_has_it(self) -> None:
        """Provisional at first: the other sees whose it is and that its fate is not known."""
        one, two = self.make(), self.make()
        self.assertEqual([None], list(await one.claim([claim(7)])))
        self.assertEqual([Claimed(7, b"d" * 8, False)], list(await two.claim([claim(8, digest=b"e" * 8)])))

    async def test_settled(self) -> None:
        """Durable: with the msgId that was committed, whatever was there."""
        one, two = self.make(), self.make()
        await one.claim([claim(7)])
        await two.settle([claim(9)], [])
        self.assertEqual([Claimed(9, b"d" * 8, True)], list(await one.claim([claim(10)])))

    async def test_released(self) -> None:
        """Not committed: free again, but only what is one's own and provisional."""
        one, two = self.make(), self.make()
        await one.claim([claim(7)])
        await two.release([claim(8)])
        self.assertEqual([Claimed(7, b"d" * 8, False)], list(await two.claim([claim(8)])))
        await one.release([claim(7)])
        self.assertEqual([None], list(await two.claim([claim(8)])))
        await two.settle([claim(8)], [])
        await two.release([claim(8)])
        self.assertEqual([Claimed(8, b"d" * 8, True)], list(await one.claim([claim(9)])))

    async def test_many(self) -> None:
        """One answer per claim, in order; other senders and other clientMsgIds are others."""
        one, two = self.make(), self.make()
        await one.claim([claim(7)])
        claims = [claim(1, b"x" * 16), claim(2), claim(3, sender=BOB)]
        self.assertEqual([None, Claimed(7, b"d" * 8, False), None], list(await two.claim(claims)))
        self.assertEqual([], list(await two.claim([])))

    async def test_ended(self) -> None:
        """What has ended for a user, of those that are asked about."""
        one, two = self.make(), self.make()
        top = 2**63 - 1
        await one.settle([], [(ALICE, 7), (ALICE, top), (BOB, 8)])
        self.assertEqual({7, top}, await two.ended(ALICE, [6, 7, 8, top]))
        self.assertEqual(set(), await two.ended(ALICE, [6]))

    async def test_away(self) -> None:
        """Each call says so."""
        one = self.make()
        self.take_away()
        for call in (one.claim([claim(7)]), one.settle([claim(7)], []), one.release([claim(7)]), one.ended(ALICE, [7])):
            try:
                await call
            except Unavailable:
                continue
            self.fail("it answered")
