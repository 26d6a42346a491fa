"""What a client does not know of its own messages after a reconnect, and asking the gateway about it (MSG_STATE_QUERY)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from imconnect.client_requests import NOT_NOW
from imconnect.model import MessageState
from imconnect.wire.client_codec import StatesReply, encode_state_query

#: clientMsgIds per question (docs/protocol.md).
_PAGE = 100
#: Messages without a tick that are remembered; the oldest are forgotten and then keep the mark that they had.
_REMEMBERED = 1000
#: A gateway that says nothing at all does not know the question. Seconds.
_PATIENCE = 5.0
#: When a refused question is asked again, in seconds: twice as long each time.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0


class Unticked:
    """Own messages that the gateway has and nobody has acknowledged yet; one question at a time about them.

    `told` is called with every answer, also with those to what the caller wanted to know besides.
    """

    def __init__(self, reactor: Any, told: Callable[[MessageState], object]) -> None:
        self._reactor, self._told = reactor, told
        self._sent: dict[bytes, int] = {}
        self._pages: deque[Sequence[bytes]] = deque()
        self._rest: list[bytes] = []
        self._write: Callable[[bytes], object] | None = None
        self._then: Callable[[], object] | None = None
        self._timer: IDelayedCall | None = None
        self._wait = _FIRST_WAIT

    @property
    def is_holding(self) -> bool:
        """Whether `then` of the last `ask` is still to come."""
        return self._then is not None

    def sent(self, client_msg_id: bytes, msg_id: int) -> None:
        """The gateway has this message."""
        self._sent[client_msg_id] = msg_id
        if len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def ticked(self, client_msg_id: bytes) -> None:
        """The receiver has it, or it was taken back: there is nothing more to ask."""
        self._sent.pop(client_msg_id, None)

    def withdrawn(self, msg_id: int) -> None:
        """The same, where only its id is known."""
        for client_msg_id in [key for key, sent in self._sent.items() if sent == msg_id]:
            self.ticked(client_msg_id)

    def ask(self, doubtful: Iterable[bytes], write: Callable[[bytes], object], then: Callable[[], object]) -> None:
        """There is a connection: ask about these first, call `then` (also if they stay doubtful), ask about the rest."""
        self.stop()
        self._write, self._then = write, then
        self._pages.extend(_in_pages(list(doubtful)))
        self._rest = list(self._sent)
        self._next()

    def stop(self) -> None:
        """The connection is gone, or the client."""
        self._write = self._then = None
        self._pages.clear()
        self._settle_timer()

    def answered(self, reply: StatesReply) -> None:
        """The gateway knows."""
        for state in reply.states:
            self._told(state)
        if self._pages and tuple(state.client_msg_id for state in reply.states) == self._pages[0]:
            self._pages.popleft()
            self._wait = _FIRST_WAIT
            self._next()

    def refused(self, code: int) -> None:
        """The gateway does not answer this, or not now. What is held goes on: a repeated send does no harm."""
        if self._then is None and self._pages and code in NOT_NOW:
            self._settle_timer()
            self._timer = self._reactor.callLater(self._wait, self._question)
            self._wait = min(_LONGEST_WAIT, self._wait * 2)
        else:
            self._give_up()

    def _give_up(self) -> None:
        if self._then is None:
            self._rest = []
        self._pages.clear()
        self._next()

    def _next(self) -> None:
        self._settle_timer()
        if not self._pages and self._then is not None:
            then, self._then = self._then, None
            then()
        if not self._pages and self._then is None:
            rest, self._rest = self._rest, []
            self._pages.extend(_in_pages(rest))
        if self._pages:
            self._question()

    def _question(self) -> None:
        self._timer = None
        if self._write is not None:
            self._timer = self._reactor.callLater(_PATIENCE, self._give_up)
            self._write(encode_state_query(self._pages[0]))

    def _settle_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


def _in_pages(client_msg_ids: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(client_msg_ids), _PAGE):
        yield tuple(client_msg_ids[start : start + _PAGE])
