"""The way to an open connection: admission, the upgrade or a refusal in JSON, and what must not remain of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.edge.admission import Admitted, refusal
from imconnect.model import Identity

if TYPE_CHECKING:
    from imconnect.edge.websocket import Factory

_log = Logger()

#: The head of the HTTP request of a handshake.
HEAD_BYTES = 16384

#: What Autobahn keeps of a handshake. Nothing reads it afterwards; headers and query may hold a token.
_LEFTOVERS = (
    "http_request_data",
    "http_status_line",
    "http_headers",
    "http_request_uri",
    "http_request_path",
    "http_request_params",
    "http_request_host",
    "http_response_data",
    "websocket_protocols",
    "websocket_extensions",
    "websocket_origin",
    "_wskey",
)


class _Quiet:
    """Stands where Autobahn logs: it writes a line per refused or dropped client, some of them with the token."""

    def debug(self, *args: object, **kwargs: object) -> None:
        """Not logged."""

    trace = info = warn = debug

    def error(self, message: str, **kwargs: object) -> None:
        _log.error(message, **kwargs)

    def failure(self, message: str, **kwargs: Any) -> None:
        _log.failure(message, **kwargs)


class Handshake(WebSocketServerProtocol):
    """A connection until it is open. Knows who it is by then."""

    log: Any = _Quiet()
    factory: Factory
    transport: Any

    _ip = ""
    _admitted = Admitted.YES
    _admission: Deferred[None] | None = None
    _identity: Identity | None = None

    def connectionMade(self) -> None:
        self._ip = getattr(self.transport.getPeer(), "host", "")
        self._admitted = self.factory.admission.enter(self._ip)
        super().connectionMade()
        if self._admitted is Admitted.DROPPED:
            self.dropConnection(abort=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.admission.leave(self._ip, self._admitted)
        super().connectionLost(reason)
        if self._admission is not None:
            self._admission.cancel()

    def onConnect(self, request: ConnectionRequest) -> Deferred[None]:  # type: ignore[override]
        """Autobahn answers 101 when this fires, and refuses where it fails with ConnectionDeny."""
        self._admission = Deferred.fromCoroutine(self._admit(request))
        return self._admission

    async def _admit(self, request: ConnectionRequest) -> None:
        self.factory.check(request.path, self._admitted)
        self._identity = await self.factory.identify(request.headers, request.params)
        if self.state != self.STATE_CONNECTING:
            # He left, or was dropped, meanwhile. Autobahn would open the dead connection and never say that it closed.
            raise ConnectionDeny(ConnectionDeny.REQUEST_TIMEOUT, "the client has left")
        self.factory.check(request.path, self._admitted)

    def succeedHandshake(self, res: object) -> None:
        """Autobahn's, from the 101 to `onOpen`; with it come frames that were sent behind the handshake."""
        self._admission = None
        super().succeedHandshake(res)
        for name in _LEFTOVERS:
            self.__dict__.pop(name, None)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Refuse with a JSON body. Does nothing where the client has left."""
        if self.state == self.STATE_CONNECTING:
            self.transport.write(refusal(code, reason, responseHeaders or ()))
            self.dropConnection(abort=False)

    def dataReceived(self, data: bytes) -> None:
        if self._admission is not None and not self._admission.called:
            # The authenticator still thinks: Autobahn would take this for another handshake.
            self.data += data
            if len(self.data) > HEAD_BYTES:
                self.failHandshake("too much data before the end of the handshake")
            return
        super().dataReceived(data)
        if self.state == self.STATE_CONNECTING and self._admission is None and len(self.data) > HEAD_BYTES:
            self.failHandshake("the request is too long", 431)
