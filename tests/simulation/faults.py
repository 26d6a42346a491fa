"""How badly the world behaves: every call through a port is delayed, fails, or kills the one who made it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from imconnect.errors import Unavailable
from tests.simulation.clock import Life

_T = TypeVar("_T")


class Fate(Enum):
    """What becomes of one call."""

    WELL = "it is done and answered"
    BEFORE = "it fails, nothing was done"
    AFTER = "it is done, and the answer is that it failed"
    NEVER = "no answer ever comes"
    DEATH = "it is done, and the caller dies before he hears of it"


#: What may become of a call to each port, beside going well. A log never says no to what it keeps (`core.ports.Outbox`),
#: a database may hang, a queue may have stored what it denies.
FATES = {
    "disk": (Fate.BEFORE, Fate.DEATH),
    "log": (Fate.BEFORE,),
    "queue": (Fate.BEFORE, Fate.AFTER, Fate.AFTER, Fate.DEATH),
    "part": (Fate.BEFORE,),
    "store": (Fate.BEFORE, Fate.NEVER),
    "business": (Fate.BEFORE, Fate.AFTER, Fate.DEATH),
    "offset": (Fate.BEFORE, Fate.DEATH),
    "hint": (Fate.BEFORE,),
    "link": (Fate.DEATH,),
    "presence": (Fate.BEFORE, Fate.AFTER, Fate.NEVER),
    "feed": (Fate.BEFORE,),
    "index": (Fate.BEFORE, Fate.AFTER, Fate.NEVER, Fate.DEATH),
    "peer": (Fate.BEFORE, Fate.AFTER, Fate.AFTER, Fate.NEVER, Fate.DEATH),
}
#: How long a call takes at most, and how many in a hundred do not go well.
SPEEDS = (0.0, 0.0, 0.02, 0.2, 1.0)
RATES = (0, 0, 2, 10, 30)
#: The same for what has to answer sooner.
SPEEDS_OF = {"index": (0.0, 0.0, 0.02, 0.08, 0.15), "presence": (0.0, 0.0, 0.02, 0.2, 0.4)}
#: Of the calls that do not go well, how many in a hundred kill, where that is possible.
DEADLY = 10


class Faults:
    """The character of one schedule's world, drawn once; `heal` makes everything go well from then on."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.speeds = {port: random.choice(SPEEDS_OF.get(port, SPEEDS)) for port in FATES}
        self.rates = {port: random.choice(RATES) for port in FATES}
        self.rates["link"] = random.choice((0, 0, 0, 1))
        self.healed = False

    def heal(self) -> None:
        self.healed = True
        self.speeds = dict.fromkeys(FATES, 0.0)

    def fate(self, port: str) -> Fate:
        rate = self.rates[port]
        if not rate or self.healed or self.random.random() * 100 >= rate:
            return Fate.WELL
        fate = self.random.choice(FATES[port])
        if fate is Fate.DEATH and port != "link" and self.random.random() * 100 >= DEADLY:
            return Fate.WELL
        return fate

    def pause(self, port: str) -> float:
        """How long the way there, or back, takes this time."""
        speed = self.speeds[port]
        return self.random.random() * speed if speed else 0.0

    def call(self, life: Life, port: str, work: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        """Do this work after a while and answer after another. `work` is done in no time, its Deferred has fired."""
        answer: Deferred[_T] = Deferred()
        fate = self.fate(port)

        def do() -> None:
            if fate is Fate.BEFORE:
                result: Any = _failed(port)
            else:
                result = work()
            if fate is Fate.DEATH:
                life.die()
            elif fate is Fate.AFTER:
                result.addBoth(lambda _: _failed(port))
            result.addBoth(answered)

        def answered(outcome: Any) -> None:
            if fate is not Fate.NEVER:
                life.callLater(self.pause(port), answer.callback, outcome)

        life.callLater(self.pause(port), do)
        return answer


def _failed(port: str) -> Deferred[Any]:
    deferred: Deferred[Any] = Deferred()
    deferred.errback(Unavailable(f"the {port} fails (simulated)"))
    return deferred
