"""What a user is owed when he comes back, and the watch that makes sure nobody online waits for a second login."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from imconnect.core.background import Background, sleep, within
from imconnect.core.claims import Claims
from imconnect.core.delivery import Delivery
from imconnect.core.hub import Hub
from imconnect.core.ports import PendingStore
from imconnect.core.recent import Recent, Row
from imconnect.core.session import Session, Stage
from imconnect.core.settings import Settings
from imconnect.errors import Unavailable
from imconnect.model import Message
from imconnect.wire.codec import encode_withdrawal

_log = Logger()

#: Withdrawals told at login: the newest of a week (interface.md section 3).
NOTICES = 200
NOTICE_DAYS_MS = 7 * 86400 * 1000
#: Signed-in users per question of the watch.
USERS = 500
#: No user has this id.
NOBODY = 0
#: Seconds between two looks at a connection that has not taken the last page yet.
CONGESTED = 0.05


class Backfill:
    """Brings sessions up to date with the store, page by page, before live messages reach them."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now_ms: Callable[[], int],
        settings: Settings,
        store: PendingStore,
        hub: Hub,
        recent: Recent,
        delivery: Delivery,
        background: Background,
        slow: Callable[[Session], None],
        bug: Callable[[Session], None],
        shown: Callable[[Row], bool],
    ) -> None:
        self._clock = clock
        self._now_ms = now_ms
        self._settings = settings
        self._store = store
        self._hub = hub
        self._recent = recent
        self._delivery = delivery
        self._background = background
        self._slow = slow
        self._bug = bug
        #: Whether a row of `recent` may be shown already.
        self._shown = shown
        self._watching = False
        #: What has ended on other nodes can be asked for; None where there are none.
        self.claims: Claims | None = None
        #: When the oldest message was accepted that somebody online is owed; None where there is none.
        self.oldest_owed: int | None = None
        #: False while the store did not answer the last question.
        self.store_answers = True

    def sign_in(self, session: Session) -> None:
        """A session has entered the hub, behind."""
        session.backfilling = True
        self._background.run(self._catch_up(session, first=True), "backfill")

    def again(self, session: Session) -> None:
        """There may be something in the store that this session has not had."""
        if session.backfilling:
            session.reread = True
        elif session.stage in (Stage.LIVE, Stage.FULL):
            session.stage = Stage.BEHIND
            session.backfilling = True
            self._background.run(self._catch_up(session, first=False), "backfill")

    def hint(self, user: int) -> None:
        """Business says that this user is owed something new."""
        for session in tuple(self._hub.of(user)):
            if session.stage is not Stage.FULL:
                self.again(session)

    def young(self, user: int, seconds: float) -> list[Message]:
        """What this user is owed, for so long at most, and the store may not know yet."""
        since = self._now_ms() - seconds * 1000
        rows = [row for row in self._recent.owed(user) if row.created >= since and self._shown(row)]
        return [row.message for row in rows if row.message is not None]

    def watch(self) -> None:
        """Ask what has been owed for a while to those who are here, and backfill whoever has not had it."""
        if not self._watching:
            self._watching = True
            self._background.run(self._watch(), "watch")

    async def _catch_up(self, session: Session, first: bool) -> None:
        try:
            if first:
                await self._notices(session)
            await self._until_nothing_is_owed(session)
        except Unavailable as error:
            self._store_is_away(error)
            # Without a page, but not without what ended elsewhere.
            await self._ask_ends(session, [])
        except CancelledError:
            raise
        except Exception:
            _log.failure("a backfill failed")
            self._bug(session)
        finally:
            session.backfilling = False
        if session.stage is Stage.BEHIND:
            # In one reactor turn with the last page: what comes next is live.
            self._delivery.catch_up_waiting(session)
            session.stage = Stage.LIVE
            if len(session.open) >= self._settings.unacknowledged:
                session.stage = Stage.FULL
            self._hub.flush()

    async def _until_nothing_is_owed(self, session: Session) -> None:
        while session.stage is Stage.BEHIND:
            # What was pushed does not wait for the next page: it may end meanwhile.
            self._hub.flush()
            session.reread = False
            unknown = await self._unknown(session)
            if not await self._pages(session) or session.reread:
                continue
            if await self._rest(session, unknown) and not session.reread:
                return

    async def _unknown(self, session: Session) -> list[Message]:
        """What this node has for him and the store does not know: accepted here, or taken from another node. Asked
        before the pages: what it knows by then is in them."""
        found = {row.msg_id: row.message for row in self._recent.owed(session.user) if self._shown(row)}
        if self.claims is not None:
            found.update(self._delivery.held_for(session.user))
        if not found:
            return []
        known = await within(self._store.known(list(found)), self._settings.backfill_timeout, self._clock)
        return [message for msg_id, message in sorted(found.items()) if msg_id not in known and message is not None]

    async def _pages(self, session: Session) -> bool:
        """Push what is owed; -> whether everything was read (False: the session is full or has ended)."""
        after = 0
        while True:
            await self._taken(session)
            session.drop_had()
            asked = self._store.owed(session.user, after, self._settings.page)
            page = await within(asked, self._settings.backfill_timeout, self._clock)
            self.store_answers = True
            await self._ask_ends(session, [owed.message.msg_id for owed in page])
            for message, offline in page:
                if not self._room(session):
                    return False
                if not self._recent.ended(message.msg_id) and not session.had(message.msg_id):
                    self._delivery.push_owed(session, message, offline)
            if len(page) < self._settings.page:
                # The last one. What the store has learned since waits in the queue, or somebody hints at it: asking
                # until nothing comes would go on for ever where messages come faster than answers.
                return True
            after = page[-1].message.msg_id
            self._hub.flush()

    async def _rest(self, session: Session, messages: Sequence[Message]) -> bool:
        """Push what the store does not know, at the pace of the pages; -> whether all of it was."""
        await self._ask_ends(session, [message.msg_id for message in messages])
        for start in range(0, len(messages), self._settings.page):
            if start:
                self._hub.flush()
                await self._taken(session)
            for message in messages[start : start + self._settings.page]:
                if not self._room(session):
                    return False
                # It may have ended while the pages were read.
                if not self._recent.ended(message.msg_id) and not session.had(message.msg_id):
                    self._delivery.push_owed(session, message, offline=False)
        return True

    async def _ask_ends(self, session: Session, msg_ids: Sequence[int]) -> None:
        """Asked after the page was read: what ended on another node meanwhile is neither shown from it nor from the
        queue behind it."""
        if self.claims is not None:
            # What was pushed before does not wait for the answer: it may end meanwhile.
            self._hub.flush()
            waiting = [message.msg_id for message, _ in session.waiting]
            for msg_id in await self.claims.ended(session.user, [*msg_ids, *waiting]):
                self._delivery.ended_elsewhere(session.user, msg_id)

    def _room(self, session: Session) -> bool:
        """Whether this session takes another message; one that is full falls out of its backfill."""
        if session.stage is Stage.BEHIND and len(session.open) >= self._settings.unacknowledged:
            session.stage = Stage.FULL
            self._delivery.give_back(session)
            self._hub.flush()
        return session.stage is Stage.BEHIND

    async def _taken(self, session: Session) -> None:
        """Wait until the client has taken the last page; one that never does is a slow reader."""
        deadline = self._clock.seconds() + self._settings.backfill_timeout
        while session.stage is Stage.BEHIND and session.link.congested():
            if self._clock.seconds() > deadline:
                self._slow(session)
                return
            await sleep(self._clock, CONGESTED)

    async def _notices(self, session: Session) -> None:
        since = self._now_ms() - NOTICE_DAYS_MS
        asked = self._store.notices(session.user, since, NOTICES)
        for withdrawal in await within(asked, self._settings.backfill_timeout, self._clock):
            self._hub.say(session, encode_withdrawal(withdrawal, self._settings.profile.success))
        self._hub.flush()

    async def _watch(self) -> None:
        oldest: int | None = None
        full: dict[Session, None] = {}
        try:
            # A store that is away is asked also where nobody is here: whether it is back must not wait for a login.
            users = self._hub.signed_in() or ([] if self.store_answers else [NOBODY])
            before = self._now_ms() - int(self._settings.watch_interval * 1000)
            for start in range(0, len(users), USERS):
                asked = self._store.overdue(users[start : start + USERS], before, self._settings.unacknowledged + 1)
                rows = await within(asked, self._settings.backfill_timeout, self._clock)
                for user, msg_id, created in rows:
                    if self._recent.ended(msg_id) or not self._hub.of(user):
                        continue
                    oldest = created if oldest is None else min(oldest, created)
                    full.update(dict.fromkeys(self._look_at(user, msg_id)))
            for session in full:
                await self._count_open(session)
            self.oldest_owed = oldest
            self.store_answers = True
        except Unavailable as error:
            self._store_is_away(error)
        finally:
            self._watching = False

    def _look_at(self, user: int, msg_id: int) -> list[Session]:
        """Whoever has not had this message is backfilled; -> those who are too full for it."""
        missing = [session for session in self._hub.of(user) if not session.had(msg_id)]
        for session in missing:
            if session.stage is Stage.LIVE:
                self.again(session)
        return [session for session in missing if session.stage is Stage.FULL]

    async def _count_open(self, session: Session) -> None:
        """What a full session was shown may have been acknowledged through another node: that is not open any more."""
        shown, limit = sorted(session.open), self._settings.unacknowledged
        # Asked before the pages: what the store learns in between is not mistaken for what has ended.
        known = await within(self._store.known(shown), self._settings.backfill_timeout, self._clock)
        while shown and len(session.open) > limit // 2:
            asked = self._store.owed(session.user, shown[0] - 1, limit)
            page = await within(asked, self._settings.backfill_timeout, self._clock)
            owed = {message.msg_id for message, _ in page}
            decided = max(owed) if len(page) == limit else shown[-1]
            for msg_id in known - owed:
                if shown[0] <= msg_id <= decided:
                    session.acknowledge(msg_id)
            shown = [msg_id for msg_id in shown if msg_id > decided]
        if session.stage is Stage.FULL and len(session.open) <= limit // 2:
            self.again(session)

    def _store_is_away(self, error: Unavailable) -> None:
        if self.store_answers:
            self.store_answers = False
            _log.warn("the store does not answer, people see what they missed when it does: {why}", why=str(error))
