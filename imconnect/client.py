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
from itertools import count
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger

from imconnect.client_connection import Connection, Phase, Replaced, SignInRefused, State, Stopped
from imconnect.client_inbox import Inbox
from imconnect.client_link import Backoff, ClientFactory, ClientProtocol, Loss
from imconnect.client_requests import NOT_NOW, ClientError, Overfull, Refused, Requests
from imconnect.client_states import Unticked
from imconnect.errors import DecodeError
from imconnect.model import MessageState, Status
from imconnect.wire import client_codec as wire
from imconnect.wire.requests import Command

__all__ = [
    "Backoff", "Client", "ClientError", "ClientFactory", "ClientMessage", "ClientProtocol", "Loss", "Overfull", "Phase",
    "Refused", "Replaced", "SendResult", "SignInRefused", "State", "Stopped",
]  # fmt: skip

_log = Logger()

#: Refused sends are tried again after this when the caller wished so (`retry_unavailable`). Seconds.
_POSTPONED_FOR = 1.0
#: Above this the gateway would close the connection (`limits.frame_bytes`), and again at every repeat.
_FRAME_BYTES = 65536


#: A message that somebody sent to this user. `time` is the sender's clock, ms since 1970.
ClientMessage = wire.Pushed


class SendResult(NamedTuple):
    """The gateway has the message, durably, under this id."""

    msg_id: int
    client_msg_id: bytes


class _Ids(int):
    """Key of a request for message ids, whose answer does not say which request it answers."""


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
        self._reactor, self._now = reactor, now
        self._auto_ack, self._retry_unavailable = auto_ack, retry_unavailable
        self._requests = Requests(max_outstanding)
        self._inbox = Inbox(user, remember)
        self._unticked = Unticked(reactor, self._learned)
        self._ids = count(1)
        self._resume: IDelayedCall | None = None
        self._act: dict[type, Callable[[Any], object]] = {
            wire.Pushed: self._pushed,
            wire.SendReply: self._send_answered,
            wire.ReceiptReply: lambda it: self._receipt(it.msg_id, it.client_msg_id, it.status),
            wire.WithdrawNotice: lambda it: self._withdrawn(it.msg_id, it.sender),
            wire.StatesReply: self._unticked.answered,
            wire.WithdrawReply: self._withdraw_answered,
            wire.IdsReply: lambda it: self._ids_answered(list(it.ids)),
            wire.Other: self._answered_with_a_code,
        }

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
        return len(self._requests)

    def send(self, to: int, content: str, format: int = 1, *, client_msg_id: bytes = b"") -> Deferred[SendResult]:
        """Send a message; fires when the gateway has it durably. Fails with Refused, Overfull, or what ended the client.

        `client_msg_id` (16 bytes) is chosen here unless the caller has reasons of his own.
        """
        key = client_msg_id or uuid.uuid4().bytes
        frame = wire.encode_send(key, to, content, format, int(self._now() * 1000))
        if len(frame) > _FRAME_BYTES:
            return fail(Refused(413, f"a message of {len(frame)} bytes is too long"))
        return self._ask(key, frame)

    def withdraw(self, msg_id: int, to: int) -> Deferred[None]:
        """Take back a message that this user sent to `to`. Fires when the gateway has it durably; fails with Refused."""
        return self._ask(msg_id, wire.encode_withdraw(msg_id, to))

    def batch_ids(self) -> Deferred[list[int]]:
        """Fresh message ids, never given to anybody else."""
        return self._ask(_Ids(next(self._ids)), wire.encode_get_msg_ids(self.user))

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
        self._requests.connected(link.send_raw)
        self._unticked.ask(self._requests.doubtful(), link.send_raw, self._requests.resume)

    def connection_lost(self) -> None:
        """Called by the connection."""
        self._unticked.stop()
        self._requests.disconnected()

    def connection_ended(self, error: ClientError) -> None:
        """Called by the connection."""
        if self._resume is not None and self._resume.active():
            self._resume.cancel()
        self._unticked.stop()
        self._requests.fail_all(error)

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

    def _send_answered(self, reply: wire.SendReply) -> None:
        if reply.status != Status.FAILED:
            self._sent(reply.msg_id, reply.client_msg_id)
        elif self._retry_unavailable and reply.code in NOT_NOW:
            self._requests.postpone(reply.client_msg_id)
            if self._resume is None or not self._resume.active():
                self._resume = self._reactor.callLater(_POSTPONED_FOR, self._resumed)
        else:
            self._requests.settle(reply.client_msg_id, Refused(reply.code, reply.msg))

    def _resumed(self) -> None:
        if not self._unticked.is_holding:
            self._requests.resume()

    def _sent(self, msg_id: int, client_msg_id: bytes) -> None:
        if self._requests.settle(client_msg_id, SendResult(msg_id, client_msg_id)):
            self._unticked.sent(client_msg_id, msg_id)

    def _receipt(self, msg_id: int, client_msg_id: bytes, status: int) -> None:
        if status in (Status.DELIVERED, Status.READ):
            self._unticked.ticked(client_msg_id)
        self._tell(self.on_receipt, msg_id, client_msg_id, status)

    def _withdrawn(self, msg_id: int, by: int) -> None:
        if by == self.user:
            self._unticked.withdrawn(msg_id)
        self._tell(self.on_withdrawn, msg_id, by)

    def _learned(self, state: MessageState) -> None:
        """What the gateway says of an own message; of one that it does not know nothing is to be told."""
        if state.state == 0:
            return
        self._sent(state.msg_id, state.client_msg_id)
        if state.state in (Status.DELIVERED, Status.READ):
            self._receipt(state.msg_id, state.client_msg_id, state.state)
        elif state.state > Status.READ:
            self._unticked.ticked(state.client_msg_id)
            self._tell(self.on_withdrawn, state.msg_id, self.user)

    def _withdraw_answered(self, reply: wire.WithdrawReply) -> None:
        self._requests.settle(reply.msg_id, None if reply.success else Refused(reply.code, reply.message))

    def _ids_answered(self, answer: list[int] | Refused) -> None:
        key = self._requests.oldest(_Ids)
        if key is not None:
            self._requests.settle(key, answer)

    def _answered_with_a_code(self, reply: wire.Other) -> None:
        if reply.type in (Command.GET_BATCH_MSG_IDS, Command.PUSH_BATCH_MSG_IDS):
            self._ids_answered(Refused(reply.code, reply.msg))
        elif reply.type in (Command.MSG_STATE_QUERY, Command.MSG_STATE):
            self._unticked.refused(reply.code)

    def _ask(self, key: Any, frame: bytes) -> Deferred[Any]:
        ended = self._connection.ended
        return fail(ended) if ended is not None else self._requests.ask(key, frame)

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
