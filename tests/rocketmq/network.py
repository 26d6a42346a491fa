"""A network in memory on a fake clock: addresses that listen, hang or refuse; bytes travel when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.test import iosim
from zope.interface import implementer

_T = TypeVar("_T")
STEP = 0.05  # seconds of fake time per round


class MemoryNetwork:
    """`listen(address, make_protocol)`; clients get `endpoint` as their way to connect."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.attempts: list[tuple[float, str]] = []  # (when, whereto) of every connection tried
        self._listening: dict[str, Callable[[], Protocol]] = {}
        self._hanging: set[str] = set()
        self._pumps: list[iosim.IOPump] = []

    def listen(self, address: str, make_protocol: Callable[[], Protocol]) -> None:
        self._hanging.discard(address)
        self._listening[address] = make_protocol

    def refuse(self, address: str) -> None:
        """Nothing listens there."""
        self._hanging.discard(address)
        self._listening.pop(address, None)

    def hang(self, address: str) -> None:
        """Connecting there takes for ever."""
        self._hanging.add(address)

    def endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        return _MemoryEndpoint(self, f"{host}:{port}")

    def connect(self, address: str, factory: Factory) -> Deferred[Any]:
        self.attempts.append((self.clock.seconds(), address))
        if address in self._hanging:
            return Deferred()
        make = self._listening.get(address)
        if make is None:
            return fail(ConnectionRefusedError())
        client, server = factory.buildProtocol(None), make()
        ends = iosim.FakeTransport(server, True), iosim.FakeTransport(client, False)
        pump = iosim.connect(server, ends[0], client, ends[1])
        self._pumps.append(pump)
        done: Deferred[Any] = Deferred()
        done.callback(client)
        return done

    def settle(self) -> None:
        """Let everything that can happen without time passing happen."""
        moved = True
        while moved:
            moved = sum(bool(pump.pump()) for pump in list(self._pumps)) > 0

    def advance(self, seconds: float) -> None:
        """Time passes, in small steps, and bytes travel."""
        until = self.clock.seconds() + seconds
        self.settle()
        while self.clock.seconds() < until:
            self.clock.advance(min(STEP, until - self.clock.seconds()) or STEP)
            self.settle()

    def play(self, scenario: Coroutine[Any, Any, _T], limit: float = 600.0) -> _T:
        """Run it to its end in fake time; raises what it raises."""
        results: list[Any] = []
        Deferred.fromCoroutine(scenario).addBoth(results.append)
        until = self.clock.seconds() + limit
        self.settle()
        while not results:
            if self.clock.seconds() > until:
                raise AssertionError(f"not done after {limit} s")
            self.advance(STEP)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]  # type: ignore[no-any-return]


@implementer(IStreamClientEndpoint)
class _MemoryEndpoint:
    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network, self._address = network, address

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return self._network.connect(self._address, protocolFactory)
