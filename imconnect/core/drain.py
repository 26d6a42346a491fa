"""Asking everybody to leave: at a pace, so that the nodes they go to are not stormed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from imconnect.core.background import sleep
from imconnect.core.session import Session

LEAVING = 4005
#: Seconds between two groups of clients.
STEP = 0.1
#: Seconds whose clients are told at once, at most, after the process stood still.
CATCH_UP = 0.5
#: Share of the deadline in which everybody must have been told, whatever the rate.
TELLING = 0.8


class Sessions(Protocol):
    """The part of the hub that drain needs."""

    def all(self) -> list[Session]: ...


async def drain(
    clock: IReactorTime,
    hub: Sessions,
    end: Callable[[Session, int, str], None],
    rate: float,
    deadline: float,
    jitter: Callable[[], float] = random.random,
) -> None:
    """Tell `rate` clients per second to leave, or as many as needed to have told everybody before the deadline."""
    leaving = hub.all()
    rate = max(rate, len(leaving) / max(deadline * TELLING, STEP))
    budget, last = rate * STEP, clock.seconds()
    while leaving:
        while leaving and budget >= 1.0:
            budget -= 1.0
            end(leaving.pop(), LEAVING, f"leaving; retry_after_ms={500 + int(1500 * jitter())}")
        if leaving:
            await sleep(clock, STEP)
            # By the clock: on a busy machine a step takes longer. What a standstill cost is made up for within reason.
            now = clock.seconds()
            budget, last = budget + rate * min(now - last, CATCH_UP), now
