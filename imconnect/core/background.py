"""Coroutines and timers that run beside the messages; nothing of them is forgotten or fails in silence."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.errors import Unavailable

_log = Logger()
T = TypeVar("T")


def within(deferred: Deferred[T], seconds: float, clock: IReactorTime) -> Deferred[T]:
    """The same, but `Unavailable` when it takes longer than this."""

    def too_slow(failure: Failure) -> Failure:
        failure.trap(DeferredTimeout)
        raise Unavailable(f"no answer within {seconds:g} s")

    return deferred.addTimeout(seconds, clock).addErrback(too_slow)


def sleep(clock: IReactorTime, seconds: float) -> Deferred[None]:
    """Fires after this many seconds."""
    waiter: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, waiter.callback, None)
    return waiter


class Background:
    """Owns what runs in the background of a node, so that it can be ended and waited for."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._running: set[Deferred[Any]] = set()
        self._loops: list[LoopingCall] = []

    def run(self, coroutine: Coroutine[Any, Any, Any], what: str) -> None:
        """Run it now; a failure is logged under this name, being cancelled is not one."""
        deferred = Deferred.fromCoroutine(coroutine)
        self._running.add(deferred)

        def ended(result: object) -> None:
            self._running.discard(deferred)
            if isinstance(result, Failure) and not result.check(CancelledError):
                _log.failure("{what} failed", result, what=what)

        deferred.addBoth(ended)

    def every(self, seconds: float, call: Callable[[], object], what: str) -> None:
        """Call it again and again; one bad round is logged and does not end the loop."""

        def guarded() -> object:
            try:
                return call()
            except Exception:
                _log.failure("{what} failed", what=what)
                return None

        loop = LoopingCall(guarded)
        loop.clock = self._clock
        loop.start(seconds, now=False)
        self._loops.append(loop)

    def stop(self) -> Deferred[Any]:
        """End the timers, cancel the coroutines, wait for them."""
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._loops.clear()
        running = list(self._running)
        for deferred in running:
            deferred.cancel()
        return gatherResults(running)
