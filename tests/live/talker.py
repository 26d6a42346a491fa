"""Somebody who uses the ledger's installation as people do: he talks, forgets, changes his mind and loses the line."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from imconnect.model import Status
from imconnect.wire.client_codec import Pushed
from tests.live.chatter import Chatter
from tests.live.record import Record

#: Mean seconds between two things that somebody does.
PAUSE = 0.25
_TEXTS = ("hello", "你好，世界", "a longer text " * 20, "emoji 🎉", "-")


class Talker(Chatter):
    """Sends, acknowledges (now, late, or not), takes back, repeats himself, breaks off and comes back."""

    def __init__(self, reactor: Any, ports: Sequence[int], user: int, record: Record, others: Sequence[int], seed: int) -> None:
        super().__init__(reactor, ports, user, record)
        self._random = Random(f"{user} {seed}")
        self._others = others
        self._talking = False
        self._said = 0

    def begin(self) -> None:
        self._talking = True
        self.come()
        self._next()

    def stop_talking(self) -> None:
        """From now on he acknowledges everything at once and begins nothing."""
        self._talking = False
        self.forget()

    def on_push(self, push: Pushed) -> None:
        chance = self._random.random()
        if not self._talking or chance < 0.6:
            self.ack(push.msg_id)
        elif chance < 0.75:
            self.ack(push.msg_id, Status.READ)
        elif chance < 0.8:
            self.ack(push.msg_id)
            self.ack(push.msg_id, Status.READ)
        elif chance < 0.95:
            self.after(self._random.uniform(0.05, 5.0), self.ack, push.msg_id)

    def _next(self) -> None:
        if self._talking:
            self.after(self._random.expovariate(1 / PAUSE), self._turn)

    def _turn(self) -> None:
        if not self._talking:
            return
        chance, recent = self._random.random(), list(self.answered)[-20:]
        if chance < 0.06 and recent:
            self.withdraw(self._random.choice(recent))
        elif chance < 0.12 and recent:
            self.repeat(self._random.choice(recent))
        elif chance < 0.2 and self.connection:
            Deferred.fromCoroutine(self._break_off())
            return
        else:
            for _ in range(self._random.choice((1, 1, 1, 2, 4))):
                self._said += 1
                text = f"{self.user} {self._said} {self._random.choice(_TEXTS)}"
                self.send(self._random.choice(self._others), text, self._random.randrange(11))
        self._next()

    async def _break_off(self) -> None:
        await self.leave(abort=self._random.random() < 0.5)
        if self._talking:
            self.after(self._random.choice((0.05, 0.5, 3.0)) * self._random.random(), self._come_back)

    def _come_back(self) -> None:
        self.come()
        self._next()
