"""What the WebSocket edge is told at start."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class EdgeSettings:
    """Plain numbers; `tap.py` fills them from the configuration. Times in seconds, sizes in bytes."""

    path: str = "/websocket"
    #: One frame, and one message of several fragments. Over it: closed 1009.
    frame_bytes: int = 65536
    #: Over it: HTTP 503. Half-open connections count.
    connections: int = 50000
    #: Over it: HTTP 429.
    connections_per_ip: int = 10000
    #: From the TCP connection to the end of the upgrade, the authenticator included.
    handshake_timeout: float = 10.0
    ping_interval: float = 25.0
    #: Nothing heard for so long: closed 4004.
    idle_timeout: float = 90.0
    #: What may wait for a reader that is behind. Over it `Link.write` says False.
    outgoing_bytes: int = 1048576
    #: How long a peer may take to answer our close frame before the connection is dropped.
    close_timeout: float = 5.0
