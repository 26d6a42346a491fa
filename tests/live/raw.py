"""A WebSocket client that may do what no client should: bad frames, half a handshake, not reading."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from imconnect.wire.client_codec import Response, decode_response
from tests.live.processes import HOST, until

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def handshake(user: int | str = "", path: str = "/websocket", headers: str = "") -> bytes:
    """The request of an upgrade."""
    uid = f"uid: {user}\r\n" if user != "" else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{uid}{headers}\r\n"
    ).encode()


def frame(payload: bytes, opcode: int = BINARY, final: bool = True) -> bytes:
    """One masked frame."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    mask = os.urandom(4)
    stream = int.from_bytes((mask * (size // 4 + 1))[:size], "big") if size else 0
    masked = (int.from_bytes(payload, "big") ^ stream).to_bytes(size, "big")
    return bytes([(0x80 if final else 0) | opcode]) + length + mask + masked


class RawClient(Protocol):
    """One connection. `frames` are the server's, as (opcode, payload)."""

    transport: Any

    def __init__(self, reactor: Any, *, answers_pings: bool = True) -> None:
        self.reactor = reactor
        self.answers_pings = answers_pings
        #: The HTTP answer, head and, if it was a refusal, body.
        self.head, self.body = "", b""
        self.frames: list[tuple[int, bytes]] = []
        #: Code and reason of the server's close frame.
        self.close_code, self.close_reason = 0, ""
        self.gone = False
        self._data = b""

    async def connect(self, port: int, receive_buffer: int = 0) -> RawClient:
        """The TCP connection."""
        await connectProtocol(TCP4ClientEndpoint(self.reactor, HOST, port, timeout=5), self)
        if receive_buffer:
            self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        return self

    async def sign_in(self, user: int | str, path: str = "/websocket", headers: str = "") -> RawClient:
        """The upgrade, accepted or not."""
        self.transport.write(handshake(user, path, headers))
        await self.wait_for(lambda: self.head, "an answer to the handshake")
        return self

    def send(self, payload: bytes, opcode: int = BINARY) -> None:
        self.transport.write(frame(payload, opcode))

    @property
    def code(self) -> int:
        """HTTP status of the answer."""
        return int(self.head.split()[1]) if self.head else 0

    @property
    def responses(self) -> list[Response]:
        """The binary frames, decoded."""
        return [decode_response(payload) for opcode, payload in self.frames if opcode == BINARY]

    def of(self, kind: type) -> list[Any]:
        """The responses of one kind."""
        return [response for response in self.responses if isinstance(response, kind)]

    async def wait_for(self, check: Callable[[], Any], what: str, within: float = 10.0) -> Any:
        return await until(self.reactor, check, lambda: f"{what}; {self}", within)

    async def until_gone(self, within: float = 10.0) -> int:
        """The connection has ended; -> the close code."""
        await self.wait_for(lambda: self.gone, "the connection ends", within)
        return self.close_code

    def drop(self) -> None:
        self.transport.abortConnection()

    def __repr__(self) -> str:
        return f"{self.head.partition(chr(13))[0]!r}, {len(self.frames)} frames, close {self.close_code}, gone {self.gone}"

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if not self.head:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            self.head, self._data = head.decode(), rest
        if self.code != 101:
            self.body = self._data
            return
        self._parse()

    def _parse(self) -> None:
        data, start = self._data, 0
        while len(data) - start >= 2:
            size, body = data[start + 1] & 0x7F, start + 2
            if size > 125:
                width = 2 if size == 126 else 8
                size, body = int.from_bytes(data[body : body + width], "big"), body + width
            if len(data) < body + size:
                break
            self._came(data[start] & 0x0F, data[body : body + size])
            start = body + size
        self._data = data[start:]

    def _came(self, opcode: int, payload: bytes) -> None:
        self.frames.append((opcode, payload))
        if opcode == PING and self.answers_pings:
            self.send(payload, PONG)
        elif opcode == CLOSE:
            self.close_code, self.close_reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
            self.send(payload[:2], CLOSE)

    def connectionLost(self, reason: object = None) -> None:
        self.gone = True


def after(reactor: Any, seconds: float) -> Deferred[None]:
    """For what must not happen within this time."""
    waiter: Deferred[None] = Deferred()
    reactor.callLater(seconds, waiter.callback, None)
    return waiter
