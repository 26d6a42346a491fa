"""What business has to tell people, told to every gateway over gRPC (`wire/gateway.proto`). Best effort.

A gateway that is away costs nothing but a count: what its people are owed lies in the database, and its watch finds it.
Only that a message is stored (profile xzll) is told again: nothing else would ever tell its sender.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import grpc
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from imconnect.backends.grpc_channel import Credentials, make_channel, why
from imconnect.model import Applied, Receipt, Status
from imconnect.wire.gateway_codec import (
    HELLO,
    SERVICE,
    TELL,
    OtherVersion,
    Party,
    Unreadable,
    decode_reply,
    encode_applied,
    encode_hello,
)

_log = Logger()

DEADLINE = 1.0  # seconds per call
EVERY = 10.0  # seconds between two looks whether a gateway that nothing was to be told is there
#: Things to tell that wait for one gateway while a call to it is under way; the rest is dropped and counted.
WAITING = 5000
#: Seconds until a gateway that did not take them is told again which messages are stored, where nothing else is told.
AGAIN = 1.0
#: After these the same call may succeed later.
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "RESOURCE_EXHAUSTED")
_NOTHING = Applied()


class Reactor(Protocol):
    """What is needed of a reactor here."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> Any: ...

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> IDelayedCall: ...


class GrpcPushback:
    """`core.ports.Pushback`, and a part of the service tree. Nothing of gRPC exists before `start`.

    One call per gateway is under way at a time, so things are told in the order in which business applied them; what
    comes meanwhile goes with the next call. `tell` never blocks and never raises. `node` is our name for their logs.
    """

    def __init__(
        self,
        reactor: Reactor,
        addresses: Sequence[str],
        node: str,
        *,
        deadline: float = DEADLINE,
        credentials: Credentials | None = None,
    ) -> None:
        self._make = lambda address: _Gateway(reactor, address, node, deadline, credentials or Credentials())
        self._gateways = {address: self._make(address) for address in addresses}
        self._started = False

    def start(self) -> None:
        self._started = True
        for gateway in self._gateways.values():
            gateway.start()

    def meet(self, addresses: Collection[str]) -> None:
        """These are the gateways from now on."""
        for address in self._gateways.keys() - set(addresses):
            self._gateways.pop(address).stop()
        for address in addresses:
            if address not in self._gateways:
                gateway = self._gateways[address] = self._make(address)
                if self._started:
                    gateway.start()

    def tell(self, applied: Applied) -> None:
        if applied != _NOTHING:
            for gateway in self._gateways.values():
                gateway.tell(applied)

    def tell_one(self, address: str, applied: Applied) -> None:
        """Only this gateway, if it is one of them."""
        gateway = self._gateways.get(address)
        if gateway is not None:
            gateway.tell(applied)

    def stop(self) -> Deferred[Any]:
        """What is under way and what waits gets a deadline's time."""
        return gatherResults([gateway.stop() for gateway in self._gateways.values()])

    @property
    def away(self) -> list[str]:
        """Gateways that did not answer, or not well, when they were asked last."""
        return [gateway.address for gateway in self._gateways.values() if gateway.trouble]

    @property
    def told(self) -> Mapping[str, int]:
        """Calls that a gateway took, by address."""
        return {gateway.address: gateway.told for gateway in self._gateways.values()}

    @property
    def failed(self) -> Mapping[str, int]:
        """Calls that a gateway did not answer in time or refused, by address."""
        return {gateway.address: gateway.failed for gateway in self._gateways.values()}

    @property
    def dropped(self) -> Mapping[str, int]:
        """Receipts, withdrawals and hints that are not told because too many wait, or we stop, by address."""
        return {gateway.address: gateway.dropped for gateway in self._gateways.values()}


class _Gateway:
    """One of them: its channel, the call under way, and what waits behind it."""

    def __init__(self, reactor: Reactor, address: str, node: str, deadline: float, credentials: Credentials) -> None:
        self.address = address
        self._credentials = credentials
        self.trouble = ""
        self.told = self.failed = self.dropped = 0
        self._reactor, self._deadline = reactor, deadline
        self._greeting = encode_hello(Party(node))
        self._channel: grpc.Channel | None = None
        self._calls: dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._under_way = False
        self._waiting = _NOTHING
        #: What is being told, and of what it did not take what it is told again.
        self._telling, self._again = _NOTHING, _NOTHING
        self._timer: IDelayedCall | None = None
        self._known = False  # it has answered before
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        channel = self._channel = make_channel(self.address, self._credentials)
        self._calls = {name: channel.unary_unary(f"/{SERVICE}/{name}") for name in (HELLO, TELL)}
        self._hello()

    def tell(self, applied: Applied) -> None:
        if self._channel is None or self._stopped is not None:
            self.dropped += _count(applied)
        elif not self._under_way:
            self._tell(applied)
        elif _count(self._waiting) + _count(applied) <= WAITING:
            self._waiting = _joined(self._waiting, applied)
        else:
            self.dropped += _count(applied)

    def stop(self) -> Deferred[None]:
        """Fires when the channel is closed."""
        if self._stopped is not None:
            return self._stopped
        stopped = self._stopped = Deferred()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._channel is None:
            stopped.callback(None)
        elif not self._under_way:
            self._close()
        else:
            self._timer = self._reactor.callLater(self._deadline, self._close)
        return stopped

    def _hello(self) -> None:
        self._call(HELLO, self._greeting)

    def _tell(self, applied: Applied) -> None:
        self._telling, self._again = _joined(self._again, applied), _NOTHING
        self._call(TELL, encode_applied(self._telling))

    def _call(self, name: str, request: bytes) -> None:
        self._under_way = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        call = self._calls[name].future(request, timeout=self._deadline, metadata=self._credentials.metadata)
        # On a thread of gRPC's.
        call.add_done_callback(lambda future: self._reactor.callFromThread(self._ended, name, _outcome(future)))

    def _ended(self, name: str, outcome: Party | str) -> None:
        self._under_way = False
        if isinstance(outcome, Party):
            self.told += name == TELL
            self._answered(outcome)
        else:
            self.failed += name == TELL
            self._in_trouble(outcome)
            if outcome in _PASSING:
                self._keep(self._telling.receipts)
        self._telling = _NOTHING
        if self._channel is None:
            return
        waiting, self._waiting = self._waiting, _NOTHING
        if waiting != _NOTHING:
            self._tell(waiting)
        elif self._stopped is not None:
            self._close()
        elif self._again != _NOTHING:
            self._timer = self._reactor.callLater(AGAIN, self._tell, _NOTHING)
        else:
            self._timer = self._reactor.callLater(EVERY, self._hello)

    def _keep(self, receipts: Sequence[Receipt]) -> None:
        """Of what was not taken, what will be told again: the oldest, as many as may wait."""
        stored = tuple(receipt for receipt in receipts if receipt.status == Status.STORED)
        self._again = Applied(receipts=stored[:WAITING])
        self.dropped += len(stored[WAITING:])

    def _answered(self, party: Party) -> None:
        if self.trouble or not self._known:
            _log.info("gateway {address} ({node!r}) is told what concerns it", address=self.address, node=party.node)
        self.trouble, self._known = "", True

    def _in_trouble(self, why: str) -> None:
        if why != self.trouble and self._channel is not None:
            _log.warn("gateway {address} cannot be told: {why}", address=self.address, why=why)
        self.trouble = why

    def _close(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        self.dropped += _count(self._waiting) + _count(self._again)
        self._waiting = self._again = _NOTHING
        if self._stopped is not None and not self._stopped.called:
            self._stopped.callback(None)


def _outcome(call: Any) -> Party | str:
    """The answer of a call that has ended, or why there is none."""
    try:
        return decode_reply(call.result())
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        return why(error)
    except (OtherVersion, Unreadable) as error:
        return str(error)


def _count(applied: Applied) -> int:
    return len(applied.receipts) + len(applied.withdrawals) + len(applied.hints)


def _joined(one: Applied, two: Applied) -> Applied:
    hints = dict.fromkeys((*one.hints, *two.hints))
    return Applied(one.receipts + two.receipts, one.withdrawals + two.withdrawals, tuple(hints))
