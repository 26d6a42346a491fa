"""Several gateways on one machine from one configuration: what differs between them follows from one number."""

from __future__ import annotations

import os
import socket

import attrs

from imconnect.config.profiles import serves_java
from imconnect.config.tree import Config
from imconnect.errors import ConfigError

OPTION = "--instance"
#: Between the ports of two instances: an imbusiness and a socket of somebody else's have room there.
PORT_STEP = 10
LARGEST_NODE, LARGEST_PORT = 1023, 65535


def number_of(text: str) -> int:
    """What was given to the option. Raises ConfigError."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigError(OPTION, f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def instance_of(config: Config, number: int) -> Config:
    """The configuration of this instance: `number` is added to node.id, ten times that to the ports that are its own
    (http.port, grpc.port, the port of grpc.advertise; 0 stays 0), data_dir gets a folder of that name.

    Raises ConfigError where that does not fit.
    """
    if serves_java(config):
        raise ConfigError(
            OPTION,
            "expected profile_rows.java_grpc: false: the Java services call every gateway at the same port, so here each "
            "needs an address of its own (grpc.host), not a port",
        )
    node = config.node.id + number
    if node > LARGEST_NODE:
        raise ConfigError(OPTION, f"expected at most {LARGEST_NODE - config.node.id}: node.id would be {node}")
    host, _, port = config.grpc.advertise.rpartition(":")
    advertise = f"{host}:{_moved('grpc.advertise', int(port), number)}" if host else ""
    return attrs.evolve(
        config,
        node=attrs.evolve(config.node, id=node, name=f"{config.node.name or socket.gethostname()}-{number}"),
        data_dir=folder_of(config.data_dir, number),
        http=attrs.evolve(config.http, port=_moved("http.port", config.http.port, number)),
        grpc=attrs.evolve(config.grpc, port=_moved("grpc.port", config.grpc.port, number), advertise=advertise),
    )


def folder_of(data_dir: str, number: int) -> str:
    """The data_dir of this instance; 0: of the only one."""
    return os.path.join(data_dir, str(number)) if number else data_dir


def _moved(key: str, port: int, number: int) -> int:
    moved = port + PORT_STEP * number if port else 0
    if moved > LARGEST_PORT:
        raise ConfigError(OPTION, f"expected a smaller number: {key} would be {moved}")
    return moved
