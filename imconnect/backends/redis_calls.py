"""Calls to Redis from the reactor: on one thread, in order, each with a deadline, no waiting behind a server that hangs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from twisted.internet.defer import Deferred

from imconnect.backends.threads import Pool, Reactor
from imconnect.errors import ConfigError, Unavailable

_T = TypeVar("_T")


class RedisCalls:
    """One connection and one thread, so that what is asked first is done first.

    `deadline`: seconds that the server may take to connect and to answer. Errback of `run`: Unavailable, also where a
    key holds what it should not (the text names the key's command; the value is left alone).
    """

    def __init__(self, reactor: Reactor, url: str, name: str, deadline: float) -> None:
        self._pool = Pool(reactor, f"redis-{name}", 1)
        self.client = make_client(url, deadline)

    def start(self) -> None:
        self._pool.start()

    def run(self, function: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """Call it on the thread."""
        return self._pool.run(_called, function, *args)

    def stop(self) -> Deferred[None]:
        """What was asked for is finished first."""
        return self._pool.stop().addCallback(lambda _: self.client.close())


def make_client(url: str, deadline: float) -> redis.Redis:
    """Raises ConfigError for an URL that is none. Nothing is connected here."""
    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=deadline,
            socket_connect_timeout=deadline,
            socket_keepalive=True,
            # A retry is the caller's business: it knows whether the answer still matters.
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise ConfigError("redis.url", f"expected redis://[user:password@]host:port/db: {error}") from None


def _called(function: Callable[..., _T], *args: Any) -> _T:
    try:
        return function(*args)
    except redis.ResponseError as error:
        raise Unavailable(f"Redis refuses: {error}") from None
    except redis.RedisError as error:
        raise Unavailable(f"Redis does not answer: {type(error).__name__}") from None
