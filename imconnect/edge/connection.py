"""One WebSocket connection: Autobahn's protocol, made into a `core.ports.Link`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from autobahn.util import encode_truncate
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from imconnect.edge.frames import PING, binary_frames, pong
from imconnect.edge.handshake import Handshake

if TYPE_CHECKING:
    from imconnect.edge.wheel import Visited

_log = Logger()

#: Fragments of one message: empty ones would pass every limit in bytes.
FRAGMENTS = 1024
#: What a peer may still have on its way when we close. Beyond it the connection is dropped.
BYTES_AFTER_CLOSE = 1048576


class Receiver(Protocol):
    """The session behind a connection, as the edge sees it."""

    def receive(self, payloads: list[bytes]) -> None:
        """All binary messages of one read. Does not raise."""

    def closed(self) -> None:
        """The connection is gone. Said exactly once."""


@implementer(IPushProducer)
class Connection(Handshake):
    """Implements `core.ports.Link`, and is the gauge of its own transport.

    Most attributes live on the class until they differ: there may be 50,000 of these.
    """

    slot: set[Visited] | None = None
    receiver: Receiver | None = None
    #: When something was heard last, in ticks of the wheel.
    heard = 0
    #: The transport's buffer is full, and so many bytes were written since it is.
    full = False
    backlog = 0
    paused = False
    opened = False
    _late = 0

    def __init__(self) -> None:
        super().__init__()
        self._payloads: list[bytes] = []

    # -- the beginning

    def connectionMade(self) -> None:
        self.heard = self.factory.wheel.now
        # Not later than a ping is due: the wheel may be larger, and who was never pinged is not idle.
        self.factory.wheel.add(self, self.factory.ticks.ping)
        super().connectionMade()

    def succeedHandshake(self, res: object) -> None:
        try:
            super().succeedHandshake(res)
        except Exception:
            self._fault("reading the first frames failed")
        self._hand_over()

    def onOpen(self) -> None:
        self.opened = True
        self.transport.registerProducer(self, True)
        identity, self._identity = self._identity, None
        assert identity is not None
        try:
            self.receiver = self.factory.core.sign_in(identity, self)
        except Exception:
            self._fault("sign_in failed")

    # -- what comes in

    def dataReceived(self, data: bytes) -> None:
        if self.state == self.STATE_CLOSED:
            # Autobahn would keep it all. A TLS transport still delivers while it says goodbye.
            return
        self.heard = self.factory.wheel.now
        if self.state == self.STATE_CLOSING:
            self._late += len(data)
            if self._late > BYTES_AFTER_CLOSE:
                self.dropConnection(abort=True)
                return
        try:
            super().dataReceived(data)
        except Exception:
            self._fault("reading failed")
        self._hand_over()

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        if len(self.message_data) >= FRAGMENTS:
            self.close(1009, "too many fragments")

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.state != self.STATE_OPEN:
            return
        if isBinary:
            self._payloads.append(payload)
        else:
            self.close(1003, "binary frames only")

    def onPing(self, payload: bytes) -> None:
        # Not Autobahn's answer: a peer that pings and never reads would fill the memory with it.
        if self.state == self.STATE_OPEN and not self._transmit(pong(payload)):
            self.close(4003, "slow reader")

    def _hand_over(self) -> None:
        if self._payloads and self.receiver is not None:
            payloads, self._payloads = self._payloads, []
            try:
                self.receiver.receive(payloads)
            except Exception:
                self._fault("receive failed")

    def _fault(self, what: str) -> None:
        """A bug of ours, in the current `except`: said once, and only this connection ends."""
        _log.failure(what)
        self._payloads = []
        if self.state == self.STATE_CONNECTING:
            self.dropConnection(abort=True)
        else:
            self.close(1011, "internal error")

    # -- core.ports.Link

    def write(self, payloads: Sequence[bytes]) -> bool:
        """Send these messages with one write. False: over `outgoing_bytes` or not open, nothing was written.

        While the transport's own buffer is not full, a write of any size is taken.
        """
        return self.state == self.STATE_OPEN and self._transmit(binary_frames(payloads))

    def congested(self) -> bool:
        """Whether what was written before is still waiting for the peer."""
        return self.full

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the connection is dropped after `close_timeout`."""
        if self.state != self.STATE_OPEN:
            return
        # Autobahn then keeps nothing more of what still comes, and the peer's answer must be read.
        self.failedByMe = True
        self.resume()
        # `sendClose` refuses 1003, 1007 and 1011.
        self.sendCloseFrame(code=code, reasonUtf8=encode_truncate(reason, 123), isReply=False)

    def pause(self) -> None:
        """Stop reading."""
        self.paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self.paused:
            self.paused = False
            self.heard = self.factory.wheel.now
            self.transport.resumeProducing()

    def _transmit(self, data: bytes) -> bool:
        if self.full and self.backlog + len(data) > self.factory.settings.outgoing_bytes:
            return False
        self.transport.write(data)
        # `pauseProducing` came from within this write if it was the one that filled the buffer.
        if self.full:
            self.backlog += len(data)
        return True

    # -- IPushProducer: the transport says how the reader is doing, once per write while he is slow

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False
        self.backlog = 0

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""

    # -- time, and the end

    def visit(self, now: int) -> int:
        """Called by the wheel: ping, close who is silent, drop who does not let go."""
        ticks = self.factory.ticks
        silence = now - self.heard
        if self.state == self.STATE_OPEN:
            if self.paused:
                self.heard, silence = now, 0
            if silence >= ticks.idle:
                self.close(4004, "idle")
            else:
                self._transmit(PING)
                return min(ticks.ping, ticks.idle - silence)
        elif self.state == self.STATE_CLOSED and silence >= ticks.close:
            # A reader that is behind, or a TLS peer that does not say goodbye, would hold the transport for ever.
            self.transport.abortConnection()
        return ticks.ping

    def dropConnection(self, abort: bool = False) -> None:
        super().dropConnection(abort)
        if self.slot is not None:
            self.heard = self.factory.wheel.now
            self.factory.wheel.wait(self, self.factory.ticks.close)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.wheel.remove(self)
        if self.closeHandshakeTimeoutCall is not None:
            self.closeHandshakeTimeoutCall.cancel()
            self.closeHandshakeTimeoutCall = None
        super().connectionLost(reason)
        if self.opened:
            self.factory.metrics.closed[self._close_code()] += 1
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            try:
                receiver.closed()
            except Exception:
                _log.failure("closed failed")

    def _close_code(self) -> int:
        """Ours if we closed, else the peer's: 1005 where his close frame had none, 1006 where none came."""
        if self.closedByMe:
            return self.localCloseCode or 1005
        if self.wasClean:
            return self.remoteCloseCode or 1005
        return 1006
