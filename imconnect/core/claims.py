"""Whose is a clientMsgId, when a user has several nodes: asked before a batch is committed, settled after.

Provisional until the batch is durable, so nobody is ever answered from a claim whose message may not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.core.background import within
from imconnect.core.outcome import Outcome
from imconnect.core.ports import SentIndex
from imconnect.core.recent import Recent
from imconnect.core.settings import Settings
from imconnect.errors import Unavailable
from imconnect.events.values import Acknowledged, Offlined, Sent, Withdrawn
from imconnect.model import Claim, Claimed, Message
from imconnect.observe.metrics import Metrics
from imconnect.wire.codec import encode_send_ack, encode_send_refusal

_log = Logger()

#: Seconds that one round trip may take, and for which the index is not asked after it did not answer.
DEADLINE, AWAY = 0.2, 1.0


class Claims:
    """One round trip before the commit of a batch and one after it; neither ever fails."""

    def __init__(
        self, *, clock: IReactorTime, index: SentIndex, recent: Recent, settings: Settings, metrics: Metrics
    ) -> None:
        self._clock = clock
        self._index = index
        self._recent = recent
        self._profile = settings.profile
        self._metrics = metrics
        self._away_until = 0.0
        self.answers = True

    def before(self, batch: Sequence[Outcome]) -> Deferred[None]:
        """Claim what is sent; what was sent before, through another node, is decided anew in place."""
        sends = [(outcome, event.message) for outcome in batch for event in _sent(outcome)]
        if not sends or self._clock.seconds() < self._away_until:
            self._metrics.sends_unclaimed += len(sends)
            return succeed(None)
        asked = within(self._index.claim([_claim(message) for _, message in sends]), DEADLINE, self._clock)

        def answered(answers: Sequence[Claimed | None]) -> None:
            self._is_back()
            for (outcome, message), claimed in zip(sends, answers, strict=True):
                if claimed is not None:
                    self._decide_anew(outcome, message, claimed)

        def away(failure: Failure) -> None:
            self._metrics.sends_unclaimed += len(sends)
            self._trap(failure)

        return asked.addCallbacks(answered, away)

    def after(self, batch: Sequence[Outcome], durable: bool) -> Deferred[None]:
        """The batch is durable, or was not committed."""
        # Under another node's claim (then it is offline too) nothing was claimed that could be given back.
        mine = [outcome for outcome in batch if durable or len(outcome.events) == 1]
        claims = [_claim(event.message) for outcome in mine for event in _sent(outcome)]
        ended = [end for outcome in batch for end in _ended(outcome)] if durable else []
        if not (claims or ended) or self._clock.seconds() < self._away_until:
            return succeed(None)
        told = self._index.settle(claims, ended) if durable else self._index.release(claims)
        return within(told, DEADLINE, self._clock).addCallbacks(lambda _: self._is_back(), self._trap)

    async def ended(self, user: int, msg_ids: Collection[int]) -> set[int]:
        """Which of these have ended for this user on any node, as far as the index answers."""
        if not msg_ids or self._clock.seconds() < self._away_until:
            return set()
        try:
            found = await within(self._index.ended(user, msg_ids), DEADLINE, self._clock)
        except Unavailable as error:
            self._is_away(str(error))
            return set()
        self._is_back()
        return found

    def _decide_anew(self, outcome: Outcome, message: Message, claimed: Claimed) -> None:
        row = self._recent.repeat_of(message.sender, message.client_msg_id)
        outcome.deliveries = ()
        if claimed.digest != digest(message):
            code = self._profile.code(409)
            why = "this clientMsgId was used for another message"
            outcome.events = ()
            outcome.reply = encode_send_refusal(message.client_msg_id, message.sender, message.receiver, code, why)
            self._metrics.sends_refused["conflict"] += 1
        elif claimed.settled:
            outcome.events = ()
            outcome.reply = self._ack(message, claimed.msg_id)
            self._metrics.sends_duplicate += 1
        else:
            # Its fate is not known: durable here too, under the same id, and offline, because whoever claimed it may
            # push it. Business shows it only if it is still owed.
            outcome.reply = self._ack(message, claimed.msg_id) if self._profile.stored_by_gateway else b""
            message = message._replace(msg_id=claimed.msg_id)
            outcome.events = (Sent(message), Offlined(message))
        if row is not None:
            # Repeats that wait for its fate are answered alike.
            row.answer = outcome.reply
            if outcome.events:
                self._recent.renumber(row, message)
            else:
                self._recent.disown(row)

    def _ack(self, message: Message, msg_id: int) -> bytes:
        return encode_send_ack(message.client_msg_id, msg_id, message.receiver, message.sender, self._profile.success)

    def _is_back(self) -> None:
        if not self.answers:
            self.answers = True
            _log.info("the index of what was sent answers again")

    def _trap(self, failure: Failure) -> None:
        failure.trap(Unavailable)
        self._is_away(failure.getErrorMessage())

    def _is_away(self, why: str) -> None:
        self._away_until = self._clock.seconds() + AWAY
        if self.answers:
            self.answers = False
            _log.warn(
                "the index of what was sent does not answer, a repeat through another node may be stored twice: {why}",
                why=why,
            )


def digest(message: Message) -> bytes:
    """Tells whether a repeat has the same content; the same on every node."""
    head = b"%d:%d:" % (message.receiver, message.format)
    return blake2b(head + message.content.encode(), digest_size=8).digest()


def _claim(message: Message) -> Claim:
    return Claim(message.sender, message.client_msg_id, message.msg_id, digest(message))


def _sent(outcome: Outcome) -> Sequence[Sent]:
    return [event for event in outcome.events if type(event) is Sent]


def _ended(outcome: Outcome) -> Sequence[tuple[int, int]]:
    # Where nobody here could check the rights, business decides.
    return [
        (event.receiver, event.msg_id)
        for event in outcome.events
        if isinstance(event, Acknowledged | Withdrawn) and not event.by_business
    ]
