"""The gateway in memory keeps the contract of the real one, whose turn comes in tests/live."""

from __future__ import annotations

from typing import Any

from tests.contracts.gateway import GatewayContract
from tests.fake_gateway import FakeGateway


class FakeGatewayTests(GatewayContract):
    """On a real socket, because the contract is written for those."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        gateway = FakeGateway(reactor)
        port: Any = reactor.listenTCP(0, gateway.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"ws://127.0.0.1:{port.getHost().port}/websocket"


del GatewayContract
