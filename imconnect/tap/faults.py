"""Faults for tests: the process dies, or stands still, exactly at a named point in the life of a message.

`IMCONNECT_FAULT=append-durable@3` kills it (SIGKILL) the third time that point is reached; `append-durable@3=stop`
stops it (SIGSTOP) there until somebody continues it, so that a test can kill another process meanwhile. The methods
concerned are replaced on their classes before anything is made of them. Without the variable this module is never
imported and no method is touched (`tests/tap/test_faults.py`).
"""

from __future__ import annotations

import functools
import os
import re
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from inspect import iscoroutine
from typing import Any

from twisted.logger import Logger

from imconnect.errors import ConfigError
from imconnect.tap.fault_points import POINTS, Point
from imconnect.tap.logged import FAULT

_log = Logger()

_SETTING = re.compile(r"([a-z-]+)(?:@([1-9][0-9]{0,5}))?(?:=(kill|stop))?")

def die() -> None:
    """kill -9, by our own hand."""
    os.kill(os.getpid(), signal.SIGKILL)


def stand_still() -> None:
    """SIGSTOP for this very thread, and with it for the process: it goes on from here when it is continued."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class Fault:
    """Counts how often its point is reached, and acts once."""

    def __init__(self, point: Point, nth: int, act: Callable[[], None]) -> None:
        self._point, self._left, self._act = point, nth, act
        self._lock = threading.Lock()  # the points are on several threads

    def reached(self, call: Sequence[Any], result: Any = None) -> None:
        """The method was called, or has returned."""
        if not self._point.counts(call, result):
            return
        with self._lock:
            self._left -= 1
            if self._left:
                return
        if self._point.when == "written":
            _write_out(call[0])
        if self._point.when == "soon":
            from twisted.internet import reactor

            reactor.callLater(0.001, self._act)
        else:
            self._act()

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The method that takes the real one's place."""

        @functools.wraps(real)
        def before(*call: Any, **named: Any) -> Any:
            self.reached(call)
            return real(*call, **named)

        @functools.wraps(real)
        def after(*call: Any, **named: Any) -> Any:
            result = real(*call, **named)
            if iscoroutine(result):
                return self._ended(result, call)
            self.reached(call, result)
            return result

        return before if self._point.when == "before" else after

    async def _ended(self, coroutine: Coroutine[Any, Any, Any], call: Sequence[Any]) -> Any:
        result = await coroutine
        self.reached(call, result)
        return result


def arm(setting: str, kill: Callable[[], None] = die, stop: Callable[[], None] = stand_still) -> None:
    """`POINT[@N][=kill|stop]`: at the Nth time (1) do that (kill). ConfigError where it says something else."""
    match = _SETTING.fullmatch(setting)
    point = POINTS.get(match[1]) if match else None
    if match is None or point is None:
        raise ConfigError(FAULT, f"expected POINT[@N][=kill|stop], POINT one of {', '.join(POINTS)}: {setting!r}")
    fault = Fault(point, int(match[2] or 1), stop if match[3] == "stop" else kill)
    owner, name = located(point)
    setattr(owner, name, fault.around(vars(owner)[name]))
    _log.critical("a fault is armed by {variable}: {setting}", variable=FAULT, setting=setting)


def located(point: Point) -> tuple[type, str]:
    """The class and the name of the method that a point is about."""
    module, _, path = point.target.partition(":")
    owner, name = path.split(".")
    return getattr(import_module(module), owner), name


def _write_out(owner: Any) -> None:
    """What was said to clients so far goes to the kernel now, which keeps it when we die."""
    hub = owner.hub if hasattr(owner, "hub") else owner._hub
    sessions = hub.all()
    hub.flush()
    for session in sessions:
        session.link.transport.doWrite()
