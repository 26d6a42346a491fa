"""What every live test stands on: processes and people that are gone at the end, and logs that are shown on failure."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from twisted.python.components import proxyForInterface
from twisted.trial import itrial, unittest

from imconnect.client import Refused
from tests.live.people import Person
from tests.live.processes import GatewayProcess, Outcome, ServerProcess, run, until
from tests.live.raw import RawClient
from tests.support import ReactorTestCase

P = TypeVar("P", bound=ServerProcess)


class _ShowsLogs(proxyForInterface(itrial.IReporter)):  # type: ignore[misc]
    """Between a test and its reporter: a failed test shows what its processes said."""

    def __init__(self, original: Any, show: Callable[[], None]) -> None:
        super().__init__(original)
        self._show = show

    def addError(self, test: Any, error: Any, *more: Any) -> None:
        self._show()
        self.original.addError(test, error, *more)

    def addFailure(self, test: Any, fail: Any, *more: Any) -> None:
        self._show()
        self.original.addFailure(test, fail, *more)


def missing(what: str) -> None:
    """This machine lacks something: a failure where everything must be there (CI), else the test is skipped."""
    if os.environ.get("CI"):
        raise AssertionError(f"CI must have {what}")
    raise unittest.SkipTest(f"needs {what}")


#: A class of tests and its gateway.
_SHARED: dict[type, GatewayProcess] = {}


@atexit.register
def end_shared() -> None:
    """No class's gateway is left."""
    while _SHARED:
        _SHARED.popitem()[1].end()


class LiveTestCase(ReactorTestCase):
    """One folder per test; `gateway()`, `person()` and `raw()` make what is ended with it."""

    #: trial ends a test that hangs. Every wait inside has a deadline of its own.
    timeout = 120.0
    #: Settings of every gateway here.
    settings: ClassVar[Mapping[str, Any]] = {}

    def run(self, result: Any = None) -> None:
        """As trial does, and with the logs of what failed."""
        reporter = itrial.IReporter(result, None)
        super().run(_ShowsLogs(reporter, self._show_logs) if reporter is not None else result)

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.processes: list[ServerProcess] = []
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        if shutil.which("twistd", path=str(Path(sys.executable).parent)) is None:
            missing(f"twistd beside {sys.executable}")

    # -- what is made

    def process(self, command: Sequence[str], name: str = "", env: Mapping[str, str] | None = None) -> ServerProcess:
        """A command, not started."""
        name = name or f"command-{len(self.processes)}"
        return self._owned(ServerProcess(self.reactor, name, self.folder, command, env))

    async def outcome(self, command: Sequence[str], stdin: bytes = b"", **options: Any) -> Outcome:
        """A command, run to its end."""
        return await run(self.process(command, **options), stdin)

    def gateway(self, settings: Mapping[str, Any] | None = None, **options: Any) -> GatewayProcess:
        """A gateway, not started."""
        name = options.pop("name", f"gateway-{len(self.processes)}")
        settings = {**self.settings, **(settings or {})}
        return self._owned(GatewayProcess(self.reactor, self.folder, settings, name=name, **options))

    async def started(self, settings: Mapping[str, Any] | None = None, **options: Any) -> GatewayProcess:
        """A gateway that takes clients."""
        gateway = self.gateway(settings, **options)
        await gateway.start()
        return gateway

    async def shared(self) -> GatewayProcess:
        """The gateway that the tests of one class have in common: for tests with people of their own, who leave it as
        it was. A start costs more than most tests. It is ended with the next class's, or with this process."""
        kind = type(self)
        gateway = _SHARED.get(kind)
        if gateway is None or gateway.status is not None:
            end_shared()
            gateway = GatewayProcess(self.reactor, self.folder, self.settings, name=f"shared-{kind.__name__}")
            _SHARED[kind] = gateway
            await gateway.start()
        self.processes.append(gateway)
        return gateway

    def person(self, gateway: GatewayProcess, user: int, **options: Any) -> Person:
        """Somebody who has not signed in yet."""
        person = Person(self.reactor, gateway.url, user, **options)
        self.addCleanup(person.leave)
        return person

    async def online(self, gateway: GatewayProcess, user: int, **options: Any) -> Person:
        """Somebody who has."""
        return await self.person(gateway, user, **options).sign_in()

    async def raw(self, gateway: GatewayProcess, user: int | str = "", **options: Any) -> RawClient:
        """A bare connection, signed in if a user is given."""
        raw = await RawClient(self.reactor, **options).connect(gateway.port)
        self.addCleanup(self._dropped, raw)
        return await raw.sign_in(user) if user != "" else raw

    async def refusal(self, asked: Awaitable[Any]) -> Refused:
        """What the gateway says to what it does not take."""
        try:
            result = await asked
        except Refused as refused:
            return refused
        raise self.failureException(f"was taken: {result}")

    async def until(self, check: Callable[[], Any], what: str | Callable[[], str], within: float = 10.0) -> Any:
        return await until(self.reactor, check, what, within)

    # -- what is looked at

    def rows(self, gateway: GatewayProcess, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """A query of the gateway's business.db."""
        with closing(sqlite3.connect(f"file:{gateway.data_dir / 'business.db'}?mode=ro", uri=True, timeout=5)) as db:
            return db.execute(sql, values).fetchall()

    def stored(self, gateway: GatewayProcess, *senders: int) -> dict[int, tuple[uuid.UUID, str, int]]:
        """msgId -> clientMsgId, content, status of every message in the database, or of these senders'."""
        marks = ",".join("?" * len(senders))
        where = f"WHERE from_id IN ({marks})" if senders else ""
        sql = f"SELECT msg_id, client_msg_id, content, msg_status FROM im_c2c_message {where}"
        rows = self.rows(gateway, sql, *senders)
        return {msg_id: (uuid.UUID(key), content, status) for msg_id, key, content, status in rows}

    async def has_status(self, gateway: GatewayProcess, msg_id: int, status: int) -> None:
        """Until the database says so."""
        await self.until(
            lambda: self.rows(gateway, "SELECT 1 FROM im_c2c_message WHERE msg_id=? AND msg_status=?", msg_id, status),
            f"message {msg_id} has status {status}",
        )

    # -- the end

    def _owned(self, process: P) -> P:
        self.processes.append(process)
        self.addCleanup(process.end)
        return process

    async def _dropped(self, raw: RawClient) -> None:
        if not raw.gone:
            raw.drop()
            await raw.until_gone(5)

    def _show_logs(self) -> None:
        for process in getattr(self, "processes", ()):
            sys.stderr.write(f"\n{process.tail()}\n")
