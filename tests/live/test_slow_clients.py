"""Clients that do not read, and clients that are gone without a word: what they cost, and that they lose nothing."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from imconnect.wire.client_codec import Pushed
from tests.live.case import LiveTestCase
from tests.live.people import Person
from tests.live.processes import HOST, GatewayProcess
from tests.live.raw import RawClient, handshake

KB = 1024
#: `limits.outgoing_bytes`: as small as it may be.
OUTGOING = 64 * KB
#: What Twisted's transport holds before it says that the reader is slow (`FileDescriptor.bufferSize`).
TRANSPORT = 64 * KB
#: What the kernel takes of one write (see `sign_in_and_stop_reading`); the transport lets go of it with the rest of it.
KERNEL = 64 * KB
#: Characters of a message, and messages to each person: over twice what the bound lets through.
SIZE, COUNT = 30 * KB, 16
PEOPLE, DEVICES = 20, 10
FIRST = 3001
#: What a person has not acknowledged is kept for its retries, once for all of his connections.
RETRIES = COUNT * SIZE // DEVICES
#: Per connection, for what is neither: a session, a row of the hub, what malloc keeps between two blocks.
SLACK = 16 * KB


def memory(pid: int) -> int:
    """Bytes of a process that are resident."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * KB


def sign_in_and_stop_reading(port: int, users: Sequence[int]) -> list[socket.socket]:
    """One connection for each of these; nothing after the handshake's answer is read.

    Between two processes of one machine the kernel would take megabytes off the gateway's hands. With the segments of
    an Ethernet and a small window it takes about 64 KB, as from a phone out of reach.
    """
    connections = []
    for user in users:
        connection = socket.socket()
        connection.settimeout(10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KB)
        connection.connect((HOST, port))
        connection.sendall(handshake(user))
        connections.append(connection)
    for connection in connections:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
    return connections


class SlowClientTests(LiveTestCase):
    settings: ClassVar[Mapping[str, Any]] = {
        "limits.outgoing_bytes": OUTGOING,
        # Until business has stored a message, and so much longer, the node keeps its text.
        "limits.business_lag": 1,
        "rocketmq.producer.max_message_size": 60000,
        "retry.delays": "[600]",
    }

    async def test_memory(self) -> None:
        """200 connections that never read: each is closed with 4003, the process grows by no more than their bound,
        and what they missed is offline and comes when they return, in order, once."""
        gateway = await self.started()
        ann = await self.online(gateway, 1001)
        # What messages cost whoever they are for: here, people who are away.
        await self.talk(gateway, ann, range(2001, 2001 + PEOPLE))
        users = range(FIRST, FIRST + PEOPLE)
        connections = await deferToThread(sign_in_and_stop_reading, gateway.port, [*users] * DEVICES)
        for connection in connections:
            self.addCleanup(connection.close)
        before = memory(gateway.pid)
        grown = await self.talk(gateway, ann, users) - before
        # A write of any size is taken while the transport's buffer is not full: one message more.
        bound = TRANSPORT + OUTGOING + SIZE + KERNEL + RETRIES + SLACK
        self.assertLess(grown, len(connections) * bound, f"{grown / len(connections) / KB:.0f} KB per connection")
        closed = f'imconnect_closed_total{{code="4003"}} {len(connections)}.0\n'
        await self.until(lambda: self.shows(gateway, closed), "all are closed with 4003")
        pushes = await self.until(lambda: self.pushes(gateway), "pushes")
        self.assertGreater(pushes * SIZE, len(connections) * (TRANSPORT + OUTGOING), "closed before they were slow")
        sql = "SELECT msg_status, count(*) FROM im_c2c_message WHERE to_id >= ? GROUP BY msg_status"
        await self.until(lambda: self.rows(gateway, sql, FIRST) == [(2, PEOPLE * COUNT)], "all is offline")
        for user in (users[0], users[-1]):
            back = await self.online(gateway, user)
            await back.wait_for(lambda: len(back.messages) == COUNT, "for everything")  # noqa: B023
            self.assertEqual([text[:4] for text in back.texts], [f"{number:04d}" for number in range(COUNT)])
            self.assertEqual(len(back.pushes), COUNT)

    async def talk(self, gateway: GatewayProcess, ann: Person, users: Sequence[int]) -> int:
        """COUNT messages to each of these, in turns; -> the most memory that was seen meanwhile."""
        most = 0
        for number in range(COUNT):
            text = f"{number:04d}".ljust(SIZE, ".")
            await gatherResults([ann.client.send(user, text) for user in users])
            most = max(most, memory(gateway.pid))
        return most

    async def shows(self, gateway: GatewayProcess, line: str) -> bool:
        return line in (await gateway.get("/metrics")).body

    async def pushes(self, gateway: GatewayProcess) -> float:
        """Live ones, so far."""
        page = (await gateway.get("/metrics")).body
        return float(page.split('\nimconnect_pushes_total{kind="live"} ', 1)[1].split("\n", 1)[0])


class _Side(Protocol):
    """One half of a connection through the `Hole`."""

    transport: Any

    def __init__(self, hole: Hole) -> None:
        self.hole = hole
        self.other: _Side | None = None

    def connectionMade(self) -> None:
        self.hole.sides.append(self)

    def dataReceived(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def connectionLost(self, reason: object = None) -> None:
        if self.other is not None and not self.hole.swallows:
            self.other.transport.loseConnection()


class Hole(Factory):
    """A way to a gateway, until it `swallow`s: then nothing comes through in either direction, not even the end."""

    def __init__(self, reactor: Any, target: int) -> None:
        self.reactor, self.target = reactor, target
        self.swallows = False
        self.sides: list[_Side] = []
        self._port = reactor.listenTCP(0, self, interface=HOST)

    @property
    def port(self) -> int:
        found: int = self._port.getHost().port
        return found

    def buildProtocol(self, addr: object) -> _Side:
        client, server = _Side(self), _Side(self)
        client.other = server

        def joined(_: object) -> None:
            server.other = client
            client.transport.resumeProducing()

        def made() -> None:
            client.transport.pauseProducing()
            connectProtocol(TCP4ClientEndpoint(self.reactor, HOST, self.target, timeout=5), server).addCallback(joined)

        self.reactor.callLater(0, made)
        return client

    def swallow(self) -> None:
        """Neither side is read or told anything any more."""
        self.swallows = True
        for side in self.sides:
            side.transport.pauseProducing()

    async def close(self) -> None:
        self.swallows = True
        for side in self.sides:
            side.transport.abortConnection()
        await self._port.stopListening()


class BlackHoleTests(LiveTestCase):
    #: `idle_timeout` is the budget; the wheel's tick is a quarter of `ping_interval` here.
    settings: ClassVar[Mapping[str, Any]] = {
        "limits.ping_interval": 0.4, "limits.idle_timeout": 1.2, "retry.delays": "[600]",
    }  # fmt: skip

    async def in_the_hole(self, gateway: GatewayProcess, user: int) -> RawClient:
        """Somebody who was shown one message, and has been out of reach since."""
        hole = Hole(self.reactor, gateway.port)
        self.addCleanup(hole.close)
        bob = await RawClient(self.reactor).connect(hole.port)
        await bob.sign_in(user, headers="deviceId: phone\r\n")
        ann = await self.online(gateway, 1001)
        await ann.send(user, "before")
        await bob.wait_for(lambda: bob.of(Pushed), "the first message")
        hole.swallow()
        for number in range(5):
            await ann.send(user, f"line {number}")
        return bob

    async def test_found(self) -> None:
        """Within `idle_timeout`, a tick, and the 5 s of the closing handshake; what was sent to him is offline then,
        and comes when he returns."""
        gateway = await self.shared()
        began = self.reactor.seconds()
        bob = await self.in_the_hole(gateway, 1101)
        sql = "SELECT count(*) FROM im_c2c_message WHERE to_id = 1101 AND msg_status = 2"
        await self.until(lambda: self.rows(gateway, sql) == [(6,)], "all is offline", 20)
        found = self.reactor.seconds() - began
        self.assertGreater(found, 1.2, "closed before it was due")
        self.assertLess(found, 1.2 + 0.1 + 5 + 3, "3 s are for a busy machine")
        self.assertIn('imconnect_closed_total{code="4004"} 1.0\n', (await gateway.get("/metrics")).body)
        self.assertEqual(([push.content for push in bob.of(Pushed)], bob.gone), (["before"], False))
        await self.is_shown_everything(gateway, 1101)

    async def test_back_before_that(self) -> None:
        """A new connection of the same device does not wait for the old one to be found dead."""
        gateway = await self.shared()
        await self.in_the_hole(gateway, 1102)
        await self.is_shown_everything(gateway, 1102)

    async def is_shown_everything(self, gateway: GatewayProcess, user: int) -> None:
        """By another way, in order and once; the first he had seen, but never acknowledged."""
        back = await self.online(gateway, user, device="phone")
        await back.has("line 4")
        expected = ["before", *(f"line {number}" for number in range(5))]
        self.assertEqual(([push.content for _, push in back.pushes], back.texts), (expected, expected))
