"""A user whose every frame is in the record. He asks again what was not answered, with the same clientMsgId."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from imconnect.client_link import ClientFactory, ClientProtocol, Loss
from imconnect.model import Status
from imconnect.wire import client_codec as wire
from tests.live.processes import HOST, until
from tests.live.record import Ack, Came, Record, Send, Went, Withdraw

#: Seconds between two attempts to connect, and before a refused request is tried again.
AGAIN, POSTPONED = 0.1, 0.5


class Chatter:
    """One user with one connection at a time. `come` and `leave` as often as you like; `leave` at the end.

    `ports` are those of the nodes that he may go to: to the next one whenever he finds or loses one.
    """

    def __init__(self, reactor: Any, ports: Sequence[int], user: int, record: Record) -> None:
        self.reactor, self.user, self.record = reactor, user, record
        #: Sends and withdrawals that have no answer yet, in order; each is repeated on every new connection.
        self.unanswered: dict[bytes, Send] = {}
        self.withdrawing: dict[int, int] = {}
        #: Answered sends: clientMsgId -> (the send, its msgId).
        self.answered: dict[bytes, tuple[Send, int]] = {}
        #: What he was shown, and what he has acknowledged so far: msgId -> the push, msgId -> status.
        self.shown: dict[int, wire.Pushed] = {}
        self.acked: dict[int, int] = {}
        #: Number of the present connection; 0 while there is none.
        self.connection = 0
        self._link: ClientProtocol | None = None
        self._wanted = False
        #: An attempt is under way: until its TCP connection is there, and until its handshake is through or has failed.
        self._connecting: Deferred[Any] | None = None
        self._shaking: Any = None
        self._later: IDelayedCall | None = None
        self._timers: list[IDelayedCall] = []
        self._postponed: IDelayedCall | None = None
        self._ports = list(ports)
        self._factory = ClientFactory(
            reactor, f"ws://{HOST}:{ports[0]}/websocket", user, on_open=self._opened, on_frame=self._frame,
            on_close=self._closed, keep_alive=0,
        )  # fmt: skip

    # -- what he does

    def come(self) -> None:
        """Connect, and again whenever the connection ends."""
        self._wanted = True
        self._connect()

    async def leave(self, abort: bool = False) -> None:
        """Returns when he is gone."""
        self._wanted = False
        self.forget()
        if self._later is not None and self._later.active():
            self._later.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._shaking is not None:
            self._shaking.dropConnection(abort=True)
        if self._link is not None and abort:
            self._link.dropConnection(abort=True)
        elif self._link is not None:
            self._link.leave()
        await until(self.reactor, lambda: not self.connection, f"{self.user} is gone")

    def send(self, to: int, content: str, format: int = 1) -> bytes:
        """-> the clientMsgId."""
        key = uuid.uuid4().bytes
        send = self.unanswered[key] = Send(key, to, format, content, time.time_ns() // 1_000_000)
        self._say(send)
        return key

    def repeat(self, key: bytes) -> None:
        """A send that was answered, once more."""
        self._say(self.answered[key][0])

    def ack(self, msg_id: int, status: int = Status.DELIVERED) -> None:
        """Lost where there is no connection: he is shown it again."""
        if self.connection:
            self.acked[msg_id] = max(status, self.acked.get(msg_id, 0))
            self._say(Ack(msg_id, status))

    def withdraw(self, key: bytes) -> None:
        """A send that was answered."""
        send, msg_id = self.answered[key]
        self.withdrawing[msg_id] = send.to
        self._say(Withdraw(msg_id))

    def ack_all(self) -> None:
        """Whatever he was shown and never said that he has it."""
        for msg_id in self.shown:
            if msg_id not in self.acked:
                self.ack(msg_id)

    def ack_unknown(self, msg_id: int, sender: int) -> None:
        """Of a message that nobody has, as if `sender` had sent it. Not in the record."""
        if self._link is not None:
            self._link.send_raw(wire.encode_ack(bytes(16), msg_id, sender, Status.DELIVERED, self.user))

    def after(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Unless he is told to `forget` it, or leaves, before that."""
        self._timers = [timer for timer in self._timers if timer.active()]
        self._timers.append(self.reactor.callLater(seconds, call, *args))

    def forget(self) -> None:
        """What he was going to do later."""
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._timers.clear()

    def on_push(self, push: wire.Pushed) -> None:
        """For subclasses: he was shown something."""

    @property
    def waits(self) -> bool:
        """Whether something that he asked for has no answer."""
        return bool(self.unanswered or self.withdrawing)

    # -- the connection

    def _connect(self) -> None:
        if self._wanted and not self.connection and self._connecting is None and self._shaking is None:
            endpoint = TCP4ClientEndpoint(self.reactor, HOST, self._ports[0], timeout=5)
            self._connecting = endpoint.connect(self._factory)
            self._connecting.addCallbacks(self._connected, self._failed)

    def _connected(self, link: Any) -> None:
        self._connecting = None
        self._shaking = link

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        if not failure.check(CancelledError):
            self._try_again()

    def _try_again(self) -> None:
        """At the next node, where he was not asked to leave by himself."""
        if self._wanted:
            self._ports.append(self._ports.pop(0))
        if self._wanted and (self._later is None or not self._later.active()):
            self._later = self.reactor.callLater(AGAIN, self._connect)

    def _opened(self, link: ClientProtocol) -> None:
        self._shaking = None
        if not self._wanted:
            link.leave()
            return
        self._link = link
        self.connection = self.record.opened(self.reactor.seconds(), self.user)
        self._ask_again()

    def _ask_again(self) -> None:
        for send in list(self.unanswered.values()):
            self._say(send)
        for msg_id in list(self.withdrawing):
            self._say(Withdraw(msg_id))

    def _closed(self, link: ClientProtocol, loss: Loss) -> None:
        if link is self._link:
            self.record.closed(self.reactor.seconds(), self.connection)
            self._link, self.connection = None, 0
        elif link is self._shaking:
            self._shaking = None
        self._try_again()

    def _say(self, what: Send | Ack | Withdraw) -> None:
        if self._link is None:
            return
        self.record.went.append(Went(self.reactor.seconds(), self.user, self.connection, what))
        if isinstance(what, Send):
            frame = wire.encode_send(what.key, what.to, what.content, what.format, what.time)
        elif isinstance(what, Ack):
            push = self.shown[what.msg_id]
            frame = wire.encode_ack(push.client_msg_id, push.msg_id, push.sender, what.status, self.user)
        else:
            frame = wire.encode_withdraw(what.msg_id, self.withdrawing[what.msg_id])
        self._link.send_raw(frame)

    # -- what comes

    def _frame(self, link: ClientProtocol, frame: bytes) -> None:
        if link is not self._link:
            return
        response = wire.decode_response(frame)
        self.record.came.append(Came(self.reactor.seconds(), self.user, self.connection, response))
        if isinstance(response, wire.SendReply):
            self._send_answered(response)
        elif isinstance(response, wire.WithdrawReply):
            if not response.success and response.code == 503:
                self._postpone()
            else:
                self.withdrawing.pop(response.msg_id, None)
        elif isinstance(response, wire.Pushed):
            self.shown[response.msg_id] = response
            self.on_push(response)

    def _send_answered(self, reply: wire.SendReply) -> None:
        if reply.status == Status.FAILED:
            self._postpone()
            return
        send = self.unanswered.pop(reply.client_msg_id, None)
        if send is not None:
            self.answered[send.key] = (send, reply.msg_id)

    def _postpone(self) -> None:
        if self._postponed is None or not self._postponed.active():
            self._postponed = self.reactor.callLater(POSTPONED, self._ask_again)
            self._timers.append(self._postponed)
