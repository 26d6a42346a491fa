"""What a client asked for and what becomes of it: answers, second chances, ticks, and what is in doubt after a reconnect."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from itertools import count
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from imconnect.client_requests import NOT_NOW, Refused, Requests
from imconnect.client_states import Unticked
from imconnect.model import MessageState, Status
from imconnect.wire import client_codec as wire
from imconnect.wire.requests import Command

#: Refused sends are tried again after this when the caller wished so (`retry_unavailable`). Seconds.
_POSTPONED_FOR = 1.0


class SendResult(NamedTuple):
    """The gateway has the message, durably, under this id."""

    msg_id: int
    client_msg_id: bytes


class _Ids(int):
    """Key of a request for message ids, whose answer does not say which request it answers."""


class Outgoing:
    """One user's requests. `receipt` (msgId, clientMsgId, status) and `withdrawn` (msgId, by whom) tell the owner."""

    def __init__(
        self,
        reactor: Any,
        user: int,
        *,
        limit: int,
        retry_unavailable: bool,
        receipt: Callable[[int, bytes, int], object],
        withdrawn: Callable[[int, int], object],
    ) -> None:
        self._reactor, self._user = reactor, user
        self._retry_unavailable = retry_unavailable
        self._tell_receipt, self._tell_withdrawn = receipt, withdrawn
        self._requests = Requests(limit)
        self._unticked = Unticked(reactor, self._learned)
        self._ids = count(1)
        self._resume: IDelayedCall | None = None
        #: What is done with each kind of answer.
        self.readers: Mapping[type, Callable[[Any], object]] = {
            wire.SendReply: self._send_answered,
            wire.ReceiptReply: lambda it: self._receipt(it.msg_id, it.client_msg_id, it.status),
            wire.WithdrawNotice: lambda it: self._withdrawn(it.msg_id, it.sender),
            wire.StatesReply: self._unticked.answered,
            wire.WithdrawReply: self._withdraw_answered,
            wire.IdsReply: lambda it: self._ids_answered(list(it.ids)),
            wire.Other: self._answered_with_a_code,
        }

    def __len__(self) -> int:
        return len(self._requests)

    def ask(self, key: Hashable, frame: bytes) -> Deferred[Any]:
        """See `Requests.ask`: a send by its clientMsgId, a withdrawal by its msgId."""
        return self._requests.ask(key, frame)

    def ask_for_ids(self, frame: bytes) -> Deferred[Any]:
        """The same for message ids."""
        return self._requests.ask(_Ids(next(self._ids)), frame)

    def opened(self, write: Callable[[bytes], object]) -> None:
        """There is a connection: what is in doubt is asked about, then everything that waits is written."""
        self._requests.connected(write)
        self._unticked.ask(self._requests.doubtful(), write, self._requests.resume)

    def lost(self) -> None:
        """Nothing can be written for a while."""
        self._unticked.stop()
        self._requests.disconnected()

    def ended(self, error: Exception) -> None:
        """Nothing will be answered any more."""
        if self._resume is not None and self._resume.active():
            self._resume.cancel()
        self._unticked.stop()
        self._requests.fail_all(error)

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
        self._tell_receipt(msg_id, client_msg_id, status)

    def _withdrawn(self, msg_id: int, by: int) -> None:
        if by == self._user:
            self._unticked.withdrawn(msg_id)
        self._tell_withdrawn(msg_id, by)

    def _learned(self, state: MessageState) -> None:
        """What the gateway says of an own message; of one that it does not know nothing is to be told."""
        if state.state == 0:
            return
        self._sent(state.msg_id, state.client_msg_id)
        if state.state in (Status.DELIVERED, Status.READ):
            self._receipt(state.msg_id, state.client_msg_id, state.state)
        elif state.state > Status.READ:
            self._unticked.ticked(state.client_msg_id)
            self._tell_withdrawn(state.msg_id, self._user)

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
