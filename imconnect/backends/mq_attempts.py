"""How often and in which pieces entries are offered to a queue, and what its answers mean for the outbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from imconnect.backends.mq_outgoing import Outgoing
from imconnect.core.background import sleep
from imconnect.core.ports import Answer
from imconnect.errors import Unavailable
from imconnect.rocketmq.codes import Outcome, Response
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import MAX_BATCH, Receipt
from imconnect.rocketmq.routes import Queue

#: Seconds between the first and the second attempt; each further wait is twice as long.
PAUSE = 0.1
#: What a message may take in a batch beside its body: properties and lengths, generously.
_BESIDE_BODY = 512
#: The label of an answer that never came.
NO_ANSWER = "none"

#: Sends these to the queue, in order, and says what became of each; nothing after the first that is neither stored
#: nor refused for good.
Offer = Callable[[Queue, Sequence[Message]], Deferred[list[Receipt]]]


class Attempts:
    """`times` attempts at every entry. `accept_unproven`: FLUSH_DISK_TIMEOUT and FLUSH_SLAVE_TIMEOUT are good enough."""

    def __init__(self, clock: IReactorTime, offer: Offer, times: int, *, accept_unproven: bool = False) -> None:
        self._clock = clock
        self._offer = offer
        self._times = times
        self._accept_unproven = accept_unproven
        self.in_flight = 0
        #: Why requests were sent again: the broker's code, or NO_ANSWER.
        self.codes: Counter[str] = Counter()
        #: Events that count as stored although the broker did not prove it, by its code.
        self.unproven: Counter[str] = Counter()
        self.closing = False

    async def send(self, queue: Queue, entries: Sequence[Outgoing]) -> list[Answer]:
        """One answer per entry, in order. Raises Unavailable where not even the first got one."""
        answers: list[Answer] = []
        why = ""
        for attempt in range(self._times):
            if attempt:
                await sleep(self._clock, PAUSE * 2.0 ** min(attempt - 1, 6))
            if self.closing:
                why = "the queue is closed"
                break
            why = await self._attempt(queue, entries[len(answers) :], answers)
            if len(answers) == len(entries):
                return answers
        if not answers:
            raise Unavailable(f"{queue}: {why}")
        return answers + [Answer(entry.number, False) for entry in entries[len(answers) :]]

    async def _attempt(self, queue: Queue, entries: Sequence[Outgoing], answers: list[Answer]) -> str:
        """Add an answer for each entry up to the first that has to be sent again; why it has."""
        for piece in _pieces(entries):
            messages = [entry.message for entry in piece if entry.message is not None]
            if not messages:
                answers += [Answer(entry.number, False, entry.refused) for entry in piece]
                continue
            self.in_flight += 1
            try:
                receipts = await self._offer(queue, messages)
            except Unavailable as error:
                return str(error)
            finally:
                self.in_flight -= 1
            for entry, receipt in zip(piece, receipts, strict=True):
                answer = self._judge(entry.number, receipt)
                if answer is None:
                    return receipt.reason or f"code {receipt.code}"
                answers.append(answer)
        return ""

    def _judge(self, number: int, receipt: Receipt) -> Answer | None:
        """None: it has to be sent again."""
        if receipt.outcome is Outcome.STORED:
            return Answer(number, True)
        if receipt.outcome is Outcome.PERMANENT:
            code = "" if receipt.code is None else f"code {receipt.code}: "
            return Answer(number, False, f"{code}{receipt.reason}")
        label = NO_ANSWER if receipt.code is None else str(int(receipt.code))
        # Without a live slave a second copy of the same master helps nobody.
        if receipt.outcome is Outcome.UNPROVEN and (
            self._accept_unproven or receipt.code == Response.SLAVE_NOT_AVAILABLE
        ):
            self.unproven[label] += 1
            return Answer(number, True)
        self.codes[label] += 1
        return None


def _pieces(entries: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """What travels in one request: nothing of a later piece leaves before every answer of the earlier ones is good."""
    piece: list[Outgoing] = []
    size = 0
    for entry in entries:
        room = 0 if entry.message is None else len(entry.message.body) + _BESIDE_BODY
        alone = entry.message is None or (piece and piece[-1].message is None)
        if piece and (alone or size + room > MAX_BATCH):
            yield piece
            piece, size = [], 0
        piece.append(entry)
        size += room
    if piece:
        yield piece
