"""What a handler may know when it decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imconnect.core.outcome import Outcome
from imconnect.core.recent import Recent
from imconnect.core.resend import Resend
from imconnect.core.session import Session
from imconnect.core.settings import Settings
from imconnect.errors import CommandError
from imconnect.model import Message
from imconnect.observe.metrics import Metrics
from imconnect.wire.ids import Snowflake
from imconnect.wire.requests import Request


class NotAsked:
    """In place of the store's answer: it has not been asked about this message."""


class Context:
    """One per node. No I/O behind any of it."""

    __slots__ = ("fits", "ids", "metrics", "now_ms", "recent", "resend", "room_for_ends", "room_for_sends", "settings")

    def __init__(
        self,
        *,
        settings: Settings,
        recent: Recent,
        resend: Resend,
        ids: Snowflake,
        fits: Callable[[Message], bool],
        metrics: Metrics,
        now_ms: Callable[[], int],
        room_for_sends: Callable[[], bool],
        room_for_ends: Callable[[], bool],
    ) -> None:
        self.settings = settings
        self.recent = recent
        self.resend = resend
        self.ids = ids
        #: Whether the largest event of this message is small enough for the queue.
        self.fits = fits
        self.metrics = metrics
        self.now_ms = now_ms
        #: Whether the outbox takes another send; another ACK, withdrawal or OFFLINE.
        self.room_for_sends = room_for_sends
        self.room_for_ends = room_for_ends


#: A handler: the request and what the store said (NotAsked at first; what, says the question) -> Outcome, or None where
#: there is nothing to do. Raises CommandError (answered), Disconnect (closed) or AskStore (decided again with the answer).
Handler = Callable[[Context, Session, Any, Any], Outcome | None]
Handlers = Mapping[type, Handler]
#: How a refusal of this request looks on the wire; empty where it has none.
Refuse = Callable[[Session, Request, CommandError], bytes]
