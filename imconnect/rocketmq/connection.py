"""One TCP connection: frames in and out, replies matched to requests, a deadline for each request."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

from imconnect.rocketmq.codes import Response
from imconnect.rocketmq.errors import ConnectionGone, FrameError, RequestTimeout
from imconnect.rocketmq.frames import MAX_FRAME, REPLY, Frame, decode, encode

_log = Logger()
_LAST_OPAQUE = (1 << 31) - 1


class Credentials(NamedTuple):
    """An account of RocketMQ's access control."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Credentials(access_key={self.access_key!r})"

    def sign(self, fields: Mapping[str, str], body: bytes) -> dict[str, str]:
        """The fields with AccessKey and Signature: HMAC-SHA1 over all values in the order of their keys, and the body."""
        signed = {**fields, "AccessKey": self.access_key}
        signed.pop("Signature", None)
        content = "".join(signed[key] for key in sorted(signed)).encode() + body
        digest = hmac.new(self.secret_key.encode(), content, hashlib.sha1).digest()
        signed["Signature"] = base64.b64encode(digest).decode()
        return signed


@attrs.define
class Counters:
    """What a client counts over all its connections; read them whenever you like."""

    requests: int = 0
    timeouts: int = 0
    late_replies: int = 0  # came after their deadline, or nobody asked
    broker_requests: int = 0
    nonsense: int = 0  # connections ended because the peer does not speak the protocol
    connects: int = 0
    connect_failures: int = 0


class _Pending(NamedTuple):
    reply: Deferred[Frame]
    deadline: IDelayedCall


class Connection(Int32StringReceiver):
    """A request gets its reply, `RequestTimeout`, or `ConnectionGone`. Timeouts leave the connection open.

    `on_request(frame)` is called for requests that the peer makes; it returns True when it knows the request.
    """

    MAX_LENGTH = MAX_FRAME

    def __init__(
        self,
        clock: IReactorTime,
        counters: Counters,
        on_request: Callable[[Frame], bool],
        credentials: Credentials | None = None,
    ) -> None:
        self._clock, self._counters = clock, counters
        self._on_request, self._credentials = on_request, credentials
        self._pending: dict[int, _Pending] = {}
        self._opaque = 0
        self._ending = False
        self.lost: Deferred[None] = Deferred()  # fires when the connection has ended, whatever the reason
        self.heard = clock.seconds()  # when bytes came last

    @property
    def usable(self) -> bool:
        """Requests may be written."""
        return bool(self.connected) and not self._ending

    @property
    def in_flight(self) -> int:
        """Requests that wait for their reply."""
        return len(self._pending)

    def request(self, code: int, fields: Mapping[str, str], body: bytes, timeout: float) -> Deferred[Frame]:
        """Any reply fires the Deferred, whatever its code. Cancelling it forgets the request."""
        if not self.usable:
            return fail(ConnectionGone("the connection is closed"))
        opaque = self._next_opaque()
        reply: Deferred[Frame] = Deferred(lambda _: self._forget(opaque))
        self._pending[opaque] = _Pending(reply, self._clock.callLater(timeout, self._expire, opaque))
        self._counters.requests += 1
        if self._credentials is not None:
            fields = self._credentials.sign(fields, body)
        self._write(Frame(code, opaque, fields=fields, body=body))
        return reply

    def retire(self) -> None:
        """Take no more requests; end when those under way have their answers."""
        self._ending = True
        self._end_if_idle()

    def abort(self) -> None:
        """End at once; what is under way fails with ConnectionGone."""
        self._ending = True
        if self.transport is not None and not self.lost.called:
            cast(ITCPTransport, self.transport).abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.heard = self._clock.seconds()
        super().dataReceived(data)

    def stringReceived(self, string: bytes) -> None:
        try:
            frame = decode(string)
        except FrameError as error:
            self._drop_nonsense(str(error))
            return
        if not frame.is_reply:
            self._answer(frame)
            return
        pending = self._pending.pop(frame.opaque, None)
        if pending is None:
            self._counters.late_replies += 1
            return
        pending.deadline.cancel()
        pending.reply.callback(frame)
        self._end_if_idle()

    def lengthLimitExceeded(self, length: int) -> None:
        self._drop_nonsense(f"a frame of {length} bytes")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ending = True
        for opaque in list(self._pending):
            pending = self._pending.pop(opaque, None)
            if pending is not None:  # a callback may have cancelled others
                pending.deadline.cancel()
                pending.reply.errback(ConnectionGone(reason.getErrorMessage()))
        self.lost.callback(None)

    def _answer(self, frame: Frame) -> None:
        """The peer's own requests: those that we do not serve are told so, or an admin tool would wait for us."""
        self._counters.broker_requests += 1
        known = self._on_request(frame)
        if not frame.is_oneway and self.usable:
            code = Response.SUCCESS if known else Response.NOT_SUPPORTED
            self._write(Frame(code, frame.opaque, REPLY, codec=frame.codec))

    def _write(self, frame: Frame) -> None:
        self.sendString(encode(frame))

    def _next_opaque(self) -> int:
        self._opaque = self._opaque % _LAST_OPAQUE + 1
        return self._opaque

    def _expire(self, opaque: int) -> None:
        self._counters.timeouts += 1
        self._pending.pop(opaque).reply.errback(RequestTimeout("no reply in time"))
        self._end_if_idle()

    def _forget(self, opaque: int) -> None:
        pending = self._pending.pop(opaque, None)
        if pending is not None:
            pending.deadline.cancel()
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._ending and not self._pending and not self.lost.called and self.transport is not None:
            self.transport.loseConnection()

    def _drop_nonsense(self, what: str) -> None:
        self._counters.nonsense += 1
        _log.warn("a RocketMQ peer sent {what}: connection dropped", what=what)
        self.abort()
