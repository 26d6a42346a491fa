"""What a client was sent lately: each message is shown once, and its acknowledgement is not forgotten."""

from __future__ import annotations

from typing import NamedTuple

from imconnect.wire.client_codec import Pushed, encode_ack


class _Shown(NamedTuple):
    sender: int
    client_msg_id: bytes
    #: What was acknowledged so far: 0 nothing, 3 delivered, 4 read.
    status: int = 0


class Inbox:
    """The last `limit` messages of one user, and acknowledgements that wait for a connection."""

    def __init__(self, user: int, limit: int) -> None:
        self._user = user
        self._limit = max(1, limit)
        self._shown: dict[int, _Shown] = {}
        self._owed: dict[int, bytes] = {}

    def is_new(self, push: Pushed) -> bool:
        """Whether this message is to be shown; from now on it was."""
        if push.msg_id in self._shown:
            return False
        self._shown[push.msg_id] = _Shown(push.sender, push.client_msg_id)
        if len(self._shown) > self._limit:
            del self._shown[next(iter(self._shown))]
        return True

    def forget(self, msg_id: int) -> None:
        """It was not shown after all."""
        self._shown.pop(msg_id, None)

    def status(self, msg_id: int) -> int:
        """The highest status that was acknowledged, 0 if none."""
        shown = self._shown.get(msg_id)
        return shown.status if shown is not None else 0

    def acknowledge(self, msg_id: int, status: int) -> bytes:
        """The frame that says so. KeyError if the message is not among the remembered ones."""
        shown = self._shown[msg_id]
        status = max(status, shown.status)
        self._shown[msg_id] = shown._replace(status=status)
        return encode_ack(shown.client_msg_id, msg_id, shown.sender, status, self._user)

    def owe(self, msg_id: int, frame: bytes) -> None:
        """Keep an acknowledgement until there is a connection; of one message only the last counts."""
        self._owed[msg_id] = frame
        if len(self._owed) > self._limit:
            del self._owed[next(iter(self._owed))]

    def take_owed(self) -> list[bytes]:
        """What waited for a connection."""
        owed, self._owed = self._owed, {}
        return list(owed.values())
