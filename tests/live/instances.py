"""Several gateways that share one WebSocket port: `--instance N` with everything else alike."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from imconnect.config.instance import PORT_STEP
from tests.live.processes import HOST, GatewayProcess, free_port
from tests.live.test_nodes import NodesTestCase


class InstancesTestCase(NodesTestCase):
    """On one database and one Redis, each with its embedded queue; `self.port` is everybody's."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.port = free_port()
        self._http, self._grpc = free_base(), free_base()

    def instance(self, number: int, **settings: Any) -> GatewayProcess:
        """Number 1 to 3, not started. It is node 1 to 3."""
        values = {
            "node.id": 0,
            "data_dir": self.folder / "var",
            "business.database": f"sqlite:///{self.folder}/business.db",
            "redis.url": self.redis.url(),
            "server.port": self.port,
            "http.port": self._http,
            "grpc.port": self._grpc,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        gateway = self.gateway(values, name=f"instance-{number}")
        gateway.command += ["--instance", str(number)]
        gateway.port, gateway.http_port = self.port, self._http + PORT_STEP * number
        gateway.data_dir = self.folder / "var" / str(number)
        return gateway

    def node_of(self, user: int) -> int:
        """Where Redis says that somebody is; 0: nowhere, or on several."""
        with self.redis.client() as client:
            nodes = client.hkeys(f"imconnect:user:{user}")
        return int(nodes[0]) if len(nodes) == 1 else 0


def free_base(numbers: Sequence[int] = (1, 2, 3)) -> int:
    """A port whose instances have free ones."""
    while True:
        base = free_port()
        with suppress(OSError):
            for number in numbers:
                with socket.socket() as probe:
                    probe.bind((HOST, base + PORT_STEP * number))
            return base
