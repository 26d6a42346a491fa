"""Where a durable message goes: to its receiver's sessions here, or offline. No branch ends in a log line only."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReactorTime

from imconnect.core.forward import Forward
from imconnect.core.hub import Hub
from imconnect.core.late import Late
from imconnect.core.outcome import Outcome
from imconnect.core.recent import Recent, State
from imconnect.core.resend import Resend, Waiting
from imconnect.core.session import Session, Stage
from imconnect.core.settings import ALWAYS_EVENTS, Settings
from imconnect.events.values import Offlined
from imconnect.model import Handed, Message
from imconnect.observe.metrics import Metrics
from imconnect.wire.codec import encode_push


class Delivery:
    """Pushes, remembers what is not acknowledged, and turns offline what cannot be pushed."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        settings: Settings,
        hub: Hub,
        recent: Recent,
        resend: Resend,
        metrics: Metrics,
        put: Callable[[Outcome], None],
        room_for_ends: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._hub = hub
        self._recent = recent
        self._resend = resend
        self._metrics = metrics
        self._put = put
        self._room_for_ends = room_for_ends
        #: The way to the other nodes; None where there are none.
        self.forward: Forward | None = None
        self._late = Late()
        #: Offlinings that could not be committed yet, by msgId.
        self._due: dict[int, Message] = {}
        #: Offlinings that are being committed, msgId -> why: nobody is told twice.
        self._offlining: dict[int, str] = {}

    def deliver(self, message: Message) -> None:
        """A message is durable: push it to each of its receiver's sessions, here and elsewhere, or turn it offline."""
        sessions = self._hub.of(message.receiver)
        taken = bool(sessions) and self._show(sessions, message, "live")
        if taken:
            self._keep_to_total()
        if self.forward is not None and self._deliver_elsewhere(self.forward, message, taken):
            return
        if not taken:
            self.offline((message,), "behind" if sessions else "absent")

    def take(self, handed: Handed) -> bool:
        """Another node hands a message over; -> whether this node has it now, and runs its clock."""
        message = handed.message
        sessions = self._hub.of(message.receiver)
        if not sessions:
            return False
        if self._recent.ended(message.msg_id) or self._show(sessions, message, "forwarded", handed.late):
            self._keep_to_total()
            return True
        return False

    def _show(self, sessions: Iterable[Session], message: Message, kind: str, late: bool = False) -> bool:
        """Push a message, or queue it behind a backfill; -> whether any of these sessions has it, or will."""
        frame = encode_push(message, self._settings.profile.success)
        taken = False
        for session in sessions:
            if session.had(message.msg_id):
                # Handed over twice, because the answer to the first time was lost; or the store was faster than the
                # broker's answer. Nobody runs its clock any more where it has been given up meanwhile.
                if self._resend.get(message.msg_id) is not None:
                    self._resend.hold(message, frame, late)
                    taken = True
            elif session.stage is Stage.LIVE:
                self.push(session, self._resend.hold(message, frame, late), kind)
                taken = True
            elif session.stage is Stage.BEHIND and session.wait(message, frame, self._settings.outgoing_bytes):
                self._resend.hold(message, frame, late)
                taken = True
            else:
                # Whatever fits after it must not pass it: this one comes by the store, or by `recent`, first.
                session.reread = True
        return taken

    def _deliver_elsewhere(self, forward: Forward, message: Message, here: bool) -> bool:
        """Put it on its way to the other nodes of its receiver; False where there are none."""
        if not forward.may_be_elsewhere(message.receiver):
            return False
        if not forward.is_down(message.receiver):
            for late in self._late.take(message.receiver, self._clock.seconds()):
                if not self._recent.ended(late.msg_id):
                    forward.deliver(late, here, late=True)
        return forward.deliver(message, here)

    def passed(self, message: Message) -> None:
        """Another node has taken a message that nobody has here."""
        row = self._recent.get(message.msg_id)
        if row is not None:
            row.passed = True

    def late_for(self, message: Message) -> None:
        """A node on which its receiver is does not have this message: it travels ahead of the next one to him."""
        if self.forward is not None:
            self._late.add(message, self._clock.seconds())

    def nobody(self, message: Message) -> None:
        """No other node has taken a message that nobody has here."""
        self.offline((message,), "absent")

    def push(self, session: Session, entry: Waiting, kind: str) -> None:
        """Write one message to one session; it is in `resend` before it is written."""
        self._resend.pushed(entry, self._clock.seconds())
        session.open.add(entry.message.msg_id)
        self._metrics.pushes[kind] += 1
        self._hub.say(session, entry.frame)
        if session.stage is Stage.LIVE and len(session.open) >= self._settings.unacknowledged:
            session.stage = Stage.FULL

    def push_owed(self, session: Session, message: Message, offline: bool) -> None:
        """Push what a backfill found."""
        entry = self._resend.get(message.msg_id)
        if entry is None:
            frame = encode_push(message, self._settings.profile.success)
            entry = self._resend.hold(message, frame, offline)
        self.push(session, entry, "backfill")
        self._keep_to_total()

    def catch_up_waiting(self, session: Session) -> None:
        """Write what waited behind the backfill, without what the session has had or must not show any more."""
        for message, frame in session.take_waiting():
            if not self._recent.ended(message.msg_id) and not session.had(message.msg_id):
                entry = self._resend.get(message.msg_id) or self._resend.hold(message, frame)
                self.push(session, entry, "live")

    def give_back(self, session: Session) -> None:
        """A session that gets nothing for now: what waited in its queue, and nowhere else, is turned offline."""
        for message, _ in session.take_waiting():
            entry = self._resend.get(message.msg_id)
            if entry is not None and not entry.pushed:
                self._resend.end(message.msg_id)
                self.offline((message,), "behind")

    def ended_elsewhere(self, user: int, msg_id: int) -> None:
        """The index says that this has ended on another node: no session here is shown it, nor asked again."""
        self._resend.end(msg_id)
        for session in self._hub.of(user):
            session.acknowledge(msg_id)

    def held_for(self, user: int) -> dict[int, Message]:
        """What this user was pushed here, or is about to be, and has not acknowledged."""
        return {entry.message.msg_id: entry.message for entry in self._resend.of(user)}

    def retry(self) -> None:
        """Push again what is due; what was pushed often enough is turned offline, once."""
        again, given_up = self._resend.due(self._clock.seconds())
        for entry in again:
            msg_id = entry.message.msg_id
            for session in self._hub.of(entry.message.receiver):
                if session.stage is Stage.LIVE or msg_id in session.open:
                    self.push(session, entry, "resend")
            # Counted from now also where nobody could be pushed to: a session that is behind gets it by its backfill.
            self._resend.pushed(entry, self._clock.seconds())
        self.offline((entry.message for entry in given_up if not entry.offline), "unacknowledged")
        self._hub.flush()

    def user_gone(self, user: int) -> None:
        """The last session of a user here has ended: what he has not acknowledged is offline, at once and in order."""
        self.offline(self._resend.user_gone(user), "gone")

    def offline(self, messages: Iterable[Message], reason: str) -> None:
        """Commit OFFLINE events, in order, of what has not ended and is not offline already."""
        for message in messages:
            row = self._recent.get(message.msg_id)
            if (row is not None and row.state is not State.OPEN) or message.msg_id in self._offlining:
                continue
            # At once, not when the event is durable: the next message may be faster.
            self.late_for(message)
            if not self._settings.profile.offline_always and reason not in ALWAYS_EVENTS:
                # No row: the store has brought it, so it is owed without us.
                if row is not None:
                    row.state = State.OFFLINE
                continue
            if not self._room_for_ends():
                self._due[message.msg_id] = message
                continue
            self._offlining[message.msg_id] = reason
            self._put(Outcome(events=(Offlined(message),)))

    def offlined(self, message: Message) -> None:
        """An OFFLINE event is durable."""
        reason = self._offlining.pop(message.msg_id, None)
        if reason is not None:
            self._metrics.offline[reason] += 1

    def offline_failed(self, message: Message) -> None:
        """The commit of an offlining failed: it stays due."""
        self._offlining.pop(message.msg_id, None)
        self._due[message.msg_id] = message

    def offline_due(self) -> None:
        """Try again what stayed due."""
        if self._due and self._room_for_ends():
            due, self._due = self._due, {}
            self.offline(due.values(), "due")

    def _keep_to_total(self) -> None:
        if len(self._resend) > self._settings.unacknowledged_total:
            self.offline(self._resend.overflow(), "unacknowledged_total")

    @property
    def due(self) -> int:
        return len(self._due)
