"""The edge on real sockets: what a transport of the reactor does is not the fakes' word alone."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from imconnect.backends.auth_open import OpenAuthenticator
from imconnect.edge.websocket import EdgeSettings, Factory
from imconnect.observe.metrics import Metrics
from tests.edge.support import RecordingCore, frame, handshake
from tests.support import ReactorTestCase


class Peer(Protocol):
    """Says what it is told to, and keeps what it reads."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[None] = Deferred()
        self.upgraded: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if not self.upgraded.called and b"\r\n\r\n" in self.data:
            self.upgraded.callback(None)

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


class SocketTests(ReactorTestCase):
    async def connect(self, **settings: object) -> tuple[RecordingCore, Peer]:
        """A peer that is signed in."""
        from twisted.internet import reactor

        core, self.metrics = RecordingCore(), Metrics()
        factory = Factory(reactor, EdgeSettings(**settings), core, OpenAuthenticator(), self.metrics)
        factory.accepting = True
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        peer = await connectProtocol(endpoint, Peer())
        peer.transport.write(handshake())
        await peer.upgraded
        return core, peer

    async def test_talk_and_leave(self) -> None:
        """Bytes go both ways; the session hears of the end."""
        core, peer = await self.connect()
        core.on_receive = lambda receiver: receiver.link.write([b"answer"])
        peer.transport.write(frame(b"question") + frame((1000).to_bytes(2, "big"), 8))
        await peer.lost
        self.assertEqual(core.receivers[0].reads, [[b"question"]])
        self.assertEqual(core.receivers[0].ended, 1)
        self.assertEqual(self.metrics.closed, {1000: 1})
        # It closed in the same read, so the answer came too late: the close frame is all there is.
        self.assertEqual(peer.data.partition(b"\r\n\r\n")[2], b"\x88\x02\x03\xe8")

    async def test_a_peer_that_never_reads(self) -> None:
        """The bound of memory holds, and the connection is dropped although nothing can be written."""
        core, peer = await self.connect(outgoing_bytes=100_000, close_timeout=0.2)
        peer.transport.pauseProducing()
        (receiver,) = core.receivers
        gone: Deferred[None] = Deferred()
        ended = receiver.closed
        receiver.closed = lambda: (ended(), gone.callback(None))
        taken = 0
        while receiver.link.write([b"x" * 10_000]):
            taken += 1
            self.assertLess(taken, 10_000)
        self.assertTrue(receiver.link.congested())
        transport = receiver.link.transport
        self.assertLess(len(transport.dataBuffer) + transport._tempDataLen, 100_000 + 65_536 + 20_000)
        receiver.link.close(4003, "slow reader")
        await gone
        self.assertEqual(self.metrics.closed, {4003: 1})
        peer.transport.abortConnection()
        await peer.lost
