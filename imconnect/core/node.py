"""One gateway node: its parts, wired."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.core.act import Act
from imconnect.core.backfill import Backfill
from imconnect.core.background import Background
from imconnect.core.claims import Claims
from imconnect.core.context import Context, Handlers, Refuse
from imconnect.core.delivery import Delivery
from imconnect.core.dispatch import INTERNAL_ERROR, Dispatch
from imconnect.core.drain import drain
from imconnect.core.gate import Gate
from imconnect.core.hub import Hub
from imconnect.core.others import REPLACED, Between, Others
from imconnect.core.outcome import Outcome
from imconnect.core.pipeline import Pipeline
from imconnect.core.ports import Link, Outbox, PendingStore, Producer
from imconnect.core.recent import Recent, Row, State
from imconnect.core.recovery import recover
from imconnect.core.relay import Relay
from imconnect.core.resend import STEP, Resend
from imconnect.core.session import Session, Stage
from imconnect.core.settings import Settings
from imconnect.errors import Unavailable
from imconnect.model import MAX_ID, Applied, End, Identity, Message, Status
from imconnect.observe.metrics import Metrics
from imconnect.wire.codec import encode_receipt, encode_withdrawal
from imconnect.wire.ids import Snowflake

_log = Logger()

SLOW = 4003
#: Seconds between two rounds of small chores, and how many of them pass between two reservations of ids.
CHORES = 1.0
RESERVE_EVERY = 10


class Node:
    """The core as its edge, its plugin and its tests see it."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now_ms: Callable[[], int],
        settings: Settings,
        node_id: int,
        outbox: Outbox,
        store: PendingStore,
        producer: Producer,
        metrics: Metrics,
        handlers: Handlers,
        refuse: Refuse,
        fits: Callable[[Message], bool],
        between: Between | None = None,
    ) -> None:
        """`between`: the ports to other nodes, where there may be any."""
        self._clock = clock
        self._now_ms = now_ms
        self._settings = settings
        self._outbox = outbox
        self._success = settings.profile.success
        self._chores = 0
        self._reserved = 0
        self.metrics = metrics
        self.ids = Snowflake(node_id, settings.profile.epoch, now_ms, 0)
        # Ids of messages are in the log with them and the others are reserved one by one: there is no limit ahead.
        self.ids.limit_ms = MAX_ID
        self.background = Background(clock)
        self.hub = Hub(settings.connections_per_user, self.slow)
        self.recent = Recent(settings.recent_rows, settings.dedupe_window * 1000, settings.business_lag * 1000, now_ms)
        self.resend = Resend(settings.delays, settings.give_up, settings.unacknowledged_total)
        self.relay = Relay(
            clock=clock,
            outbox=outbox,
            producer=producer,
            background=self.background,
            metrics=metrics,
            moved=self._relayed,
            gather=settings.relay_gather,
        )
        self.pipeline = Pipeline(clock, outbox, metrics, self._durable, self._failed, settings.commit_timeout)
        self.delivery = Delivery(
            clock=clock,
            settings=settings,
            hub=self.hub,
            recent=self.recent,
            resend=self.resend,
            metrics=metrics,
            put=self.pipeline.put,
            room_for_ends=self.room_for_ends,
        )
        self.backfill = Backfill(
            clock=clock,
            now_ms=now_ms,
            settings=settings,
            store=store,
            hub=self.hub,
            recent=self.recent,
            delivery=self.delivery,
            background=self.background,
            slow=self.slow,
            bug=self._bug,
            shown=self._may_be_shown,
        )
        self._act = Act(
            settings=settings,
            hub=self.hub,
            recent=self.recent,
            resend=self.resend,
            delivery=self.delivery,
            backfill=self.backfill,
            metrics=metrics,
            bug=self._bug,
        )
        #: Where acting waits for the broker.
        self.gate: Gate | None = None
        if settings.ack_after_broker:
            self.gate = Gate(self._act, lambda: self.relay.position, self.backfill.hint)
        self.others = self._meet(between) if between is not None else None
        if self.gate is not None:
            # Other nodes too learn of a message when it is as safe as was asked for.
            self.gate.after, self.pipeline.after = self.pipeline.after, []
        context = Context(
            settings=settings,
            recent=self.recent,
            resend=self.resend,
            ids=self.ids,
            fits=fits,
            metrics=metrics,
            now_ms=now_ms,
            room_for_sends=self.room_for_sends,
            room_for_ends=self.room_for_ends,
        )
        self._dispatch = Dispatch(
            clock=clock,
            context=context,
            handlers=handlers,
            refuse=refuse,
            put=self.pipeline.put,
            store=store,
            background=self.background,
            end=self.end,
        )
        self.receive = self._dispatch.receive

    def _meet(self, between: Between) -> Others:
        claims = Claims(
            clock=self._clock,
            index=between.index,
            recent=self.recent,
            settings=self._settings,
            metrics=self.metrics,
        )
        return Others(
            clock=self._clock,
            between=between,
            claims=claims,
            hub=self.hub,
            delivery=self.delivery,
            backfill=self.backfill,
            act=self._act,
            pipeline=self.pipeline,
            background=self.background,
            end=self.end,
            tell=self.tell,
        )

    async def recover(self) -> None:
        """Open the log, go on where an earlier process ended, and turn offline what it left open.

        Before the listener: nobody can be pushed anything yet. Raises Damaged or Unavailable.
        """
        claims = self.others.claims if self.others is not None else None
        resumed = await recover(self._outbox, self.recent, self.metrics, claims, self._settings.profile.epoch)
        self.ids.raise_floor(resumed.floor_ms)
        self._reserved = resumed.reserved_ms
        self.pipeline.last = resumed.last
        self.relay.start(resumed.last, resumed.parked)
        if self.gate is not None:
            self.gate.start(resumed.last, [row for row in self.recent if row.message is not None])

    def start(self) -> None:
        """The timers."""
        self.background.every(STEP, self.delivery.retry, "retry")
        self.background.every(self._settings.watch_interval, self.backfill.watch, "watch")
        self.background.every(CHORES, self._do_chores, "chores")

    def adapt(self, *, commands_per_second: float, burst: int, outbox_max_events: int, drain_rate: float) -> None:
        """Other limits from now on: the ones that are looked up each time they are needed."""
        self._settings = attrs.evolve(
            self._settings,
            commands_per_second=commands_per_second,
            burst=burst,
            outbox_max_events=outbox_max_events,
            drain_rate=drain_rate,
        )
        self._dispatch.settings = self._settings

    async def drain(self) -> None:
        """Ask everybody to leave, then finish what was taken in. What the queue has not taken stays in the log."""
        await drain(self._clock, self.hub, self.end, self._settings.drain_rate, self._settings.drain_deadline)
        await self.pipeline.idle()
        if self.others is not None:
            # Cut off in the middle, nobody would know whether it was taken: it would go offline behind what comes next.
            await self.others.forward.idle()
            await self.pipeline.idle()

    async def stop(self) -> None:
        """End what runs in the background and close the log."""
        self.relay.stop()
        await self.background.stop()
        await self._outbox.close()

    def sign_in(self, identity: Identity, link: Link) -> Session:
        """A client is there: into the hub, behind, and its backfill begins."""
        session = Session(self, identity, link, self._clock.seconds(), self._settings.burst)
        for replaced in self.hub.enter(session):
            self.end(replaced, REPLACED, "replaced")
        if self.others is not None:
            self.others.entered(session)
        else:
            self.backfill.sign_in(session)
        return session

    def end(self, session: Session, code: int = 0, reason: str = "") -> None:
        """A session ends: closed by us with this code, or gone by itself (0)."""
        if session.stage is Stage.ENDED:
            return
        session.stage = Stage.ENDED
        if self.hub.leave(session):
            if self.others is not None:
                self.others.left(session.user)
            self.delivery.user_gone(session.user)
        else:
            self.delivery.give_back(session)
        if code:
            session.link.close(code, reason)

    def slow(self, session: Session) -> None:
        """A client does not read: his messages wait for him."""
        self.end(session, SLOW, "slow reader")

    def tell(self, applied: Applied) -> None:
        """What business has to tell people (the port Pushback). Every node is told everything: only what is about
        people who are here counts."""
        for receipt in applied.receipts:
            if receipt.status >= Status.DELIVERED:
                self._act.ended_in_store(End(*receipt))
            if self.hub.of(receipt.sender):
                self.hub.tell(receipt.sender, encode_receipt(receipt, self._success))
                # Else counted when the ACK was taken in, by the node that took it.
                if receipt.status == Status.STORED or self._settings.profile.receipts_by_gateway:
                    self.metrics.receipts[receipt.status] += 1
        for withdrawal in applied.withdrawals:
            msg_id, sender, receiver = withdrawal
            self._act.ended_in_store(End(msg_id, b"", sender, receiver, State.WITHDRAWN))
            frame = encode_withdrawal(withdrawal, self._success)
            for user in {withdrawal.sender, withdrawal.receiver}:
                self.hub.tell(user, frame)
        self.hub.flush()
        for user in applied.hints:
            if self.hub.of(user):
                self.metrics.hints += 1
                self.backfill.hint(user)

    def refusing(self) -> str:
        """Why sends are refused, at the door or because their commit fails; empty where they are taken."""
        return self._door() if self.pipeline.healthy else "the outbox takes no writes, sends are refused"

    def tell_everywhere(self, applied: Applied) -> None:
        """The same where business is in this process, which alone knows of it: people on other nodes are told too."""
        self.tell(applied)
        if self.others is not None:
            self.others.forward.tell(applied)

    def room_for_sends(self) -> bool:
        """Whether another send may be committed."""
        return not self._door()

    def _door(self) -> str:
        if self.pipeline.stalled:
            return "the outbox is too slow, sends are refused"
        if self.backlog >= self._settings.outbox_max_events:
            return "the outbox is full, sends are refused"
        if self.gate is not None and self.relay.stuck_seconds() >= self._settings.broker_timeout:
            return "the broker takes no events, sends are refused"
        return ""

    def _may_be_shown(self, row: Row) -> bool:
        """Whether a message is as safe as was asked for; after a crash the log has some that are not yet."""
        return self.gate is None or self.gate.may_be_shown(row)

    def room_for_ends(self) -> bool:
        """Whether the outbox takes another ACK, withdrawal or OFFLINE."""
        return self.backlog < 2 * self._settings.outbox_max_events

    @property
    def backlog(self) -> int:
        """Events that the queue has not taken yet, those being committed included."""
        return self.relay.backlog + self.pipeline.events

    def _bug(self, session: Session) -> None:
        self.end(session, INTERNAL_ERROR, "internal error")

    def _durable(self, batch: Sequence[Outcome], first: int) -> None:
        self._act.committed(batch)
        self.relay.durable(self.pipeline.last)
        (self._act if self.gate is None else self.gate).durable(batch, first)

    def _failed(self, batch: Sequence[Outcome]) -> None:
        self._act.committed(batch)
        (self._act if self.gate is None else self.gate).failed(batch)

    def _relayed(self) -> None:
        if self.gate is not None:
            self.gate.moved()

    def _do_chores(self) -> None:
        self.delivery.offline_due()
        self.pipeline.probe()
        self.recent.shed()
        self._outbox.forget(min(self.recent.oldest_number(), self.relay.position + 1))
        self._chores += 1
        if self._chores % RESERVE_EVERY == 0 and self.ids.last_ms > self._reserved:
            # The ids in the log are known from it; this is for the time after they have left it.
            self._reserved = self.ids.last_ms
            self._outbox.reserve(self._reserved).addErrback(self._not_reserved)

    def _not_reserved(self, failure: Failure) -> None:
        failure.trap(Unavailable)
        self._reserved = 0
