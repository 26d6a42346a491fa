"""What a node has to do with the other nodes: who is where, what is handed over, what has ended elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from imconnect.core.act import Act
from imconnect.core.backfill import Backfill
from imconnect.core.background import Background, within
from imconnect.core.claims import Claims
from imconnect.core.delivery import Delivery
from imconnect.core.forward import Forward
from imconnect.core.hub import Hub
from imconnect.core.late import SECONDS
from imconnect.core.outcome import Outcome
from imconnect.core.pipeline import FAILED, Pipeline
from imconnect.core.ports import Peer, Presence, SentIndex
from imconnect.core.routes import DEADLINE, Routes
from imconnect.core.session import Session, Stage
from imconnect.errors import Unavailable
from imconnect.model import Applied, Kick, Parcel

REPLACED = 4001


@attrs.frozen(kw_only=True)
class Between:
    """The ports between nodes. A node alone has none of them."""

    presence: Presence
    peer: Peer
    index: SentIndex


class Others:
    """One per node that is not alone."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        between: Between,
        claims: Claims,
        hub: Hub,
        delivery: Delivery,
        backfill: Backfill,
        act: Act,
        pipeline: Pipeline,
        background: Background,
        end: Callable[[Session, int, str], None],
        tell: Callable[[Applied], None],
    ) -> None:
        self._clock = clock
        self._presence = between.presence
        self._hub = hub
        self._delivery = delivery
        self._backfill = backfill
        self._act = act
        self._background = background
        self._end = end
        self._tell = tell
        self.claims = claims
        self.routes = Routes(clock, between.presence)
        self.forward = Forward(
            clock=clock,
            peer=between.peer,
            routes=self.routes,
            background=background,
            passed=delivery.passed,
            nobody=delivery.nobody,
            missed=delivery.late_for,
            unsettled=lambda user: backfill.young(user, SECONDS),
        )
        delivery.forward = self.forward
        act.forward = self.forward
        backfill.claims = claims
        pipeline.before = claims.before
        pipeline.after.append(self._settled)

    def entered(self, session: Session) -> None:
        """A session is in the hub: its route is written before the store is asked, then nothing falls between."""
        self._background.run(self._enter(session), "presence")

    def left(self, user: int) -> None:
        """A user's last session here has ended."""
        self._presence.leave(user)

    def take(self, parcel: Parcel) -> list[bool]:
        """What another node has for the people here; -> for each message whether this node has it now."""
        for kick in parcel.kicks:
            for session in tuple(self._hub.of(kick.user)):
                if session.identity.device == kick.device:
                    session.kicked = max(session.kicked, kick.turn)
                    self._kick(session)
        for end in parcel.ends:
            self._act.ended_elsewhere(end)
        self._tell(parcel.applied)
        taken = []
        for handed in parcel.messages:
            if handed.late:
                # It may have ended long ago: it goes through a backfill, and what comes next waits behind it.
                for session in tuple(self._hub.of(handed.message.receiver)):
                    if session.stage is Stage.LIVE and not session.had(handed.message.msg_id):
                        self._backfill.again(session)
            taken.append(self._delivery.take(handed))
        self._hub.flush()
        return taken

    def _settled(self, batch: Sequence[Outcome], first: int) -> Deferred[None]:
        return self.claims.after(batch, first != FAILED)

    async def _enter(self, session: Session) -> None:
        user, device = session.identity
        try:
            entered = await within(self._presence.enter(user, device), DEADLINE, self._clock)
        except Unavailable:
            # Alone for now: presence writes the route when it is back, and the watch brings what went astray.
            pass
        else:
            # Who has left meanwhile replaces nobody: whom he would have replaced may be the only one who stays.
            if session.stage is not Stage.ENDED:
                session.turn = entered.turn
                if device and entered.nodes:
                    self.forward.kick(Kick(user, device, entered.turn), entered.nodes)
                self._kick(session)
        if session.stage is not Stage.ENDED:
            self._backfill.sign_in(session)

    def _kick(self, session: Session) -> None:
        """A newer login of this device elsewhere ends this one; which is newer is known when both turns are."""
        if session.turn is not None and session.turn < session.kicked:
            self._end(session, REPLACED, "replaced")
