"""Ports bound before anything else, as plain sockets, so that a taken one is one line; accepted on last."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from imconnect.errors import ConfigError

BACKLOG = 1024
#: The first descriptor that systemd passes.
FIRST_PASSED = 3


def bind(host: str, port: int, key: str, *, shared: bool = False) -> socket.socket:
    """A bound socket. ConfigError where it is taken or cannot be had.

    `key` is the port's key (`server.port`); where the host is at fault the error names that (`server.host`).
    `shared`: other processes of the same user may have the port too, each with a share of the clients.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
            if not shared:
                # A shared one listens when its process takes clients: until then the others get them all.
                bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            host_key = key.removesuffix("port") + "host"
            raise ConfigError(host_key, f"expected an address of this machine, {host}: {error.strerror}") from error
        what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be bound: {error.strerror or error}"
        raise ConfigError(key, f"{host}:{port} {what}") from error
    bound.setblocking(False)
    return bound


def passed_by_systemd(name: str) -> socket.socket | None:
    """The socket of this FileDescriptorName, or the only one, from socket activation; None without it."""
    environ = _environ_at_start()
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(environ.get("LISTEN_FDS", "0"))
    for index in range(count):
        if count == 1 or (index < len(names) and names[index] == name):
            passed = socket.socket(fileno=FIRST_PASSED + index)
            passed.setblocking(False)
            return passed
    return None


def _environ_at_start() -> Mapping[str, str]:
    """What the process was given: Twisted takes systemd's variables out of `os.environ` when twistd imports it."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return os.environ
    return dict(os.fsdecode(entry).partition("=")[::2] for entry in entries if entry)


class Listening:
    """A part of the service tree: accepts on a bound socket while it runs."""

    def __init__(self, reactor: Any, bound: socket.socket, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._bound: socket.socket | None = bound
        self._factory = factory
        self._port: IListeningPort | None = None
        self.host, self.port = bound.getsockname()[:2]

    def start(self) -> None:
        bound, self._bound = self._bound, None
        assert bound is not None
        if not bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            bound.listen(BACKLOG)
        # The reactor works on a duplicate of the descriptor.
        self._port = self._reactor.adoptStreamPort(bound.fileno(), bound.family, self._factory)
        bound.close()

    def stop(self) -> Deferred[Any]:
        if self._bound is not None:
            self._bound.close()
        port, self._port = self._port, None
        stopped = port.stopListening() if port is not None else None
        return stopped if stopped is not None else succeed(None)
