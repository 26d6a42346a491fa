"""The errors that cross floors. Anything else that is raised is a bug."""

from __future__ import annotations


class CommandError(Exception):
    """A request is refused: the client gets an answer with this code and stays connected."""

    def __init__(self, code: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        #: A short word for the metric `imconnect_sends_refused_total{reason}`.
        self.reason = reason or str(code)


class Disconnect(Exception):
    """The connection must end: closed with this WebSocket code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class DecodeError(Disconnect):
    """A frame is not an ImProtoRequest. The one error that `wire.codec.decode` raises; closed with 1007."""

    def __init__(self, reason: str = "not an ImProtoRequest") -> None:
        super().__init__(1007, reason)


class ConfigError(Exception):
    """A configuration mistake: `str()` is one line that names the key and what was expected."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


class Damaged(Exception):
    """A file of ours cannot be used (damaged, foreign, or from a newer version). `str()` names the file.

    The file is left as it is: it may hold the only copy of somebody's messages.
    """

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.what = what


class Unavailable(Exception):
    """What stands behind a port is away or too slow. The caller takes its documented way out; nothing is lost."""
