"""A gateway in memory, as much of one as a client can tell: real WebSocket frames over iosim pairs, no store behind it.

`tests.contracts.gateway` says what it has in common with the real one.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as NobodyThere
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.test import iosim
from zope.interface import implementer

from imconnect.model import Message, MessageState, Receipt, Withdrawal
from imconnect.wire import codec
from imconnect.wire.requests import Ack, Command, MsgIds, Request, Send, StateQuery, Unknown, Withdraw


class GatewayProtocol(WebSocketServerProtocol):
    """The gateway's end of one connection."""

    gateway: FakeGateway

    def __init__(self) -> None:
        super().__init__()
        self.user = 0
        self.signs: dict[str, str] = {}

    def onConnect(self, request: ConnectionRequest) -> None:
        """Sign in whoever says who he is."""
        self.signs = dict(request.headers)
        self.user = int(self.signs["uid"])

    def onOpen(self) -> None:
        """What he has not acknowledged comes first."""
        self.gateway.sessions.append(self)
        for message in list(self.gateway.owed.values()):
            if message.receiver == self.user:
                self.put(codec.encode_push(message, 0))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Answer as the gateway would."""
        assert isBinary
        self.gateway.asked(self, codec.decode(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """He is gone."""
        self.gateway.closes.append((wasClean, code))
        if self in self.gateway.sessions:
            self.gateway.sessions.remove(self)

    def put(self, frame: bytes) -> None:
        """Write one frame to the client."""
        self.sendMessage(frame, isBinary=True)


class _Factory(WebSocketServerFactory):
    protocol = GatewayProtocol

    def __init__(self, gateway: FakeGateway, clock: Any) -> None:
        super().__init__("ws://127.0.0.1:10001", reactor=clock)
        self._gateway = gateway

    def buildProtocol(self, addr: Any) -> Any:
        protocol: Any = super().buildProtocol(addr)
        protocol.gateway = self._gateway
        return protocol


class _HttpAnswer(Protocol):
    """Refuses the upgrade; each part is a write of its own."""

    def __init__(self, parts: tuple[bytes, ...]) -> None:
        self._parts = list(parts)

    def dataReceived(self, data: bytes) -> None:
        """Whatever was asked."""
        assert self.transport is not None
        self.more()

    def more(self) -> None:
        """The next part."""
        if self._parts:
            self.transport.write(self._parts.pop(0))  # type: ignore[union-attr]


@implementer(IStreamClientEndpoint)
class FakeGateway:
    """An endpoint with a gateway behind it. `flush` moves what is on the wires, both ways."""

    def __init__(self, clock: Clock | Any) -> None:
        self.clock = clock
        #: How many connections were tried.
        self.attempts = 0
        self.away = False
        #: Raw HTTP, in parts, instead of an upgrade.
        self.http: tuple[bytes, ...] = ()
        #: False: sends are taken in, and nobody is told.
        self.answers = True
        #: (code, msg) for every send.
        self.refusal: tuple[int, str] | None = None
        #: Code for every question about states; None: they are answered; 0: not a word, as of a gateway that is older.
        self.states_refused: int | None = None
        self.requests: list[Request] = []
        self.sessions: list[GatewayProtocol] = []
        self.closes: list[tuple[bool, int | None]] = []
        self.accepted: dict[tuple[int, bytes], Message] = {}
        self.owed: dict[int, Message] = {}
        #: msgId -> 3 delivered, 4 read, 5 withdrawn.
        self.ended: dict[int, int] = {}
        self.last_http: _HttpAnswer | None = None
        self._ids = count(9_000_001)
        self._pumps: list[iosim.IOPump] = []
        #: For real sockets, where a test wants those.
        self.factory = _Factory(self, clock)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """IStreamClientEndpoint."""
        self.attempts += 1
        if self.away:
            return fail(NobodyThere())
        client = protocolFactory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 10001))
        assert client is not None
        server: Any
        if self.http:
            server = self.last_http = _HttpAnswer(self.http)
        else:
            server = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 20002))
        ends = server, iosim.FakeTransport(server, True), client, iosim.FakeTransport(client, False)
        self._pumps.append(iosim.connect(*ends, greet=False))
        return succeed(client)

    def flush(self) -> None:
        """Let everything on the wires arrive."""
        while sum(pump.pump() for pump in list(self._pumps)):
            pass

    def sends(self) -> list[Send]:
        """What clients asked to be sent, repeats included."""
        return [request for request in self.requests if isinstance(request, Send)]

    def queries(self) -> list[StateQuery]:
        """What clients asked about their own messages."""
        return [request for request in self.requests if isinstance(request, StateQuery)]

    def acks(self) -> list[tuple[int, int]]:
        """(msgId, status) of every acknowledgement."""
        return [(request.msg_id, request.status) for request in self.requests if isinstance(request, Ack)]

    def say(self, sender: int, receiver: int, content: str, *, msg_id: int = 0) -> Message:
        """Somebody sends something; it is pushed to the receiver if he is here, and owed to him."""
        client_msg_id = len(self.owed).to_bytes(16, "big")
        now = int(self.clock.seconds() * 1000)
        message = Message(msg_id or next(self._ids), client_msg_id, sender, receiver, 1, content, now, now)
        self._deliver(message)
        return message

    def tell(self, user: int, frame: bytes) -> None:
        """Write a frame to each of his connections."""
        for session in self.sessions:
            if session.user == user:
                session.put(frame)

    def asked(self, session: GatewayProtocol, request: Request) -> None:
        """One request came."""
        self.requests.append(request)
        if isinstance(request, Send):
            self._sent(session, request)
        elif isinstance(request, Ack):
            self._acknowledged(session, request)
        elif isinstance(request, Withdraw):
            self._withdrawn(session, request)
        elif isinstance(request, MsgIds):
            session.put(codec.encode_msg_ids([next(self._ids) for _ in range(100)], 0))
        elif isinstance(request, StateQuery):
            self._asked_for_states(session, request)
        elif isinstance(request, Unknown):
            session.put(codec.encode_reply(request.command, 404, "unknown type"))

    def _sent(self, session: GatewayProtocol, send: Send) -> None:
        if self.refusal is not None:
            code, msg = self.refusal
            session.put(codec.encode_send_refusal(send.client_msg_id, session.user, send.receiver, code, msg))
            return
        message = self.accepted.get((session.user, send.client_msg_id))
        is_new = message is None
        if message is None:
            message = Message(
                next(self._ids), send.client_msg_id, session.user, send.receiver, send.format, send.content,
                send.time, int(self.clock.seconds() * 1000),
            )  # fmt: skip
            self.accepted[session.user, send.client_msg_id] = message
        if self.answers:
            session.put(codec.encode_send_ack(send.client_msg_id, message.msg_id, send.receiver, session.user, 0))
        if is_new:
            self._deliver(message)

    def _asked_for_states(self, session: GatewayProtocol, query: StateQuery) -> None:
        if self.states_refused is None:
            states = [self._state(session.user, each) for each in query.client_msg_ids]
            session.put(codec.encode_states(states, 0))
        elif self.states_refused:
            session.put(codec.encode_reply(Command.MSG_STATE, self.states_refused, "no"))

    def _state(self, user: int, client_msg_id: bytes) -> MessageState:
        message = self.accepted.get((user, client_msg_id))
        if message is None:
            return MessageState(client_msg_id, 0, 0)
        return MessageState(client_msg_id, message.msg_id, self.ended.get(message.msg_id, 1))

    def _deliver(self, message: Message) -> None:
        self.owed[message.msg_id] = message
        self.tell(message.receiver, codec.encode_push(message, 0))

    def _acknowledged(self, session: GatewayProtocol, ack: Ack) -> None:
        message = self.owed.pop(ack.msg_id, None) or self._known(ack.msg_id)
        if message is not None and message.receiver == session.user:
            self.ended[ack.msg_id] = max(ack.status, self.ended.get(ack.msg_id, 0))
            receipt = Receipt(ack.msg_id, message.client_msg_id, message.sender, message.receiver, ack.status)
            self.tell(message.sender, codec.encode_receipt(receipt, 0))

    def _withdrawn(self, session: GatewayProtocol, withdraw: Withdraw) -> None:
        message = self._known(withdraw.msg_id)
        if message is None or message.sender != session.user:
            session.put(codec.encode_withdraw_reply(withdraw.msg_id, b"", False, 403, "not yours", 0))
            return
        session.put(codec.encode_withdraw_reply(withdraw.msg_id, b"", True, 0, "", 0))
        self.owed.pop(message.msg_id, None)
        self.ended[message.msg_id] = 5
        notice = codec.encode_withdrawal(Withdrawal(message.msg_id, message.sender, message.receiver), 0)
        for user in (message.receiver, message.sender):
            self.tell(user, notice)

    def _known(self, msg_id: int) -> Message | None:
        return next((message for message in self.accepted.values() if message.msg_id == msg_id), None)
