"""Parts come up one after another and go in reverse, each in its time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from imconnect.service.ordered import OrderedService, TookTooLong, within
from tests.support import TestCase


class Recorded:
    """A part that says what it is told, and waits for the Deferreds it was given."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log
        self.starting: Any = None
        self.stopping: Any = None

    def start(self) -> Any:
        self.log.append(f"start {self.name}")
        return self.starting

    def stop(self) -> Any:
        self.log.append(f"stop {self.name}")
        return self.stopping


class OrderedServiceTests(TestCase):
    """`OrderedService` on a memory reactor."""

    def setUp(self) -> None:
        self.log: list[str] = []
        self.failed: list[tuple[str, Failure]] = []
        self.reactor = MemoryReactorClock()
        self.service = OrderedService(self.reactor, lambda name, why: self.failed.append((name, why)))
        self.parts = [Recorded(name, self.log) for name in "abc"]
        for part in self.parts:
            self.service.add(part.name, part, start_within=3, stop_within=2)

    def begin(self) -> None:
        """The reactor starts to run."""
        self.service.startService()
        for hook, args, kwargs in self.reactor.whenRunningHooks:
            hook(*args, **kwargs)

    def test_nothing_runs_before_the_reactor(self) -> None:
        """startService alone starts no part: twistd may still fork."""
        self.service.startService()
        self.assertEqual(self.log, [])

    def test_each_waits_for_the_one_before(self) -> None:
        """A part starts when its predecessor is up, not earlier."""
        self.parts[0].starting = Deferred()
        self.begin()
        self.assertEqual(self.log, ["start a"])
        self.parts[0].starting.callback(None)
        self.assertEqual(self.log, ["start a", "start b", "start c"])

    def test_coroutines_are_run(self) -> None:
        """start may be a coroutine function."""

        async def start() -> None:
            self.log.append("ran")

        self.service.add("d", type("D", (), {"start": staticmethod(start), "stop": staticmethod(lambda: None)})())
        self.begin()
        self.assertEqual(self.log[-1], "ran")

    def test_stops_in_reverse_each_awaited(self) -> None:
        """The last one up goes first, and the next one waits for it."""
        self.begin()
        self.log.clear()
        self.parts[2].stopping = Deferred()
        done = self.service.stopService()
        self.assertEqual(self.log, ["stop c"])
        self.assertNoResult(done)
        self.parts[2].stopping.callback(None)
        self.assertEqual(self.log, ["stop c", "stop b", "stop a"])
        self.successResultOf(done)

    def test_a_late_stop_is_named_and_left_behind(self) -> None:
        """A part that does not stop in time is cancelled and logged, and the others are stopped all the same."""
        self.begin()
        self.log.clear()
        cancelled: list[str] = []
        self.parts[1].stopping = Deferred(lambda _: cancelled.append("b"))
        done = self.service.stopService()
        self.reactor.advance(2)
        self.successResultOf(done)
        self.assertEqual((self.log, cancelled), (["stop c", "stop b", "stop a"], ["b"]))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_stop_that_fails_is_logged_and_left_behind(self) -> None:
        """An error in one stop does not keep the rest running."""
        self.begin()
        self.parts[2].stopping = fail(ValueError("stuck"))
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.log[-3:], ["stop c", "stop b", "stop a"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_failed_start_stops_what_was_started(self) -> None:
        """In reverse, the failed one included; then `fail` is told which part and why."""
        self.parts[1].starting = fail(ValueError("no disk"))
        self.begin()
        self.assertEqual(self.log, ["start a", "start b", "stop b", "stop a"])
        [(name, why)] = self.failed
        self.assertEqual((name, why.getErrorMessage()), ("b", "no disk"))

    def test_fail_waits_for_the_stops(self) -> None:
        """The process is not ended under a part that is still letting go."""
        self.parts[1].starting = fail(ValueError("no disk"))
        self.parts[0].stopping = Deferred()
        self.begin()
        self.assertEqual(self.failed, [])
        self.parts[0].stopping.callback(None)
        self.assertEqual(len(self.failed), 1)

    def test_a_late_start_is_a_failed_start(self) -> None:
        """A part that is not up in time ends the start."""
        self.parts[1].starting = Deferred()
        self.begin()
        self.reactor.advance(3)
        [(name, why)] = self.failed
        self.assertEqual((name, why.type), ("b", TookTooLong))
        self.assertNotIn("start c", self.log)

    def test_stopping_while_starting(self) -> None:
        """The start in progress is cancelled, its part is stopped too, nothing further starts, nothing fails."""
        self.parts[1].starting = Deferred()
        self.begin()
        done = self.service.stopService()
        self.successResultOf(done)
        self.assertEqual(self.log, ["start a", "start b", "stop b", "stop a"])
        self.assertEqual(self.failed, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopping_twice(self) -> None:
        """Both callers hear of the one end; each part is stopped once."""
        self.begin()
        self.log.clear()
        self.parts[2].stopping = Deferred()
        first, second = self.service.stopService(), self.service.stopService()
        self.assertNoResult(second)
        self.parts[2].stopping.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.log, ["stop c", "stop b", "stop a"])
        self.successResultOf(self.service.stopService())

    def test_stopping_before_the_reactor_ran(self) -> None:
        """Nothing was started, so nothing is stopped, and the start that was planned does not happen."""
        self.service.startService()
        self.successResultOf(self.service.stopService())
        for hook, args, kwargs in self.reactor.whenRunningHooks:
            hook(*args, **kwargs)
        self.assertEqual(self.log, [])


class WithinTests(TestCase):
    """`within` bounds a wait."""

    def test_a_failure_after_the_deadline_is_logged(self) -> None:
        """Nobody waits any more, but an error is never silent."""
        clock = MemoryReactorClock()
        inner: Deferred[None] = Deferred(lambda _: inner.errback(ValueError("late")))
        self.failureResultOf(self._expire(clock, inner), TookTooLong)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_an_exception_of_the_call_is_a_failure(self) -> None:
        """A part that raises instead of returning a Deferred is treated alike."""
        self.failureResultOf(within(MemoryReactorClock(), 1, lambda: 1 // 0), ZeroDivisionError)

    def _expire(self, clock: MemoryReactorClock, inner: Deferred[None]) -> Deferred[Any]:
        result = within(clock, 1, lambda: inner)
        clock.advance(1)
        return result
