"""What every test stands on."""

from __future__ import annotations

import inspect

from twisted.trial import unittest


class _NoCoroutines:
    """In a SynchronousTestCase an `async def test_` passes without running: refuse it where it is written."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if name.startswith("test") and inspect.iscoroutinefunction(value):
                raise TypeError(f"{cls.__name__}.{name} is a coroutine: trial would pass it without running it")


class TestCase(_NoCoroutines, unittest.SynchronousTestCase):
    """For everything that needs no real time: `Clock`, iosim pairs, `successResultOf`."""


class ReactorTestCase(unittest.TestCase):
    """For what needs real threads or sockets. Coroutines are run here."""
