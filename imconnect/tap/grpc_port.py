"""The gateway's gRPC port, wired: business, other gateways, and the Java services where they are served."""

from __future__ import annotations

import socket
from typing import Any

from imconnect.config import Config
from imconnect.config.profiles import dialect_of, profile_of, serves_java
from imconnect.core.node import Node
from imconnect.edge.grpc_server import GrpcServer
from imconnect.edge.java_service import JavaService
from imconnect.edge.peer_service import PeerService
from imconnect.tap.clock import now_ms
from imconnect.tap.credentials import tls_of


def make_grpc(reactor: Any, config: Config, bound: socket.socket, node: Node, name: str) -> GrpcServer:
    """Raises ConfigError for certificates that cannot be read."""
    beside = []
    if serves_java(config):
        dialect, largest = dialect_of(config), config.rocketmq.producer.max_message_size
        java = JavaService(
            reactor,
            node,
            success=profile_of(config).success,
            now_ms=now_ms,
            fits=lambda message: dialect.fits(message, largest),
        )
        beside.append(java.handler())
    if node.others is not None:
        beside.append(PeerService(reactor, node.others.take).handler())
    return GrpcServer(reactor, bound, node.tell, name, beside, token=config.grpc.token, tls=tls_of(config))
