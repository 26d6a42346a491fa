"""imconnect.peer.v1.Peer on the gateway's gRPC port: other gateways hand over what is for people who are here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc

from imconnect.edge.grpc_calls import NodeCalls, NotDone, Reactor, decoded
from imconnect.model import Parcel
from imconnect.wire.peer_codec import HAND, SERVICE, decode_parcel, encode_taken


class PeerService:
    """`take` is called on the reactor thread; -> for each message whether somebody was there who took it."""

    def __init__(self, reactor: Reactor, take: Callable[[Parcel], Sequence[bool]]) -> None:
        self._calls = NodeCalls(reactor)
        self._take = take

    def handler(self) -> grpc.GenericRpcHandler:
        """For `GrpcServer`."""
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            HAND: grpc.unary_unary_rpc_method_handler(self._hand)
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _hand(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        parcel = decoded(decode_parcel, request, context)
        try:
            return encode_taken(self._calls.run(context, lambda: self._take(parcel)))
        except NotDone as error:
            context.abort(error.status, str(error))
        raise AssertionError("abort raises")
