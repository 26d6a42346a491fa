"""The small chat that every cell of the crash matrix plays: three people, about twenty messages, nothing left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from imconnect.core.settings import SEED
from imconnect.model import MAX_ID, Status
from imconnect.wire.client_codec import Pushed
from imconnect.wire.ids import Snowflake
from tests.live.chatter import Chatter
from tests.live.processes import until
from tests.live.record import Record

ANN, BEN, CID = 1001, 1002, 1003
#: Who is sent this does not acknowledge it until the end.
KEPT = "kept open"
#: Seconds in which a step must succeed, restarts included.
WITHIN = 90.0


class Guest(Chatter):
    """Acknowledges what he is shown, every second message as read; `KEPT` only when he is asked to."""

    def on_push(self, push: Pushed) -> None:
        if not push.content.startswith(KEPT):
            self.ack(push.msg_id, Status.READ if push.msg_id % 2 else Status.DELIVERED)


class Script:
    """`play` waits for each step however often processes die and come back meanwhile."""

    def __init__(self, reactor: Any, ports: Sequence[int], record: Record, now_ms: int) -> None:
        """`ports` of the nodes. Where there are several, Ben is at the last one; who loses his goes to the next."""
        self._reactor = reactor
        self.ann, self.ben, self.cid = self.people = [
            Guest(reactor, ports if user != BEN else ports[::-1], user, record) for user in (ANN, BEN, CID)
        ]
        #: A message that nobody sent, of some time ago and another node.
        ids = Snowflake(77, SEED.epoch, lambda: now_ms - 600_000, 0)
        ids.limit_ms = MAX_ID
        self.unknown = ids.next()

    async def play(self) -> None:
        """Everything once."""
        self.ann.come()
        self.ben.come()
        await self._until(lambda: self.ann.connection and self.ben.connection, "Ann and Ben are online")
        await self._talk()
        await self._take_back()
        await self._keep_open()
        await self._come_back()

    async def say_again(self) -> None:
        """What nobody answers, and a crash may have swallowed."""
        await self._until(lambda: self.ben.connection, "Ben is online")
        self.ben.ack_unknown(self.unknown, ANN)

    async def _talk(self) -> None:
        for number in range(3):
            self.ann.send(BEN, f"Ann {number} 你好", number)
        for number in range(3):
            self.ben.send(ANN, f"Ben {number}")
        await self._answered()
        for number in range(3, 5):
            self.ann.send(BEN, f"Ann {number}")
            await self._answered()
        await self._has(self.ben, 5)
        await self._has(self.ann, 3)

    async def _take_back(self) -> None:
        """Cid is away: his messages are offline. One of them, and one that Ben has, are withdrawn."""
        keys = [self.ann.send(CID, f"for Cid {number}") for number in range(4)]
        await self._answered()
        self.ann.withdraw(keys[1])
        await self._answered()
        self.ann.withdraw(next(key for key, (send, _) in self.ann.answered.items() if send.to == BEN))
        await self._answered()
        await self.say_again()

    async def _keep_open(self) -> None:
        """Ben does not acknowledge, so that the message is pushed again; Cid comes, and is shown what waited."""
        self.ann.send(BEN, f"{KEPT} 1")
        await self._answered()
        self.cid.come()
        await self._has(self.cid, 3)
        self.ben.send(CID, "Ben to Cid")
        self.cid.send(ANN, "Cid to Ann")
        await self._answered()
        await self._has(self.ben, 6)
        await self._has(self.cid, 4)

    async def _come_back(self) -> None:
        """Ben breaks off with something unacknowledged and comes back; he keeps it open, and one more."""
        await self.ben.leave(abort=True)
        self.ann.send(BEN, "while he was away")
        await self._answered()
        self.ben.come()
        await self._has(self.ben, 7)
        self.ann.send(BEN, f"{KEPT} 2")
        self.cid.send(BEN, "Cid to Ben")
        await self._answered()
        await self._has(self.ben, 9)

    async def _answered(self) -> None:
        await self._until(lambda: not any(person.waits for person in self.people), "all requests are answered")

    async def _has(self, person: Chatter, count: int) -> None:
        await self._until(
            lambda: len(person.shown) >= count, lambda: f"{person.user} has {count} messages: {sorted(person.shown)}"
        )

    async def _until(self, check: Callable[[], Any], what: str | Callable[[], str]) -> None:
        await until(self._reactor, check, what, WITHIN)
