"""One WebSocket connection of a client, and what its end says about the next one.

`ClientFactory` and `ClientProtocol` know no messages: frames go in and out as bytes, so tests may use them on iosim
pairs and write whatever they like. `imconnect.client.Client` makes a client of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.python.failure import Failure

_log = Logger()

#: Close codes of the gateway (interface.md 3) that a client acts upon.
REPLACED = 4001
ABNORMAL = 1006

#: Nobody waits longer than this because a server said so; seconds.
_LONGEST_WISH = 300.0
_RETRY_AFTER_MS = re.compile(r"\bretry_after_ms=(\d{1,9})\b")
_REASON_KEYS = ("reason", "message", "msg", "error")


class Loss(NamedTuple):
    """How a connection, or the attempt at one, ended."""

    #: WebSocket close code; 1006 where there was none.
    code: int = ABNORMAL
    reason: str = ""
    #: HTTP status where the upgrade was refused, else 0.
    status: int = 0
    #: Seconds that the gateway wants us to wait, where it said so.
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
class Backoff:
    """How long to wait between attempts, in seconds: doubling, with jitter so that not all clients come at once."""

    first: float = 0.5
    factor: float = 2.0
    longest: float = 30.0

    def delay(self, loss: Loss, failures: int, chance: float) -> float:
        """Seconds to wait after `failures` failures before this one; `chance` is a random number from 0 to 1.

        What the gateway asked for wins. Its close reason is jittered by the gateway, a Retry-After is not.
        """
        if loss.retry_after is not None:
            wish = min(loss.retry_after, _LONGEST_WISH)
            return wish * (1 + chance / 4) if loss.status else wish
        # The exponent is bounded because a client may be away for days and floats are not endless.
        full = min(self.longest, self.first * self.factor ** min(failures, 64))
        return full * (0.5 + chance / 2)


class ClientProtocol(WebSocketClientProtocol):
    """One connection. `is_online` from the completed handshake to the close frame."""

    factory: ClientFactory

    def __init__(self) -> None:
        super().__init__()
        self.is_online = False
        self._quiet = False
        self._beat_call: IDelayedCall | None = None

    def send_raw(self, frame: bytes, *, binary: bool = True) -> None:
        """Write one frame as it is. Does nothing once the connection is closing: whoever needs an answer asks again."""
        if self.is_online and self.state == self.STATE_OPEN:
            self.sendMessage(frame, isBinary=binary)

    def leave(self) -> None:
        """Close cleanly where the connection is open, else drop it. `on_close` follows."""
        if self.state == self.STATE_OPEN:
            self.sendClose(1000, "bye")
        elif self.state != self.STATE_CLOSING:
            self.dropConnection(abort=True)

    def dataReceived(self, data: bytes) -> None:
        self._quiet = False
        super().dataReceived(data)

    def onOpen(self) -> None:
        self.is_online = True
        self._schedule_beat()
        _guarded(self.factory.on_open, self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        # The gateway sends no text; a peer that does is not one of ours, and its frame says nothing to us.
        if isBinary:
            _guarded(self.factory.on_frame, self, payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.is_online = False
        if self._beat_call is not None and self._beat_call.active():
            self._beat_call.cancel()
        status, retry_after, refusal = self._refusal()
        if status:
            loss = Loss(ABNORMAL, refusal, status, retry_after)
        else:
            # Autobahn wraps its own words around the reason of an unclean end.
            told = (reason if wasClean else self.wasNotCleanReason) or ""
            loss = Loss(code or ABNORMAL, told, 0, _wish_of_reason(told))
        _guarded(self.factory.on_close, self, loss)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        if self.wasNotCleanReason is None and not self.wasClean:
            self.wasNotCleanReason = "the connection broke"
        super().connectionLost(reason)

    def failHandshake(self, reason: str) -> None:
        # The reason of a refusal is in its body, which may come in a later read; Autobahn comes here again with it.
        # Its handshake timeout bounds the wait.
        if self._status() and self._missing_body() > 0:
            return
        super().failHandshake(reason)

    def _schedule_beat(self) -> None:
        if self.factory.keep_alive > 0:
            self._beat_call = self.factory.reactor.callLater(self.factory.keep_alive, self._beat)

    def _beat(self) -> None:
        """Say that we are here, and notice when nobody answers: TCP alone takes a quarter of an hour for that."""
        if self.state != self.STATE_OPEN:
            # It is closing, which has a timeout of its own.
            return
        if self._quiet:
            self.wasNotCleanReason = "the gateway does not answer"
            self.dropConnection(abort=True)
            return
        self._quiet = True
        self.sendMessage(b"", isBinary=True)
        self.sendPing()
        self._schedule_beat()

    def _status(self) -> int:
        """The HTTP status of a refused upgrade, 0 if it was not refused (yet)."""
        words = str(getattr(self, "http_status_line", "")).split()
        if len(words) < 2 or not words[1].isdigit() or words[1] == "101":
            return 0
        return int(words[1])

    def _body(self) -> bytes:
        return bytes(self.data).partition(b"\r\n\r\n")[2]

    def _missing_body(self) -> int:
        length = str(self.http_headers.get("content-length", "")).strip()
        return int(length) - len(self._body()) if length.isdigit() else 0

    def _refusal(self) -> tuple[int, float | None, str]:
        status = self._status()
        if not status:
            return 0, None, ""
        retry_after = str(self.http_headers.get("retry-after", "")).strip()
        phrase = " ".join(self.http_status_line.split()[2:])
        return status, float(retry_after) if retry_after.isdigit() else None, _reason_of_body(self._body()) or phrase


OnOpen = Callable[[ClientProtocol], object]
OnFrame = Callable[[ClientProtocol, bytes], object]
OnClose = Callable[[ClientProtocol, Loss], object]


class ClientFactory(WebSocketClientFactory):
    """Makes the connections of one user. `keep_alive` in seconds, 0 for none; `frame_bytes` bounds what we take."""

    protocol = ClientProtocol  # type: ignore[assignment]
    reactor: IReactorTime

    def __init__(
        self,
        reactor: IReactorTime,
        url: str,
        user: int,
        *,
        device: str = "",
        headers: Mapping[str, str] | None = None,
        on_open: OnOpen,
        on_frame: OnFrame,
        on_close: OnClose,
        keep_alive: float = 20.0,
        frame_bytes: int = 1048576,
    ) -> None:
        signs = {"uid": str(user), **({"deviceId": device} if device else {}), **(headers or {})}
        super().__init__(url, headers=signs, useragent="imconnect", reactor=reactor)
        self.on_open, self.on_frame, self.on_close = on_open, on_frame, on_close
        self.keep_alive = keep_alive
        self.setProtocolOptions(
            maxFramePayloadSize=frame_bytes, maxMessagePayloadSize=frame_bytes, openHandshakeTimeout=10
        )


def _guarded(callback: Callable[..., object], *args: object) -> None:
    """Autobahn lets an exception escape into `dataReceived`, which would cost the connection: log the bug instead."""
    try:
        callback(*args)
    except Exception:
        _log.failure("a callback of the client failed")


def _wish_of_reason(reason: str) -> float | None:
    found = _RETRY_AFTER_MS.search(reason)
    return int(found[1]) / 1000 if found else None


def _reason_of_body(body: bytes) -> str:
    """The reason in a refusal's JSON body, or "" where it has none."""
    try:
        value: Any = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(value, dict):
        return ""
    return next((str(value[key]) for key in _REASON_KEYS if value.get(key)), "")
