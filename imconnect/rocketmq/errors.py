"""How a call on the client can fail. Everything here is a `RocketMQError`.

Except for `Refused` and `Illegal` the outcome of a request is unknown: the broker may have done what it was asked.
"""

from __future__ import annotations


class RocketMQError(Exception):
    """Base of everything that this package raises on purpose."""


class FrameError(RocketMQError):
    """The peer sent bytes that are not the remoting protocol, or a body that is not what it should be."""


class Unreachable(RocketMQError):
    """No connection to this address could be made (yet); the request did not leave."""


class ConnectionGone(RocketMQError):
    """The connection ended before the reply came."""


class RequestTimeout(RocketMQError):
    """No reply before the deadline. The connection stays open; a late reply is dropped and counted."""


class ClientClosed(RocketMQError):
    """The client is closed, or closing."""


class Illegal(RocketMQError):
    """A value that RocketMQ cannot carry: found here, nothing was sent."""


class Refused(RocketMQError):
    """The peer answered with a code other than success."""

    def __init__(self, code: int, remark: str | None = None) -> None:
        super().__init__(f"code {code}" + (f": {remark}" if remark else ""))
        self.code = code
        self.remark = remark or ""


class TopicMissing(Refused):
    """No name server knows a route to this topic."""

    def __init__(self, topic: str, code: int = 17) -> None:
        super().__init__(code, f"topic {topic} has no route")
        self.topic = topic
