"""A bounded thread pool for a backend that blocks. Each backend has its own, so none can starve another."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from imconnect.errors import Unavailable

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Reactor(Protocol):
    """What a backend with threads needs of the reactor."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> Any: ...

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall: ...

    def seconds(self) -> float: ...


class _DaemonThread(Thread):
    """A call that hangs in a driver must not keep the process alive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, daemon=True, **kwargs)


class _DaemonPool(ThreadPool):
    threadFactory = _DaemonThread


class Pool:
    """At most `size` threads, at most `max_waiting` calls that wait for one of them.

    No thread exists before `start()` and the first call, so it may be made before `twistd` forks.
    """

    def __init__(self, reactor: Reactor, name: str, size: int, max_waiting: int = 1000) -> None:
        self._reactor = reactor
        self._name = name
        self._pool = _DaemonPool(0, size, name)
        self._limit = size + max_waiting
        self._calls = 0
        self._state: Literal["new", "running", "stopping", "ended"] = "new"
        self._waiting: list[Deferred[None]] = []  # for the end
        self._joiner: Thread | None = None

    def start(self) -> None:
        """Take calls from now on. After `stop()` there is no second start."""
        if self._state == "new":
            self._state = "running"
            self._pool.start()

    def run(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_R]:
        """Call it on a thread; fires with what it returns or raises. With size 1, in the order of the calls.

        Errback: Unavailable where too many wait already, and before `start()` and after `stop()`.
        """
        if self._state != "running":
            return fail(Unavailable(f"{self._name} is not running"))
        if self._calls >= self._limit:
            return fail(Unavailable(f"{self._name} is too slow: {self._calls} calls wait"))
        self._calls += 1
        result: Deferred[_R] = Deferred()
        # A Deferred of its own: a caller that cancels it gives up waiting, but the thread is still busy and counts.
        called = deferToThreadPool(cast(IReactorFromThreads, self._reactor), self._pool, function, *args, **kwargs)
        called.addBoth(lambda value: self._returned(result, value))
        return result

    def _returned(self, result: Deferred[_R], value: _R | Failure) -> None:
        self._calls -= 1
        result.callback(value)  # a Failure becomes an errback

    def stop(self) -> Deferred[None]:
        """Refuse new calls, finish those asked for, end the threads. May be called twice.

        A call that hangs for ever delays it for ever: the caller holds the deadline.
        """
        stopped: Deferred[None] = Deferred()
        self._waiting.append(stopped)
        if self._state == "running":
            self._state = "stopping"
            # Joining blocks, so a thread of its own does it.
            self._joiner = _DaemonThread(target=self._join, name=f"{self._name}-stop")
            self._joiner.start()
        elif self._state != "stopping":
            self._ended()
        return stopped

    def _join(self) -> None:
        self._pool.stop()
        self._reactor.callFromThread(self._ended)

    def _ended(self) -> None:
        self._state = "ended"
        if self._joiner is not None:
            self._joiner.join()  # it ends right behind the call that brought us here
            self._joiner = None
        waiting, self._waiting = self._waiting, []
        for stopped in waiting:
            stopped.callback(None)
