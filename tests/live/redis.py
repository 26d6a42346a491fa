"""The Redis that the tests of one process share."""

from __future__ import annotations

from collections.abc import Callable

from tests.live.case import missing
from tests.servers import redis
from tests.servers.private import CannotRun
from tests.servers.redis import RedisServer


def server(start: Callable[[], RedisServer] = redis.shared) -> RedisServer:
    """It runs after this; a machine that has none skips the test, except in CI."""
    try:
        return start()
    except CannotRun as error:
        missing(f"Redis: {error}")
        raise
