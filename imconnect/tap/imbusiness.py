"""`twistd imbusiness`: the reference consumer in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from imconnect.errors import ConfigError
from imconnect.tap.options import Options as GatewayOptions
from imconnect.tap.options import refused


class Options(GatewayOptions):
    """The same as the gateway's; only its HTTP port is another one by default."""

    defaults_of_command: ClassVar[Mapping[str, Any]] = {"http": {"port": 10003}}


def makeService(options: Options, reactor: Any = None) -> NoReturn:
    """Without a queue there is nothing that a process of its own could read."""
    with refused():
        raise ConfigError(
            "rocketmq.server_addr",
            "expected host:port of a name server: imbusiness reads the events from RocketMQ. "
            "Without one, business runs inside the gateway (business.mode: embedded)",
        )
