"""What systemd wants to hear from a service of Type=notify."""

from __future__ import annotations

import os
import socket

from twisted.logger import Logger

_log = Logger()


def notify(state: str) -> bool:
    """Send a state such as `READY=1` to the socket that $NOTIFY_SOCKET names; -> whether it was sent.

    Silent where the variable is not set. Does not raise: a manager that does not listen is no reason to stop.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        # An abstract socket: its name begins with a zero byte.
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode("utf-8"), address)
    except OSError as error:
        _log.warn("systemd could not be told {state}: {error}", state=state, error=error)
        return False
    return True
