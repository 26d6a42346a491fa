"""Decide: frames become requests, requests become outcomes. The three ways to end are handled here and only here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from imconnect.core.background import Background, within
from imconnect.core.context import Context, Handlers, NotAsked, Refuse
from imconnect.core.outcome import AskStore, Outcome
from imconnect.core.ports import PendingStore
from imconnect.core.session import Session, Stage
from imconnect.errors import CommandError, Disconnect, Unavailable
from imconnect.wire.codec import decode
from imconnect.wire.requests import Ack, KeepAlive, Request, Send

_log = Logger()

FLOOD = 4008
INTERNAL_ERROR = 1011


class Dispatch:
    """Takes all frames of one read, in order, and puts what was decided into the pipeline."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        context: Context,
        handlers: Handlers,
        refuse: Refuse,
        put: Callable[[Outcome], None],
        store: PendingStore,
        background: Background,
        end: Callable[[Session, int, str], None],
    ) -> None:
        self._clock = clock
        self._context = context
        #: Replaced where a running node is told other limits.
        self.settings = context.settings
        self._handlers = handlers
        self._refuse = refuse
        self._put = put
        self._store = store
        self._background = background
        self._end = end

    def receive(self, session: Session, payloads: Sequence[bytes]) -> None:
        """All binary messages of one read."""
        settings = self.settings
        now = self._clock.seconds()
        allowed = session.spend(len(payloads), now, settings.commands_per_second, settings.burst)
        for index, payload in enumerate(payloads):
            if session.stage is Stage.ENDED:
                return
            try:
                request = decode(payload)
                if index >= allowed:
                    raise CommandError(429, "too many commands", "flood")
                if type(request) is not KeepAlive:
                    self._decide(session, request, NotAsked)
            except CommandError as error:
                self._refused(session, request, error)
            except Disconnect as error:
                self._end(session, error.code, error.reason)
            except Exception:
                self._bug(session)
        if session.flood < 0:
            self._end(session, FLOOD, "flood")
        elif session.pending > settings.pending_commands and not session.paused:
            session.paused = True
            session.link.pause()

    def _decide(self, session: Session, request: Request, stored: Any) -> None:
        try:
            outcome = self._handlers[type(request)](self._context, session, request, stored)
        except AskStore as question:
            self._ask(session, request, question)
            return
        if outcome is not None:
            self._queue(session, outcome)

    def _queue(self, session: Session, outcome: Outcome) -> None:
        outcome.session = session
        session.pending += 1
        self._put(outcome)

    def _refused(self, session: Session, request: Request, error: CommandError) -> None:
        if type(request) is Send:
            self._context.metrics.sends_refused[error.reason] += 1
        error.code = self.settings.profile.code(error.code)
        reply = self._refuse(session, request, error)
        if reply:
            self._queue(session, Outcome(reply=reply))

    def _ask(self, session: Session, request: Request, question: AskStore) -> None:
        if not session.may_look_up(self._clock.seconds(), self.settings.lookups_per_second):
            if type(request) is Ack:
                self._context.metrics.acks_ignored["lookups"] += 1
                return
            raise CommandError(429, "too many unknown messages", "flood")
        session.pending += 1
        self._background.run(self._decide_with_store(session, request, question), "look-up")

    async def _decide_with_store(self, session: Session, request: Request, question: AskStore) -> None:
        try:
            stored = await within(question.ask(self._store), self.settings.backfill_timeout, self._clock)
        except Unavailable:
            stored = None
        except CancelledError:
            raise
        except Exception:
            self._bug(session)
        finally:
            session.answered(self.settings.pending_commands)
        if session.stage is Stage.ENDED:
            return
        try:
            self._decide(session, request, stored)
        except CommandError as error:
            self._refused(session, request, error)
        except Disconnect as error:
            self._end(session, error.code, error.reason)
        except Exception:
            self._bug(session)

    def _bug(self, session: Session) -> None:
        _log.failure("a request could not be decided")
        self._end(session, INTERNAL_ERROR, "internal error")
