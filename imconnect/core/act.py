"""Act: what may be seen outside, once a batch is durable; and what must be told when it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from imconnect.core.backfill import Backfill
from imconnect.core.delivery import Delivery
from imconnect.core.forward import Forward
from imconnect.core.hub import Hub
from imconnect.core.outcome import Outcome
from imconnect.core.recent import Recent, State
from imconnect.core.resend import Resend
from imconnect.core.session import Session, Stage
from imconnect.core.settings import Settings
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import End, Receipt
from imconnect.observe.metrics import Metrics
from imconnect.wire.codec import encode_receipt

_log = Logger()


class Act:
    """Runs one batch in one reactor turn, outcome by outcome, then writes once per session."""

    def __init__(
        self,
        *,
        settings: Settings,
        hub: Hub,
        recent: Recent,
        resend: Resend,
        delivery: Delivery,
        backfill: Backfill,
        metrics: Metrics,
        bug: Callable[[Session], None],
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._recent = recent
        self._resend = resend
        self._delivery = delivery
        self._backfill = backfill
        self._metrics = metrics
        self._bug = bug
        #: The way to the other nodes; None where there are none.
        self.forward: Forward | None = None

    def committed(self, batch: Sequence[Outcome]) -> None:
        """The fate of these is known: they hold up nobody's reading any more."""
        for outcome in batch:
            if outcome.session is not None:
                outcome.session.answered(self._settings.pending_commands)

    def durable(self, batch: Sequence[Outcome], first: int) -> None:
        """The events of this batch are in the log, numbered from `first`."""
        following = first
        for outcome in batch:
            number, following = following, following + len(outcome.events)
            try:
                for at, event in enumerate(outcome.events, number):
                    self._settle(at, event)
                self._answer(outcome)
                for message in outcome.deliveries:
                    self._delivery.deliver(message)
            except Exception:
                _log.failure("an outcome could not act")
                if outcome.session is not None:
                    self._bug(outcome.session)
        self._hub.flush()

    def failed(self, batch: Sequence[Outcome]) -> None:
        """The events of this batch are not in the log: sends and withdrawals are refused, ACKs dropped."""
        for outcome in batch:
            for event in outcome.events:
                if type(event) is Sent:
                    self._recent.fail(event.message)
                elif type(event) is Offlined and outcome.session is None:
                    # Else it belongs to a send, and is refused with it.
                    self._delivery.offline_failed(event.message)
            self._answer(outcome, refused=bool(outcome.events or outcome.reserve))
        self._hub.flush()

    def ended_in_store(self, end: End) -> None:
        """Business has applied an ACK or a withdrawal: another node's, or of a message that was not known here then."""
        self._recent.end_elsewhere(end)
        self._not_shown(end)

    def _answer(self, outcome: Outcome, refused: bool = False) -> None:
        session = outcome.session
        if session is None:
            return
        original = outcome.repeats
        if original is not None:
            refused = original.state is State.FAILED
            if not refused:
                self._metrics.sends_duplicate += 1
        if refused and (original is not None or outcome.deliveries):
            self._metrics.sends_refused["unavailable"] += 1
        if refused:
            payload = outcome.refusal
        elif original is not None and original.answer:
            payload = original.answer
        else:
            payload = outcome.late() if outcome.late else outcome.reply
        if payload:
            self._hub.say(session, payload)

    def _settle(self, number: int, event: Event) -> None:
        changed = self._recent.settle(number, event)
        if isinstance(event, Sent):
            self._metrics.sends_accepted += 1
        elif isinstance(event, Offlined):
            self._delivery.offlined(event.message)
        elif event.by_business:
            # Nobody here could check the rights; but he himself says that he has it.
            if type(event) is Acknowledged:
                self._has(event.receiver, event.msg_id)
        elif changed:
            self._end(event)

    def _has(self, user: int, msg_id: int) -> None:
        for session in tuple(self._hub.of(user)):
            session.acknowledge(msg_id)
            if session.stage is Stage.FULL and len(session.open) <= self._settings.unacknowledged // 2:
                self._backfill.again(session)

    def ended_elsewhere(self, end: End) -> None:
        """Another node has committed the end of a message that this one may be pushing, or whose sender is here."""
        if self._recent.end_elsewhere(end):
            self._ended(end)

    def _end(self, event: Acknowledged | Withdrawn) -> None:
        status = State.WITHDRAWN
        if type(event) is Acknowledged:
            status = State(event.status)
            self._metrics.receipts[event.status] += 1
        end = End(event.msg_id, event.client_msg_id, event.sender, event.receiver, status)
        self._ended(end)
        if self.forward is not None:
            self.forward.end(end)

    def _not_shown(self, end: End) -> None:
        """Nobody is shown it any more: not by a retry, not from a queue, not from a page."""
        self._resend.end(end.msg_id)
        self._has(end.receiver, end.msg_id)

    def _ended(self, end: End) -> None:
        """The same, and its sender is told."""
        self._not_shown(end)
        if end.status != State.WITHDRAWN and self._settings.profile.receipts_by_gateway:
            self._hub.tell(end.sender, encode_receipt(Receipt(*end), self._settings.profile.success))
