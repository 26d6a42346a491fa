"""How the process ends: with the right status, by a certain time, and at once when told twice."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.errors import ConfigError, Damaged, Unavailable
from imconnect.service.ordered import TookTooLong

_log = Logger()

#: Their text says all that can be done about them; anything else is logged with its traceback.
_PLAIN = (ConfigError, Damaged, Unavailable, TookTooLong, OSError)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: `make` passes on a SIGTERM that its whole process group got: two of them in this time are one.
_SAME_SIGNAL = 0.2
#: After an orderly stop, threads of libraries may hold up the exit this long.
_AFTER_STOP = 3.0


class ProcessEnd:
    """One per process; `install` it in makeService.

    twistd and twist end with status 0, or by the signal they got; this adds what they leave out. `reactor` is the
    real one. No thread is started before the stop begins, so daemonizing is safe.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._failed = False

    def install(self, deadline: float) -> None:
        """From the first signal, or any other stop: a second signal kills at once, `deadline` seconds end it all."""
        self._reactor.addSystemEventTrigger("before", "shutdown", self._leaving, deadline)
        self._reactor.addSystemEventTrigger("during", "shutdown", self._left)

    def fail(self, part: str, failure: Failure) -> None:
        """The start failed: say so once and end with status 1. What was started is stopped already."""
        if failure.check(*_PLAIN):
            _log.critical("start failed: {part}: {reason}", part=part, reason=failure.getErrorMessage())
        else:
            _log.failure("start failed: {part}", failure=failure, part=part)
        self._end_with_1()

    def abort(self, part: str, why: str) -> None:
        """This process must not go on: say so once, stop what runs in good order, and end with status 1."""
        _log.critical("{part}: {why}. This process ends", part=part, why=why)
        self._end_with_1()

    def _end_with_1(self) -> None:
        if self._failed:
            return
        self._failed = True
        # The last thing that happens: twistd has removed its pid file, the threads are joined.
        atexit.register(self._flush_and_exit)
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            _log.info("stopping already")

    def _leaving(self, deadline: float) -> None:
        taken = [number for number in _SIGNALS if callable(signal.getsignal(number))]
        for number in taken:
            signal.signal(number, _second_signal(time.monotonic()))
        self._exit_in(deadline)

    def _left(self) -> None:
        self._exit_in(_AFTER_STOP)

    def _exit_in(self, seconds: float) -> None:
        def wait() -> None:
            time.sleep(seconds)
            self._exit()

        threading.Thread(target=wait, name="exit", daemon=True).start()

    def _flush_and_exit(self) -> None:
        _flush()
        self._exit()

    def _exit(self) -> None:
        # Flushes nothing: on the exit thread that could wait for ever for a pipe that nobody reads.
        if self._failed:
            os._exit(1)
        number = getattr(self._reactor, "_exitSignal", None)
        if number is None:
            os._exit(0)
        signal.pthread_kill(threading.main_thread().ident or 0, number)
        time.sleep(1)
        os._exit(128 + number)


def end_now() -> None:
    """Status 1, at once: for what makes an orderly stop worse than none. The reason is in the log already."""
    _flush()
    os._exit(1)


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        _quietly(stream.flush if stream else None)


def _second_signal(first: float) -> Callable[[int, FrameType | None], None]:
    """A handler that ends the process by the signal, unless that comes in the same moment as the first one."""

    def handle(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - first >= _SAME_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    return handle


def _quietly(flush: Callable[[], None] | None) -> None:
    """A closed or broken stream must not keep the process from ending."""
    if flush:
        try:
            flush()
        except (OSError, ValueError):
            return
