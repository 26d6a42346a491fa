"""The way to one address: connects when a request needs it, again after a loss, not faster than a jittered backoff."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.rocketmq.connection import Connection, Counters
from imconnect.rocketmq.errors import ClientClosed, ConnectionGone, RequestTimeout, Unreachable
from imconnect.rocketmq.frames import Frame

_log = Logger()
CONNECT_TIMEOUT = 5.0  # seconds, for connecting and greeting each
FIRST_DELAY, MAX_DELAY = 0.1, 10.0  # seconds between attempts
_LIVED = 5.0  # seconds after which a connection counts as one that worked

Dial = Callable[[str], Deferred[Connection]]
Greet = Callable[[Connection], Deferred[Any]]


class Channel:
    """At most one connection to `address`.

    `dial(address)` makes one; `greet(connection)` introduces us before any request leaves. A connection whose
    greeting fails is no connection.
    """

    def __init__(
        self,
        address: str,
        dial: Dial,
        greet: Greet,
        clock: IReactorTime,
        counters: Counters,
        jitter: Callable[[], float],
    ) -> None:
        self.address = address
        self.connection: Connection | None = None
        self._dial, self._greet, self._clock = dial, greet, clock
        self._counters, self._jitter = counters, jitter
        self._waiting: dict[Deferred[Connection], IDelayedCall] = {}
        self._attempt: Deferred[Any] | None = None
        self._backoff: IDelayedCall | None = None
        self._failures = 0
        self._not_before = 0.0
        self._since = 0.0
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Requests that wait for a connection or for their reply."""
        return len(self._waiting) + (self.connection.in_flight if self.connection is not None else 0)

    def request(self, code: int, fields: Mapping[str, str], body: bytes, timeout: float) -> Deferred[Frame]:
        """The deadline covers connecting too. Errback: RequestTimeout, Unreachable, ConnectionGone, ClientClosed."""
        if self._closed:
            return fail(ClientClosed("the client is closed"))
        if self.connection is not None and self.connection.usable:
            return self.connection.request(code, fields, body, timeout)
        until = self._clock.seconds() + timeout

        def send(connection: Connection) -> Deferred[Frame]:
            return connection.request(code, fields, body, max(0.0, until - self._clock.seconds()))

        return self._connected(timeout).addCallback(send)

    def retire(self) -> None:
        """The peer asked us to go away: new requests use a new connection."""
        if self.connection is not None:
            self.connection.retire()
            self._forget(self.connection)

    def abort(self) -> None:
        """Give this connection up: it looks alive and is not."""
        if self.connection is not None:
            self.connection.abort()

    def close(self) -> None:
        """End at once; whatever waits here fails."""
        self._closed = True
        self._fail_waiting(ClientClosed("the client is closed"))
        if self._backoff is not None:
            self._backoff.cancel()
            self._backoff = None
        if self._attempt is not None:
            self._attempt.cancel()
        if self.connection is not None:
            self.connection.abort()

    def _connected(self, timeout: float) -> Deferred[Connection]:
        waiter: Deferred[Connection] = Deferred(self._forget_waiter)
        self._waiting[waiter] = self._clock.callLater(timeout, self._expire, waiter)
        if self._attempt is None and self._backoff is None:
            delay = self._not_before - self._clock.seconds()
            if delay > 0:
                self._backoff = self._clock.callLater(delay, self._connect)
            else:
                self._connect()
        return waiter

    def _connect(self) -> None:
        self._backoff = None
        if not self._waiting:
            return  # everybody gave up meanwhile
        dialled = self._dial(self.address)
        dialled.addTimeout(CONNECT_TIMEOUT, self._clock)
        dialled.addCallback(self._introduce)
        self._attempt = dialled
        dialled.addCallbacks(self._ready, self._failed)

    def _introduce(self, connection: Connection) -> Deferred[Connection]:
        connection.lost.addCallback(lambda _: self._lost(connection))

        def refused(failure: Failure) -> Failure:
            connection.abort()
            return failure

        return self._greet(connection).addCallbacks(lambda _: connection, refused)

    def _ready(self, connection: Connection) -> None:
        self._attempt = None
        if not connection.usable:  # it ended in the turn of its greeting
            gone = ConnectionGone("the connection ended at once")
            self._failed(Failure(gone))
            return
        if self._failures:
            _log.info("RocketMQ at {address} is back", address=self.address)
        self.connection, self._since = connection, self._clock.seconds()
        self._counters.connects += 1
        for waiter in self._take_waiting():
            waiter.callback(connection)

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if self._closed:
            return
        self._counters.connect_failures += 1
        if not self._failures:
            reason = failure.type.__name__ if failure.type else "failure"
            _log.warn("RocketMQ at {address} is away: {reason}", address=self.address, reason=reason)
        self._back_off()
        self._fail_waiting(Unreachable(f"{self.address} is unreachable"))

    def _back_off(self) -> None:
        delay = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(self._failures, 10))
        self._not_before = self._clock.seconds() + delay * (0.5 + self._jitter())
        self._failures += 1

    def _lost(self, connection: Connection) -> None:
        if connection is self.connection:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self.connection = None
        if self._clock.seconds() - self._since >= _LIVED:
            self._failures = 0
            self._not_before = 0.0
        elif not self._closed:
            self._back_off()

    def _expire(self, waiter: Deferred[Connection]) -> None:
        del self._waiting[waiter]
        self._counters.timeouts += 1
        waiter.errback(RequestTimeout(f"no connection to {self.address} in time"))

    def _forget_waiter(self, waiter: Deferred[Connection]) -> None:
        deadline = self._waiting.pop(waiter, None)
        if deadline is not None:
            deadline.cancel()

    def _fail_waiting(self, error: Exception) -> None:
        for waiter in self._take_waiting():
            waiter.errback(error)

    def _take_waiting(self) -> Iterator[Deferred[Connection]]:
        """Those that wait now; one that a callback cancels meanwhile is left out."""
        for waiter in list(self._waiting):
            deadline = self._waiting.pop(waiter, None)
            if deadline is not None:
                deadline.cancel()
                yield waiter
