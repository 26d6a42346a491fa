"""The database that business keeps: the same in a gateway and in imbusiness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger

from imconnect.backends.sql.engine import make_engine, sqlite_path
from imconnect.backends.sql.migrate import SchemaTooNew, SchemaTooOld, check_file, ensure_schema
from imconnect.backends.store_sql import SqlStore
from imconnect.backends.threads import Pool
from imconnect.business.service import BusinessRules
from imconnect.config import Config
from imconnect.config.profiles import terms_of
from imconnect.core.background import Background, sleep, within
from imconnect.errors import ConfigError, Unavailable

_log = Logger()

#: Seconds until a database that is away at the start is tried again; doubles up to the second figure.
FIRST_RETRY, LAST_RETRY = 0.5, 10.0
#: Seconds for which a start that goes on without the database waits for its first answer.
FIRST_ANSWER = 5.0

IfAway = Literal["fail", "wait", "go on"]
_T = TypeVar("_T")


class Writer:
    """The thread on which the rules are applied (`backends.calls.Calls`); refuses until the schema is in place."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        #: Why it refuses; empty: it does not.
        self.closed = "the database was not asked yet"

    def run(self, function: Callable[..., _T], /, *args: Any) -> Deferred[_T]:
        """Errback: also Unavailable."""
        if self.closed:
            return fail(Unavailable(self.closed))
        return self._pool.run(function, *args)


class Database:
    """A part of the service tree: one engine, and one thread that writes, on which the rules are applied.

    `if_away` says what becomes of the start when the database is away: it fails, it waits, or it goes on without and
    the database is tried in the background. ConfigError for a bad URL, Damaged for a file that cannot be ours.
    """

    def __init__(
        self, reactor: Any, config: Config, url_or_path: str, now_ms: Callable[[], int], *, if_away: IfAway = "fail"
    ) -> None:
        self._reactor = reactor
        self.now_ms = now_ms
        #: Why it could not be used at the start; empty once it can, and before the first attempt.
        self.away = ""
        self.engine = make_engine(url_or_path, config.outbox.sync)
        if self.engine.dialect.name == "sqlite":
            check_file(sqlite_path(self.engine))
        self._if_away = if_away
        self._pool = Pool(reactor, "business", 1)
        self.writer = Writer(self._pool)
        self.rules = BusinessRules(SqlStore(self.engine), now_ms, terms_of(config))
        self._background = Background(reactor)
        self._tried: Deferred[None] = Deferred()
        self._waiting: list[Callable[[], object]] = []

    async def start(self) -> None:
        """The schema is in place; or, where the start goes on without, will be.

        Errors: Damaged, ConfigError (an older schema: which command upgrades it), Unavailable.
        """
        self._pool.start()
        if self._if_away != "go on":
            await self._bring()
            return
        self._background.run(self._bring(), "the database")
        try:
            await within(self._tried, FIRST_ANSWER, self._reactor)
        except Unavailable as error:
            self._is_away(str(error))

    async def stop(self) -> None:
        await self._background.stop()
        await self._pool.stop()
        self.engine.dispose()

    def when_there(self, call: Callable[[], object]) -> None:
        """Call it as soon as the database can be written to; at once if it can."""
        if self.writer.closed:
            self._waiting.append(call)
        else:
            call()

    async def _bring(self) -> None:
        wait = FIRST_RETRY
        while not await self._ensured():
            self._has_tried()
            await sleep(self._reactor, wait)
            wait = min(LAST_RETRY, wait * 2)
        self.writer.closed = ""
        if self.away:
            self.away = ""
            _log.info("the database is there")
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()
        self._has_tried()

    async def _ensured(self) -> bool:
        try:
            await self._pool.run(ensure_schema, self.engine)
        except (SchemaTooOld, SchemaTooNew) as error:
            if self._if_away != "go on":
                raise ConfigError("business.database", str(error)) from None
            self._is_away(f"business.database: {error}")
        except Unavailable as error:
            if self._if_away == "fail":
                raise
            self._is_away(str(error))
        except CancelledError:
            raise
        except Exception as error:
            if self._if_away != "go on":
                raise
            # A driver's, or our bug: clients are served all the same.
            if not self.away:
                _log.failure("making the schema failed")
            self._is_away(type(error).__name__)
        else:
            return True
        return False

    def _has_tried(self) -> None:
        if not self._tried.called:
            self._tried.callback(None)

    def _is_away(self, why: str) -> None:
        if not self.away:
            what = "the start waits for the database" if self._if_away == "wait" else "starting without the database"
            _log.warn("{what}: {why}", what=what, why=why)
        elif why != self.away:
            _log.warn("still without the database: {why}", why=why)
        self.away = self.writer.closed = why
