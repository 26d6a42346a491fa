"""A service tree with an order: Twisted's MultiService stops all children at once, ours does not."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


class Reactor(Protocol):
    """What is needed of a reactor here."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> IDelayedCall: ...

    def callWhenRunning(self, callable: Callable[..., Any], *args: Any) -> Any: ...


class Part(Protocol):
    """Something that is started and stopped once. Either may return a Deferred or a coroutine, which is awaited.

    `stop` is called for every part whose `start` was called, also where that failed, was too late or was cut short
    (its Deferred is cancelled then): it lets go of whatever there is.
    """

    def start(self) -> Any: ...

    def stop(self) -> Any: ...


@attrs.frozen
class _Child:
    name: str
    part: Part
    start_within: float
    stop_within: float


class _State(Enum):
    NEW = auto()
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    STOPPED = auto()


class OrderedService(Service):
    """Starts its parts in the order of `add`, each when the one before is up, and stops them in reverse.

    A part that fails to start, or is not up in time, makes it stop what was started and then calls `fail` with the
    part's name and the Failure. Stopping twice, or while starting, is safe. It starts once: a process has one life.
    """

    def __init__(self, reactor: Reactor, fail: Callable[[str, Failure], None]) -> None:
        self._reactor = reactor
        self._fail = fail
        self._children: list[_Child] = []
        self._begun: list[_Child] = []
        self._state = _State.NEW
        self._starting: Deferred[Any] | None = None
        self._waiting: list[Deferred[None]] = []

    def add(self, name: str, part: Part, *, start_within: float = 30.0, stop_within: float = 10.0) -> None:
        """Append a part; `name` is for people. Deadlines are seconds."""
        self._children.append(_Child(name, part, start_within, stop_within))

    def startService(self) -> None:
        """Nothing runs before the reactor does: twistd forks and changes its user until then."""
        super().startService()
        if self._state is _State.NEW:
            self._state = _State.STARTING
            self._reactor.callWhenRunning(lambda: Deferred.fromCoroutine(self._start()))

    def stopService(self) -> Deferred[None]:
        """Fires when every part has stopped, or has missed its deadline."""
        super().stopService()
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        before, self._state = self._state, _State.STOPPING
        if before in (_State.STARTING, _State.RUNNING):
            if self._starting is not None:
                self._starting.cancel()
            Deferred.fromCoroutine(self._stop())
        elif before in (_State.NEW, _State.STOPPED):
            self._stopped()
        return done

    async def _start(self) -> None:
        for child in self._children:
            if self._state is not _State.STARTING:
                return
            self._begun.append(child)
            self._starting = within(self._reactor, child.start_within, child.part.start)
            try:
                await self._starting
            except Exception:
                if self._state is _State.STARTING:
                    await self._give_up(child, Failure())
                return
            finally:
                self._starting = None
        if self._state is _State.STARTING:
            self._state = _State.RUNNING

    async def _give_up(self, child: _Child, why: Failure) -> None:
        self._state = _State.STOPPING
        await self._stop()
        self._fail(child.name, why)

    async def _stop(self) -> None:
        while self._begun:
            child = self._begun.pop()
            try:
                await within(self._reactor, child.stop_within, child.part.stop)
            except TookTooLong:
                _log.error(
                    "{part} did not stop within {seconds} s, going on", part=child.name, seconds=child.stop_within
                )
            except Exception:
                _log.failure("{part} did not stop as it should, going on", part=child.name)
        self._stopped()

    def _stopped(self) -> None:
        self._state = _State.STOPPED
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)


class TookTooLong(Exception):
    """A part missed its deadline."""


def within(reactor: Reactor, seconds: float, call: Callable[[], Any]) -> Deferred[Any]:
    """The result of `call`, or TookTooLong after `seconds`; then it is cancelled, and not waited for."""
    result: Deferred[Any] = Deferred(lambda _: inner.cancel())
    inner = maybeDeferred(call)

    def expire() -> None:
        result.errback(TookTooLong(f"not done within {seconds} s"))
        inner.cancel()

    timer = reactor.callLater(seconds, expire)

    def finished(outcome: Any) -> None:
        if timer.active():
            timer.cancel()
        if not result.called:
            result.callback(outcome)
        elif isinstance(outcome, Failure) and not outcome.check(CancelledError):
            _log.failure("failed after its deadline", failure=outcome)

    inner.addBoth(finished)
    return result
