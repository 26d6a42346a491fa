"""The client library: sign in at a gateway, send, receive, and stay connected.

    client = Client(reactor, "ws://127.0.0.1:10001/websocket", 1001)
    client.on_message = lambda message: print(message.sender, message.content)
    await client.start()
    result = await client.send(1002, "hello")     # fires when the gateway has it safe on disk

A `Client` reconnects by itself until it is stopped or told to stay away. Then it asks what became of its own messages
that have no tick, and sends again, with the same clientMsgId, what the gateway does not know: nothing is lost, nothing
doubled, and a receipt that was missed is told after all. Callbacks are plain functions, called in the reactor's thread.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from imconnect.client_connection import Connection, Phase, Replaced, SignInRefused, State, Stopped
from imconnect.client_inbox import Inbox
from imconnect.client_link import Backoff, ClientFactory, ClientProtocol, Loss
from imconnect.client_outgoing import Outgoing, SendResult
from imconnect.client_requests import ClientError, Overfull, Refused
from imconnect.errors import DecodeError
from imconnect.model import Status
from imconnect.wire import client_codec as wire

__all__ = [
    "Backoff", "Client", "ClientError", "ClientFactory", "ClientMessage", "ClientProtocol", "Loss", "Overfull", "Phase",
    "Refused", "Replaced", "SendResult", "SignInRefused", "State", "Stopped",
]  # fmt: skip

_log = Logger()

#: Above this the gateway would close the connection (`limits.frame_bytes`), and again at every repeat.
_FRAME_BYTES = 65536


#: A message that somebody sent to this user. `time` is the sender's clock, ms since 1970.
ClientMessage = wire.Pushed


class Client:
    """One signed-in user on one device. Start it once, stop it once."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        user: int,
        *,
        device: str = "",
        headers: Mapping[str, str] | None = None,
        endpoint: IStreamClientEndpoint | None = None,
        auto_ack: bool = True,
        retry_unavailable: bool = False,
        max_outstanding: int = 1000,
        remember: int = 10_000,
        keep_alive: float = 20.0,
        backoff: Backoff | None = None,
        chance: Callable[[], float] = random.random,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`headers` go into the sign-in (a token, for instance); `endpoint` replaces the one that `url` names.

        `auto_ack`: acknowledge as delivered what `on_message` returned from. `retry_unavailable`: a send refused with
        429 or 503 is tried again instead of failing. `remember`: of how many last messages it is known that they were
        shown. `keep_alive`: seconds between signs of life, 0 for none.
        """
        self.user = user
        #: Set these before `start`. An `on_message` that raises leaves the message unacknowledged: it comes again.
        self.on_message: Callable[[ClientMessage], object] | None = None
        #: msgId, clientMsgId, status 3 (delivered) or 4 (read).
        self.on_receipt: Callable[[int, bytes, int], object] | None = None
        #: msgId, who took it back. Comes for own messages too, and perhaps for ids that were never shown.
        self.on_withdrawn: Callable[[int, int], object] | None = None
        self.on_state: Callable[[State], object] | None = None
        #: Everything that comes, as bytes and decoded, before it is acted upon.
        self.on_frame: Callable[[bytes, wire.Response], object] | None = None
        self._connection = Connection(
            reactor, url, user, self, device=device, headers=headers, endpoint=endpoint, keep_alive=keep_alive,
            backoff=backoff, chance=chance,
        )  # fmt: skip
        self._now = now
        self._auto_ack = auto_ack
        self._outgoing = Outgoing(
            reactor, user, limit=max_outstanding, retry_unavailable=retry_unavailable,
            receipt=lambda *told: self._tell(self.on_receipt, *told),
            withdrawn=lambda *told: self._tell(self.on_withdrawn, *told),
        )  # fmt: skip
        self._inbox = Inbox(user, remember)
        self._act: dict[type, Callable[[Any], object]] = {wire.Pushed: self._pushed, **self._outgoing.readers}

    def start(self) -> Deferred[None]:
        """Connect, and stay connected. Fires at the first sign-in; fails with SignInRefused, Replaced or Stopped.

        A gateway that is away is no failure: the client goes on trying, and says so through `on_state`.
        """
        return self._connection.start()

    def stop(self) -> Deferred[None]:
        """Close cleanly and stay away. Fires when the connection is gone; what was unanswered fails with Stopped."""
        return self._connection.stop()

    @property
    def state(self) -> State:
        """Where the client stands now."""
        return self._connection.state

    @property
    def link(self) -> ClientProtocol | None:
        """The connection of the moment, if any, for tests that break it or write to it."""
        return self._connection.link

    @property
    def outstanding(self) -> int:
        """How many requests wait for an answer."""
        return len(self._outgoing)

    def send(self, to: int, content: str, format: int = 1, *, client_msg_id: bytes = b"") -> Deferred[SendResult]:
        """Send a message; fires when the gateway has it durably. Fails with Refused, Overfull, or what ended the client.

        `client_msg_id` (16 bytes) is chosen here unless the caller has reasons of his own.
        """
        key = client_msg_id or uuid.uuid4().bytes
        frame = wire.encode_send(key, to, content, format, int(self._now() * 1000))
        if len(frame) > _FRAME_BYTES:
            return fail(Refused(413, f"a message of {len(frame)} bytes is too long"))
        return self._ask(self._outgoing.ask, key, frame)

    def withdraw(self, msg_id: int, to: int) -> Deferred[None]:
        """Take back a message that this user sent to `to`. Fires when the gateway has it durably; fails with Refused."""
        return self._ask(self._outgoing.ask, msg_id, wire.encode_withdraw(msg_id, to))

    def batch_ids(self) -> Deferred[list[int]]:
        """Fresh message ids, never given to anybody else."""
        return self._ask(self._outgoing.ask_for_ids, wire.encode_get_msg_ids(self.user))

    def read(self, msg_id: int) -> None:
        """Tell the sender that this message was read. KeyError if it is not among the remembered ones."""
        self._acknowledge(msg_id, Status.READ)

    def delivered(self, msg_id: int) -> None:
        """Tell the sender that this message arrived (where `auto_ack` is off). KeyError as `read`."""
        self._acknowledge(msg_id, Status.DELIVERED)

    def send_raw(self, frame: bytes, *, binary: bool = True) -> None:
        """Write a frame as it is, for tests and experiments. Lost where there is no connection."""
        if self.link is not None:
            self.link.send_raw(frame, binary=binary)

    # ConnectionOwner

    def connection_opened(self, link: ClientProtocol) -> None:
        """Called by the connection."""
        for frame in self._inbox.take_owed():
            link.send_raw(frame)
        self._outgoing.opened(link.send_raw)

    def connection_lost(self) -> None:
        """Called by the connection."""
        self._outgoing.lost()

    def connection_ended(self, error: ClientError) -> None:
        """Called by the connection."""
        self._outgoing.ended(error)

    def connection_state(self, state: State) -> None:
        """Called by the connection."""
        self._tell(self.on_state, state)

    def connection_frame(self, frame: bytes) -> None:
        """Called by the connection."""
        try:
            response = wire.decode_response(frame)
        except DecodeError:
            _log.warn("the gateway sent a frame of {size} bytes that is no ImProtoResponse", size=len(frame))
            return
        self._tell(self.on_frame, frame, response)
        act = self._act.get(type(response))
        if act is not None:
            act(response)

    def _pushed(self, message: ClientMessage) -> None:
        msg_id = message.msg_id
        if not self._inbox.is_new(message):
            # The gateway did not hear the acknowledgement: it is told again, the user is not.
            if self._inbox.status(msg_id):
                self._acknowledge(msg_id, Status.DELIVERED)
        elif not self._tell(self.on_message, message):
            self._inbox.forget(msg_id)
        elif self._auto_ack and not self._inbox.status(msg_id):
            self._acknowledge(msg_id, Status.DELIVERED)

    def _acknowledge(self, msg_id: int, status: int) -> None:
        frame = self._inbox.acknowledge(msg_id, status)
        if self._connection.is_online:
            self.send_raw(frame)
        else:
            self._inbox.owe(msg_id, frame)

    def _ask(self, ask: Callable[..., Deferred[Any]], *request: Any) -> Deferred[Any]:
        ended = self._connection.ended
        return fail(ended) if ended is not None else ask(*request)

    def _tell(self, callback: Callable[..., object] | None, *args: object) -> bool:
        """Call the owner. False if he failed: his bug is logged and does not cost the connection."""
        if callback is None:
            return True
        try:
            callback(*args)
        except Exception:
            _log.failure("a callback of the client's owner failed")
            return False
        return True
