"""The way to other gateways over gRPC (`wire/peer.proto`): a cached channel per address, a deadline on each call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from imconnect.backends.grpc_channel import Credentials, make_channel, why
from imconnect.errors import Unavailable
from imconnect.model import Parcel
from imconnect.wire.checks import OtherVersion, Unreadable
from imconnect.wire.peer_codec import HAND, SERVICE, decode_taken, encode_parcel

DEADLINE = 1.0  # seconds per call


class GrpcPeer:
    """`core.ports.Peer`, and a part of the service tree. Nothing of gRPC exists before the first call.

    `address`: where the gRPC port of a node is, None where that node does not live. `node` is our own id.
    """

    def __init__(
        self, reactor: Any, node: int, address: Callable[[int], str | None], credentials: Credentials | None = None
    ) -> None:
        self._reactor = reactor
        self._node = node
        self._address = address
        self._credentials = credentials or Credentials()
        self._channels: dict[int, tuple[str, grpc.Channel]] = {}
        self._closed = False

    def hand(self, node: int, parcel: Parcel) -> Deferred[Sequence[bool]]:
        channel = None if self._closed else self._channel(node)
        if channel is None:
            return fail(Unavailable(f"node {node} does not live"))
        hand: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{HAND}")
        request = encode_parcel(parcel, self._node)
        call = hand.future(request, timeout=DEADLINE, metadata=self._credentials.metadata)

        def give_up(_: Deferred[Sequence[bool]]) -> None:
            call.cancel()

        answered: Deferred[Sequence[bool]] = Deferred(give_up)
        # On a thread of gRPC's.
        call.add_done_callback(lambda done: self._reactor.callFromThread(_answer, answered, _outcome(done)))
        return answered

    def close(self) -> Deferred[None]:
        self._closed = True
        for _, channel in self._channels.values():
            channel.close()
        self._channels.clear()
        return succeed(None)

    def _channel(self, node: int) -> grpc.Channel | None:
        address = self._address(node)
        there = self._channels.get(node)
        if there is not None and there[0] != address:
            del self._channels[node]
            there[1].close()
            there = None
        if address is None:
            return None
        if there is None:
            there = self._channels[node] = (address, make_channel(address, self._credentials))
        return there[1]


def _outcome(call: Any) -> Sequence[bool] | Unavailable:
    try:
        return decode_taken(call.result())
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        return Unavailable(why(error))
    except (OtherVersion, Unreadable) as error:
        return Unavailable(str(error))


def _answer(answered: Deferred[Sequence[bool]], outcome: Sequence[bool] | Unavailable) -> None:
    if answered.called:
        return
    if isinstance(outcome, Unavailable):
        answered.errback(Failure(outcome))
    else:
        answered.callback(outcome)
