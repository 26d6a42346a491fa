"""What a process tells systemd."""

from __future__ import annotations

import os
import socket

from tests.live.processes import ServerProcess


class Notified:
    """The other end of NOTIFY_SOCKET of a process that is started later; `close` it at the end."""

    def __init__(self, process: ServerProcess) -> None:
        # Abstract, because a test's folder may lie deeper than the 108 bytes of a UNIX socket's path.
        name = f"imconnect-test-{os.urandom(8).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"\0{name}")
        self._heard: list[str] = []
        process.env["NOTIFY_SOCKET"] = f"@{name}"

    def says(self, state: str) -> bool:
        """Whether it has said so by now."""
        while True:
            try:
                self._heard += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return state in self._heard

    def close(self) -> None:
        self._socket.close()
