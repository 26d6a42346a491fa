"""More bugs to plant (see `bugs.py`): between nodes."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from imconnect.core.backfill import Backfill
from imconnect.core.claims import Claims
from imconnect.core.delivery import Delivery
from imconnect.core.forward import Forward
from imconnect.core.late import Late
from imconnect.core.others import REPLACED, Others
from imconnect.core.outcome import Outcome
from imconnect.core.session import Session
from imconnect.model import Claimed, End, Handed, Message
from tests.simulation.bugs import Bug, Patch


def answered_from_a_provisional_claim(patch: Patch) -> None:
    """A repeat through another node is answered although nobody knows whether the first will be durable."""
    decide = Claims._decide_anew

    def hasty(self: Claims, outcome: Outcome, message: Message, claimed: Claimed) -> None:
        decide(self, outcome, message, claimed._replace(settled=True))

    patch(Claims, "_decide_anew", hasty)


def settled_before_the_commit(patch: Patch) -> None:
    """A claim is called durable when its batch is about to be committed."""
    before = Claims.before

    def hasty(self: Claims, batch: Sequence[Outcome]) -> Deferred[None]:
        return before(self, batch).addCallback(lambda _: self.after(batch, True))

    patch(Claims, "before", hasty)


def late_ones_stay_behind(patch: Patch) -> None:
    """What went offline, or is not over, does not travel ahead of the next message."""
    patch(Late, "take", lambda self, user, now: [])
    patch(Forward, "_first", lambda self, user, items: [])


def kicked_without_turns(patch: Patch) -> None:
    """Whoever is told that a device came elsewhere ends its own session, whichever is newer."""

    def always(self: Others, session: Session) -> None:
        if session.kicked:
            self._end(session, REPLACED, "replaced")

    patch(Others, "_kick", always)


def ends_not_asked_after_a_page(patch: Patch) -> None:
    """What the store owes is shown, whatever the index has seen end."""

    async def nothing(self: Backfill, session: Session, msg_ids: Sequence[int]) -> None:
        return None

    patch(Backfill, "_ask_ends", nothing)


def ends_told_to_senders_only(patch: Patch) -> None:
    """Other nodes of the receiver go on pushing what he has acknowledged."""

    def senders(self: Forward, end: End) -> None:
        self._best_effort(end.sender, end)

    patch(Forward, "end", senders)


def handed_over_twice_is_shown_twice(patch: Patch) -> None:
    """The answer to the first time was lost: it comes again, and nobody looks whether it was shown."""
    take = Delivery.take

    def forgetting(self: Delivery, handed: Handed) -> bool:
        for session in self._hub.of(handed.message.receiver):
            session.open.discard(handed.message.msg_id)
        return take(self, handed)

    patch(Delivery, "take", forgetting)


NODE_BUGS: Sequence[Bug] = (
    answered_from_a_provisional_claim,
    settled_before_the_commit,
    late_ones_stay_behind,
    kicked_without_turns,
    ends_not_asked_after_a_page,
    ends_told_to_senders_only,
    handed_over_twice_is_shown_twice,
)
