"""Ports that are bound early, and one that several processes share."""

from __future__ import annotations

import socket

from twisted.internet.protocol import Factory, Protocol

from imconnect.errors import ConfigError
from imconnect.tap.listening import Listening, bind
from tests.support import ReactorTestCase

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class SharedTests(ReactorTestCase):
    def listening(self, port: int) -> Listening:
        from twisted.internet import reactor

        part = Listening(reactor, bind(HOST, port, "server.port", shared=True), Factory.forProtocol(Protocol))
        self.addCleanup(part.stop)
        return part

    def connects(self, port: int) -> bool:
        with socket.socket() as client:
            return client.connect_ex((HOST, port)) == 0

    def test_nobody_comes_before_the_start(self) -> None:
        """A process that still recovers its log gets no share of the clients."""
        port = free_port()
        first, second = self.listening(port), self.listening(port)
        self.assertFalse(self.connects(port))
        second.start()
        # The kernel would give about every other one to the first.
        self.assertTrue(all(self.connects(port) for _ in range(40)))
        first.start()
        self.assertTrue(self.connects(port))

    def test_a_port_of_somebody_who_does_not_share(self) -> None:
        """Is taken, in the same words as ever."""
        owner = bind(HOST, 0, "server.port")
        self.addCleanup(owner.close)
        port = owner.getsockname()[1]
        error = self.assertRaises(ConfigError, bind, HOST, port, "server.port", shared=True)
        self.assertEqual(str(error), f"server.port: {HOST}:{port} is in use")

    def test_without_sharing(self) -> None:
        """The second is refused, before and after the first listens."""
        first = bind(HOST, 0, "http.port")
        self.addCleanup(first.close)
        port = first.getsockname()[1]
        self.assertRaises(ConfigError, bind, HOST, port, "http.port")
