"""The outbox on SQLite."""

from __future__ import annotations

from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.core.ports import Outbox
from tests.contracts.outbox import OutboxContract
from tests.support import ReactorTestCase


class SqliteOutboxContractTests(OutboxContract, ReactorTestCase):
    """The port's contract."""

    def make(self) -> Outbox:
        from twisted.internet import reactor

        return SqliteOutbox(reactor, self.mktemp())

    async def restart(self, outbox: Outbox) -> Outbox:
        from twisted.internet import reactor

        assert isinstance(outbox, SqliteOutbox)
        await outbox.close()
        return SqliteOutbox(reactor, outbox.path)
