"""The gateway's gRPC port: business tells what concerns the people who are signed in here (`wire/gateway.proto`).

Plain text without credentials unless a token or certificates are given: then the port belongs on loopback or on a
network that only the own machines reach.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import grpc
from twisted.internet.defer import Deferred, succeed

from imconnect.edge.grpc_calls import NodeCalls, NotDone, Reactor, decoded
from imconnect.edge.grpc_door import Token, credentials
from imconnect.errors import ConfigError
from imconnect.model import Applied
from imconnect.wire.gateway_codec import (
    HELLO,
    SERVICE,
    TELL,
    Party,
    decode_applied,
    decode_hello,
    encode_reply,
)

#: Threads that calls wait on, and calls that may be here at once; more are refused (RESOURCE_EXHAUSTED).
THREADS, CALLS = 4, 64
MAX_BYTES = 8 << 20  # of a request
GRACE = 1.0  # seconds in which calls may end when the server stops
#: Peers may ask whether the connection lives, as often as every 5 s, also between calls. (Without this grpc hangs up
#: on a peer that asks more often than every 5 minutes.)
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
)


class GrpcServer:
    """A part of the service tree: takes calls while it runs.

    `bound` is a socket that holds the port until the start; gRPC then binds it itself, because it starts threads that
    a fork of twistd would not take along. `tell` is called on the reactor thread; `node` is our name for callers' logs;
    `beside` are further services; callers need the `token`, and with `tls` (authority, certificate, key in PEM) a
    certificate of that authority.
    """

    def __init__(
        self,
        reactor: Reactor,
        bound: socket.socket,
        tell: Callable[[Applied], None],
        node: str,
        beside: Sequence[grpc.GenericRpcHandler] = (),
        token: str = "",
        tls: tuple[bytes, bytes, bytes] | None = None,
    ) -> None:
        self._reactor = reactor
        self._calls = NodeCalls(reactor)
        self._beside = beside
        self._interceptors: list[grpc.ServerInterceptor] = [Token(token)] if token else []
        self._credentials = credentials(*tls) if tls else None
        self._bound: socket.socket | None = bound
        self._tell_node = tell
        self._reply = encode_reply(Party(node))
        self._server: grpc.Server | None = None
        self._threads: ThreadPoolExecutor | None = None
        self.host, self.port = bound.getsockname()[:2]

    def start(self) -> None:
        """Raises ConfigError where somebody took the port in the moment it was free."""
        self._let_go()
        self._threads = ThreadPoolExecutor(THREADS, "grpc")
        server = grpc.server(
            self._threads,
            [self._handlers(), *self._beside],
            self._interceptors,
            options=_OPTIONS,
            maximum_concurrent_rpcs=CALLS,
        )
        host = f"[{self.host}]" if ":" in self.host else self.host
        try:
            if self._credentials is None:
                server.add_insecure_port(f"{host}:{self.port}")
            else:
                server.add_secure_port(f"{host}:{self.port}", self._credentials)
        except RuntimeError:
            raise ConfigError("grpc.port", f"{self.host}:{self.port} is in use") from None
        server.start()
        self._server = server

    def stop(self) -> Deferred[None]:
        """No new calls; those that are here get a moment."""
        self._let_go()
        server, self._server = self._server, None
        threads, self._threads = self._threads, None
        if threads is not None:
            stopped: Deferred[None] = Deferred()
            ended = server.stop(GRACE) if server is not None else None
            Thread(target=self._end, args=(ended, threads, stopped), name="grpc-stop", daemon=True).start()
            return stopped
        return succeed(None)

    def _let_go(self) -> None:
        bound, self._bound = self._bound, None
        if bound is not None:
            bound.close()

    def _end(self, ended: Event | None, threads: ThreadPoolExecutor, stopped: Deferred[None]) -> None:
        if ended is not None:
            ended.wait(GRACE + 1)
        threads.shutdown(wait=False)
        self._reactor.callFromThread(stopped.callback, None)

    def _handlers(self) -> grpc.GenericRpcHandler:
        # Bytes in, bytes out: what does not parse gets a status of ours instead of a traceback in the log.
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            HELLO: grpc.unary_unary_rpc_method_handler(self._hello),
            TELL: grpc.unary_unary_rpc_method_handler(self._tell),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    # -- on gRPC's threads

    def _hello(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        decoded(decode_hello, request, context)
        return self._reply

    def _tell(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        applied = decoded(decode_applied, request, context)
        try:
            self._calls.run(context, lambda: self._tell_node(applied))
        except NotDone as error:
            context.abort(error.status, str(error))
        return self._reply
