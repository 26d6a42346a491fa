"""Waiting for something to change."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Bell:
    """Wakes everybody who waits. A ring that nobody waits for is not remembered: look first, then wait."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[Deferred[None], IDelayedCall | None] = {}

    def ring(self) -> None:
        for waiter in list(self._waiting):
            self._wake(waiter)

    def wait(self, seconds: float | None = None) -> Deferred[None]:
        """Fires at the next ring, or after so many seconds."""
        waiter: Deferred[None] = Deferred(self._forget)
        self._waiting[waiter] = None if seconds is None else self._clock.callLater(seconds, self._wake, waiter)
        return waiter

    def _wake(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiting:
            self._forget(waiter)
            waiter.callback(None)

    def _forget(self, waiter: Deferred[Any]) -> None:
        timer = self._waiting.pop(waiter, None)
        if timer is not None and timer.active():
            timer.cancel()
