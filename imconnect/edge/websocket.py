"""The listener's factory: every limit of Autobahn set, who may come in, and what all connections share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any, NamedTuple, Protocol

import autobahn.websocket
from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from imconnect.core.ports import Authenticator, Link
from imconnect.edge.admission import Admission, Admitted
from imconnect.edge.connection import Connection, Receiver
from imconnect.edge.settings import EdgeSettings
from imconnect.edge.wheel import Wheel
from imconnect.errors import CommandError, Unavailable
from imconnect.model import Identity
from imconnect.observe.metrics import Metrics

__all__ = ["Core", "EdgeSettings", "Factory", "Receiver"]

_log = Logger()

#: The wheel's step in seconds: short, so that few connections are pinged at once.
TICK = 0.25

_CODES = frozenset(int(status) for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST)


class Core(Protocol):
    """Where connections become sessions."""

    def sign_in(self, identity: Identity, link: Link) -> Receiver:
        """The upgrade is done. The link may be written to and closed from here on."""


class Ticks(NamedTuple):
    """Times of the settings, counted in ticks of the wheel."""

    ping: int
    idle: int
    close: int


class _ReactorTimer:
    """Stands where Autobahn keeps its batched timer, which asks a global for the reactor and fires up to 1 s early."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def call_later(self, delay: float, function: Any, *args: Any, **kwargs: Any) -> IDelayedCall:
        return self._clock.callLater(delay, function, *args, **kwargs)


class Factory(WebSocketServerFactory):
    """Makes connections. Refuses all (503) until `accepting` is set: the port is bound early, people come in last."""

    log = Connection.log
    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        settings: EdgeSettings,
        core: Core,
        authenticator: Authenticator,
        metrics: Metrics,
    ) -> None:
        super().__init__(server="", reactor=reactor)
        self._batched_timer = _ReactorTimer(reactor)
        self.settings = settings
        self.core = core
        self.metrics = metrics
        self.accepting = False
        self.admission = Admission(settings.connections, settings.connections_per_ip)
        self._authenticator = authenticator
        self._authenticator_away = False
        tick = min(TICK, settings.ping_interval / 4)
        self.ticks = Ticks(
            *(
                max(1, ceil(seconds / tick))
                for seconds in (settings.ping_interval, settings.idle_timeout, settings.close_timeout)
            )
        )
        self.wheel = Wheel(reactor, tick, max(self.ticks.ping, self.ticks.close))
        self._set_limits()
        self.protocol = self._protocol_with_options()

    @property
    def connection_count(self) -> int:
        """Connections that have a place, half-open ones included."""
        return self.admission.count

    def startFactory(self) -> None:
        super().startFactory()
        if not autobahn.websocket.USES_NVX:
            _log.warn("Autobahn runs without its native part (NVX): frames cost many times the processor time")

    def check(self, path: str, admitted: Admitted) -> None:
        """Raises ConnectionDeny where this connection may not come in now, whoever it is."""
        if path != self.settings.path:
            raise ConnectionDeny(ConnectionDeny.NOT_FOUND, f"there is nothing here; try {self.settings.path}")
        if admitted is not Admitted.YES:
            raise ConnectionDeny(int(admitted), "too many connections")
        if not self.accepting:
            raise ConnectionDeny(ConnectionDeny.SERVICE_UNAVAILABLE, "starting or leaving")

    async def identify(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> Identity:
        """Ask the authenticator. Raises nothing but ConnectionDeny."""
        try:
            identity = await self._authenticator.authenticate(headers, query)
        except CommandError as error:
            raise ConnectionDeny(error.code if error.code in _CODES else 401, error.message) from None
        except (CancelledError, Unavailable) as error:
            if isinstance(error, Unavailable) and not self._authenticator_away:
                self._authenticator_away = True
                _log.error("the authenticator is away, nobody can sign in: {error}", error=error)
        except Exception:
            _log.failure("the authenticator failed")
        else:
            if self._authenticator_away:
                self._authenticator_away = False
                _log.info("the authenticator is back")
            return identity
        raise ConnectionDeny(ConnectionDeny.SERVICE_UNAVAILABLE, "sign-in is not possible now")

    def _set_limits(self) -> None:
        settings = self.settings
        self.setProtocolOptions(
            versions=[13],
            # Autobahn's status page would also redirect wherever a query says.
            webStatus=False,
            # Text is refused unread.
            utf8validateIncoming=False,
            maxFramePayloadSize=settings.frame_bytes,
            maxMessagePayloadSize=settings.frame_bytes,
            # Say why with a close frame instead of just dropping.
            failByDrop=False,
            openHandshakeTimeout=settings.handshake_timeout,
            closeHandshakeTimeout=settings.close_timeout,
            tcpNoDelay=True,
            autoPingInterval=0,
            perMessageCompressionAccept=lambda offers: None,
            # Any web page may connect: who somebody is comes from a header, the query or a token, never from a cookie.
            allowedOrigins=["*"],
            allowNullOrigin=True,
        )

    def _protocol_with_options(self) -> type[Connection]:
        """Autobahn copies 25 options into every connection and formats them for a log line that is not written.

        It leaves alone what a connection has already: on a class of this factory's own they cost nothing per
        connection (measured: 1.7 KB and 0.45 ms less).
        """
        options = {name: getattr(self, name) for name in Connection.CONFIG_ATTRS}
        options["perMessageCompressionAccept"] = staticmethod(options["perMessageCompressionAccept"])
        return type(Connection.__name__, (Connection,), {**options, "CONFIG_ATTRS": ()})
