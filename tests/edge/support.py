"""A recording core and both ends of a WebSocket in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.test import iosim

from imconnect.backends.auth_open import OpenAuthenticator
from imconnect.core.ports import Authenticator, Link
from imconnect.edge.connection import Connection
from imconnect.edge.websocket import EdgeSettings, Factory
from imconnect.model import Identity
from imconnect.observe.metrics import Metrics
from tests.support import TestCase

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class RecordingReceiver:
    """A session that only remembers, and checks that it is used as the contract says."""

    def __init__(self, identity: Identity, link: Link, on_receive: Callable[[RecordingReceiver], None]) -> None:
        self.identity = identity
        self.link = link
        self.reads: list[list[bytes]] = []
        self.ended = 0
        self._on_receive = on_receive

    def receive(self, payloads: list[bytes]) -> None:
        if self.ended:
            raise AssertionError("receive after closed")
        if not payloads:
            raise AssertionError("receive without payloads")
        self.reads.append(payloads)
        self._on_receive(self)

    def closed(self) -> None:
        self.ended += 1
        if self.ended > 1:
            raise AssertionError("closed twice")


class RecordingCore:
    """Signs everybody in. `on_sign_in` and `on_receive` may be replaced, for instance to raise or to write."""

    def __init__(self) -> None:
        self.receivers: list[RecordingReceiver] = []
        self.on_sign_in: Callable[[Link], None] = lambda link: None
        self.on_receive: Callable[[RecordingReceiver], None] = lambda receiver: None

    def sign_in(self, identity: Identity, link: Link) -> RecordingReceiver:
        self.on_sign_in(link)
        receiver = RecordingReceiver(identity, link, lambda one: self.on_receive(one))
        self.receivers.append(receiver)
        return receiver


class SlowAuthenticator:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Identity]] = []

    def authenticate(self, headers: object, query: object) -> Deferred[Identity]:
        self.asked.append(Deferred())
        return self.asked[-1]


class Wire(iosim.FakeTransport):
    """A transport whose peer is the test. Its buffer is full above `room` bytes, as a TCP transport's is."""

    def __init__(self, protocol: Connection, ip: str = "192.0.2.1", room: int = 65536) -> None:
        super().__init__(protocol, True, peerAddress=IPv4Address("TCP", ip, 50000))
        self.writes: list[bytes] = []
        self.room = room
        self.aborted = False
        self.reading = True
        self.pauses = 0

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)
        if self.producer is not None and sum(map(len, self.stream)) > self.room:
            self.pauses += 1
            self.producer.pauseProducing()

    def drain(self) -> bytes:
        """Read everything, as a peer that has caught up."""
        data = self.getOutBuffer() or b""
        self.writes.clear()
        if self.pauses and self.producer is not None:
            self.pauses = 0
            self.producer.resumeProducing()
        return data

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def hang_up(self) -> None:
        """The connection is gone, whoever ended it."""
        self.disconnecting = self.disconnected = True
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Client(WebSocketClientProtocol):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self.pings = 0
        self.pongs: list[bytes] = []
        self.ended: tuple[bool, int | None, str | None] | None = None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.append(payload)

    def onPing(self, payload: bytes) -> None:
        self.pings += 1
        super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.ended = (wasClean, code, reason)


def frame(payload: bytes, opcode: int = 2, fin: bool = True, mask: bytes | None = b"\x0f\xf0\x55\xaa") -> bytes:
    """A client's frame; without a mask it is a violation."""
    size = len(payload)
    bit = 0x80 if mask else 0
    head = bytes((opcode | (0x80 if fin else 0),))
    if size < 126:
        head += bytes((bit | size,))
    elif size < 65536:
        head += bytes((bit | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((bit | 127,)) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def handshake(target: str = "/websocket", headers: Sequence[str] = ("uid: 1001",), key: str = KEY) -> bytes:
    """The request of a handshake."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Refused:
    """An HTTP answer, taken apart."""

    def __init__(self, answer: bytes) -> None:
        head, _, self.raw_body = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")
        self.code = int(status.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.body = json.loads(self.raw_body)


class EdgeTestCase(TestCase):
    """A factory on a clock, and ways to connect to it."""

    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        # The client's timers ask a global for the reactor; the server's do not (see TimerTests).
        self.patch(txaio.config, "loop", self.clock)
        self.core = RecordingCore()
        self.metrics = Metrics()
        self.factory = self.make_factory()

    def make_factory(self, authenticator: Authenticator | None = None, **settings: object) -> Factory:
        """Accepting, with the open authenticator and default settings where nothing else is said."""
        factory = Factory(
            self.clock, EdgeSettings(**settings), self.core, authenticator or OpenAuthenticator(), self.metrics
        )
        factory.accepting = True
        self.factory = factory
        return factory

    def pair(self, url: str = "ws://localhost/websocket?userId=1001", **client: object):
        """A connected Autobahn client; -> (server, client, pump), handshake done."""
        server = self.factory.buildProtocol(None)
        factory = WebSocketClientFactory(url, reactor=self.clock, **client)
        factory.protocol = Client
        other = factory.buildProtocol(None)
        pump = iosim.connect(
            server,
            iosim.FakeTransport(server, True),
            other,
            iosim.FakeTransport(other, False),
            clock=self.clock,
        )
        return server, other, pump

    def connect(self, ip: str = "192.0.2.1", room: int = 65536) -> tuple[Connection, Wire]:
        """A bare connection: the test speaks the bytes."""
        server = self.factory.buildProtocol(None)
        wire = Wire(server, ip, room)
        server.makeConnection(wire)
        return server, wire

    def open(self, room: int = 65536, **ip: str) -> tuple[Connection, Wire, RecordingReceiver]:
        """A bare connection that is signed in."""
        server, wire = self.connect(room=room, **ip)
        server.dataReceived(handshake())
        self.assertIn(b"101 Switching Protocols", wire.drain())
        return server, wire, self.core.receivers[-1]

    def refused(self, wire: Wire) -> Refused:
        """How the handshake was refused; the connection ends with it."""
        self.assertTrue(wire.disconnecting)
        return Refused(wire.drain())

    def closed_with(self, wire: Wire) -> tuple[int, str]:
        """Code and reason of the close frame at the end of what the server wrote."""
        data = wire.drain()
        at = data.rindex(b"\x88")
        size = data[at + 1]
        self.assertEqual(len(data), at + 2 + size)
        return int.from_bytes(data[at + 2 : at + 4], "big"), data[at + 4 :].decode()

    def advance(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass in small steps, as it does."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
