"""The thread pool of a backend."""

from __future__ import annotations

import threading

from twisted.internet.defer import gatherResults

from imconnect.backends.threads import Pool
from imconnect.errors import Unavailable
from tests.backends.hand_clock import real_reactor
from tests.support import ReactorTestCase


class PoolTests(ReactorTestCase):
    """Calls on threads, bounded."""

    def pool(self, size: int = 1, max_waiting: int = 1000) -> Pool:
        pool = Pool(real_reactor(), "test", size, max_waiting)
        self.addCleanup(pool.stop)
        return pool

    async def test_runs_on_a_daemon_thread(self) -> None:
        """The value comes back on the reactor thread; the thread cannot keep the process alive."""
        pool = self.pool()
        pool.start()
        thread = await pool.run(threading.current_thread)
        self.assertIsNot(thread, threading.current_thread())
        self.assertTrue(thread.daemon)
        self.assertEqual(await pool.run(divmod, 7, 2), (3, 1))

    async def test_exception_is_the_errback(self) -> None:
        """What the call raises is what the caller gets."""
        pool = self.pool()
        pool.start()
        await self.assertFailure(pool.run(divmod, 1, 0), ZeroDivisionError)

    async def test_one_thread_keeps_the_order(self) -> None:
        """With size 1 calls run in the order in which they were made."""
        pool = self.pool()
        pool.start()
        ran: list[int] = []
        await gatherResults([pool.run(ran.append, number) for number in range(100)])
        self.assertEqual(ran, list(range(100)))

    async def test_too_many_calls_are_refused(self) -> None:
        """Beyond the threads and those that may wait: Unavailable at once; later there is room again."""
        pool = self.pool(size=2, max_waiting=3)
        pool.start()
        held = threading.Event()
        self.addCleanup(held.set)
        calls = [pool.run(held.wait) for _ in range(5)]
        await self.assertFailure(pool.run(held.wait), Unavailable)
        held.set()
        await gatherResults(calls)
        self.assertEqual(await pool.run(abs, -1), 1)

    async def test_no_thread_before_start(self) -> None:
        """Making it starts nothing, and calls are refused."""
        before = threading.enumerate()
        pool = self.pool(size=3)
        self.assertEqual(threading.enumerate(), before)
        await self.assertFailure(pool.run(abs, 1), Unavailable)

    async def test_stop_finishes_without_blocking(self) -> None:
        """It returns at once, what was asked for is finished, threads end, and calls afterwards are refused."""
        pool = self.pool(size=2)
        pool.start()
        held = threading.Event()
        calls = [pool.run(held.wait) for _ in range(4)]
        stops = [pool.stop(), pool.stop()]
        await self.assertFailure(pool.run(abs, 1), Unavailable)
        self.assertFalse(any(stop.called for stop in stops))
        held.set()  # if stop() had blocked, nobody would have come here
        await gatherResults(calls)
        await gatherResults(stops)
        self.assertEqual([thread.name for thread in threading.enumerate() if "test" in thread.name], [])
        await pool.stop()

    async def test_stop_without_start(self) -> None:
        """It fires, and a start afterwards is without effect."""
        pool = self.pool()
        await pool.stop()
        pool.start()
        await self.assertFailure(pool.run(abs, 1), Unavailable)
