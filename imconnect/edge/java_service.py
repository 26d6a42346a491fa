"""com.xzll.grpc.MessageService on the gateway's gRPC port: the Java im-business tells people who are here.

Java looks at `success` alone and treats any failure alike, so every request is answered with gRPC status OK: a wrong
one, one about somebody who is not here (-1), and one that cannot be served (-200).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from imconnect.core.node import Node
from imconnect.edge.grpc_calls import NodeCalls, NotDone, Reactor
from imconnect.model import Applied, Message, Receipt, Withdrawal
from imconnect.wire import xzll_codec as java
from imconnect.wire.xzll_codec import PassedOn, Unreadable, encode_answer

_T = TypeVar("_T")
#: Why it was not done; empty: it was.
Why = str


class JavaService:
    """The six calls over a node. `fits`: whether the events of a message are small enough for the queue."""

    def __init__(
        self,
        reactor: Reactor,
        node: Node,
        *,
        success: int,
        now_ms: Callable[[], int],
        fits: Callable[[Message], bool],
    ) -> None:
        self._calls = NodeCalls(reactor)
        self._node, self._success = node, success
        self._now_ms, self._fits = now_ms, fits

    def handler(self) -> grpc.GenericRpcHandler:
        """For `GrpcServer`."""
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            java.SERVER_ACK: self._call(java.decode_server_ack, self._receipt),
            java.CLIENT_ACK: self._call(java.decode_client_ack, self._receipt),
            java.WITHDRAW: self._call(java.decode_withdraw, self._withdrawal),
            java.FRIEND_REQUEST: self._call(java.decode_friend_request, self._pass_on),
            java.FRIEND_RESPONSE: self._call(java.decode_friend_response, self._pass_on),
            java.TRANSFER: self._call(lambda data: java.decode_transfer(data, self._now_ms()), self._take),
        }
        return grpc.method_handlers_generic_handler(java.SERVICE, handlers)

    def _call(self, decode: Callable[[bytes], _T], act: Callable[[_T], Why]) -> Any:
        def serve(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                asked = decode(request)
                why = self._calls.run(context, lambda: act(asked))
            except Unreadable as error:
                return encode_answer(error.code, str(error))
            except NotDone as error:
                return encode_answer(java.ERROR, str(error))
            return encode_answer(java.ERROR, why) if why else encode_answer(java.SUCCESS)

        return grpc.unary_unary_rpc_method_handler(serve)

    # -- on the reactor thread

    def _receipt(self, receipt: Receipt) -> Why:
        self._node.tell(Applied(receipts=(receipt,)))
        return self._absent(receipt.sender)

    def _withdrawal(self, withdrawal: Withdrawal) -> Why:
        # Also where its receiver is not here: its sender may be.
        self._node.tell(Applied(withdrawals=(withdrawal,)))
        return self._absent(withdrawal.receiver)

    def _pass_on(self, passed: PassedOn) -> Why:
        # Nothing here could keep it for somebody who is away: Java must not think that it arrived.
        self._node.hub.tell(passed.user, passed.frame(self._success))
        self._node.hub.flush()
        return self._absent(passed.user)

    def _take(self, message: Message) -> Why:
        """Pushed to who is here, and again until he acknowledges it; else turned offline. Once, however often asked."""
        if not self._fits(message):
            return "content is too large"
        node = self._node
        if not node.recent.ended(message.msg_id) and node.resend.get(message.msg_id) is None:
            node.delivery.deliver(message)
            node.hub.flush()
        return ""

    def _absent(self, user: int) -> Why:
        return "" if self._node.hub.of(user) else f"user {user} is not signed in here"
