"""Staying connected: attempts, backoff, what ends it for good, and a clean stop."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.client_link import REPLACED, Backoff, ClientFactory, ClientProtocol, Loss
from imconnect.client_requests import ClientError

_log = Logger()

#: A connection that lived this long was a good one: the next failure starts again with the shortest wait. Seconds.
_PROVEN_AFTER = 5.0

#: What people can do something with, in place of the errors' own words.
_WHY: dict[type[Exception], str] = {
    ConnectionRefusedError: "connection refused",
    TimeoutError: "no answer",
    DNSLookupError: "unknown host",
}


class SignInRefused(ClientError):
    """The gateway does not let this user in, and would not the next time either."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}".strip())
        #: HTTP status: 401 not who he says, 404 no gateway at this path, ...
        self.status = status
        self.reason = reason


class Replaced(ClientError):
    """Signed out because the same device, or one device too many, signed in (4001). Coming back would sign that out."""


class Stopped(ClientError):
    """The client was stopped."""


class Phase(Enum):
    """Where a client stands."""

    CONNECTING = "connecting"
    ONLINE = "online"
    WAITING = "waiting"
    STOPPED = "stopped"


class State(NamedTuple):
    """What `on_state` is told: for WAITING the reason and the seconds until the next attempt."""

    phase: Phase
    reason: str = ""
    retry_in: float = 0.0


class ConnectionOwner(Protocol):
    """Who uses a Connection."""

    def connection_opened(self, link: ClientProtocol) -> None:
        """Signed in; what was not answered before must be asked again."""

    def connection_frame(self, frame: bytes) -> None:
        """A binary frame came."""

    def connection_lost(self) -> None:
        """Nothing can be written for a while."""

    def connection_ended(self, error: ClientError) -> None:
        """It will not come back."""

    def connection_state(self, state: State) -> None:
        """Something that people may want to see changed."""


class Connection:
    """At most one link at a time, and a new one when it is lost."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        user: int,
        owner: ConnectionOwner,
        *,
        device: str = "",
        headers: Mapping[str, str] | None = None,
        endpoint: IStreamClientEndpoint | None = None,
        keep_alive: float = 20.0,
        backoff: Backoff | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.link: ClientProtocol | None = None
        self.state = State(Phase.STOPPED)
        #: Why it is over, once it is.
        self.ended: ClientError | None = None
        self._reactor, self._owner = reactor, owner
        self._factory = ClientFactory(
            reactor, url, user, device=device, headers=headers, keep_alive=keep_alive,
            on_open=self._opened, on_frame=lambda _, frame: owner.connection_frame(frame), on_close=self._closed,
        )  # fmt: skip
        self._endpoint = endpoint or endpoint_of(reactor, self._factory)
        self._backoff, self._chance = backoff or Backoff(), chance
        self._attempt: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._failures = 0
        self._online_since = 0.0
        self._started: Deferred[None] | None = None
        self._stopping: list[Deferred[None]] = []

    @property
    def is_online(self) -> bool:
        """Whether something written now has a chance to arrive."""
        return self.link is not None and self.link.is_online

    def start(self) -> Deferred[None]:
        """Begin. Fires at the first sign-in, fails with what ended the connection before it."""
        if self._started is not None:
            raise RuntimeError("a client is started once")
        if self.ended is not None:
            raise self.ended
        self._started = Deferred()
        self._connect()
        return self._started

    def stop(self) -> Deferred[None]:
        """Close cleanly and stay away; fires when the link is gone."""
        if self.ended is not None and self.state.phase is Phase.STOPPED:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._stopping.append(done)
        self.ended = self.ended or Stopped("stopped")
        if self.link is not None:
            self.link.leave()
        elif self._attempt is not None:
            self._attempt.cancel()
        else:
            self._finish(self.ended)
        return done

    def _connect(self) -> None:
        self._timer = None
        self._enter(State(Phase.CONNECTING))
        attempt = self._attempt = self._endpoint.connect(self._factory)
        attempt.addCallbacks(self._reached, self._unreached)
        attempt.addErrback(lambda failure: _log.failure("connecting failed", failure))

    def _reached(self, link: ClientProtocol) -> None:
        # In memory the handshake may be done, or over, before this is called.
        self._attempt = None
        if self.state.phase is Phase.CONNECTING:
            self.link = link

    def _unreached(self, failure: Failure) -> None:
        self._attempt = None
        known = failure.check(*_WHY)
        self._lost(Loss(reason=_WHY[known] if known else failure.getErrorMessage()))

    def _opened(self, link: ClientProtocol) -> None:
        self.link = link
        if self.ended is not None:
            link.leave()
            return
        self._online_since = self._reactor.seconds()
        self._owner.connection_opened(link)
        self._enter(State(Phase.ONLINE))
        if self._started is not None and not self._started.called:
            self._started.callback(None)

    def _closed(self, link: ClientProtocol, loss: Loss) -> None:
        if self.link is link or self.link is None:
            self._lost(loss)

    def _lost(self, loss: Loss) -> None:
        if self.state.phase is Phase.ONLINE and self._reactor.seconds() - self._online_since >= _PROVEN_AFTER:
            self._failures = 0
        self.link = None
        self._owner.connection_lost()
        self.ended = self.ended or ending(loss)
        if self.ended is not None:
            self._finish(self.ended)
            return
        delay = self._backoff.delay(loss, self._failures, self._chance())
        self._failures += 1
        self._timer = self._reactor.callLater(delay, self._connect)
        self._enter(State(Phase.WAITING, loss.reason, delay))

    def _finish(self, ended: ClientError) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._enter(State(Phase.STOPPED, str(ended)))
        self._owner.connection_ended(ended)
        if self._started is not None and not self._started.called:
            self._started.errback(ended)
        stopping, self._stopping = self._stopping, []
        for done in stopping:
            done.callback(None)

    def _enter(self, state: State) -> None:
        self.state = state
        self._owner.connection_state(state)


def ending(loss: Loss) -> ClientError | None:
    """What makes it useless, or harmful, to come back; else None."""
    if loss.code == REPLACED:
        return Replaced("signed out, because a newer connection of this user took over")
    if 400 <= loss.status < 500 and loss.status not in (408, 429):
        return SignInRefused(loss.status, loss.reason)
    return None


def endpoint_of(reactor: Any, factory: ClientFactory) -> IStreamClientEndpoint:
    """Where the factory's URL points to. ClientError where that needs TLS and TLS is not installed."""
    plain = HostnameEndpoint(reactor, factory.host, factory.port, timeout=10)
    if not factory.isSecure:
        return plain
    # Late: TLS needs packages that a plain client does not.
    try:
        from twisted.internet.ssl import optionsForClientTLS
    except ImportError as error:
        raise ClientError(f"wss:// needs the packages pyOpenSSL and service_identity ({error})") from error

    return wrapClientTLS(optionsForClientTLS(factory.host), plain)
