"""No database: a Java im-business keeps one that the gateway cannot read."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from imconnect.model import Overdue, Owed, Stored, Withdrawal

_log = Logger()


class NoPendingStore:
    """`core.ports.PendingStore`, and a part of the service tree that says at start what is missing.

    Nobody is owed anything that this node does not remember itself, and nobody knows what it has forgotten: business
    checks the rights then.
    """

    def start(self) -> None:
        _log.warn(
            "business.database is empty: what people missed is not shown at their login, but for what this gateway "
            "accepted within limits.business_lag; clients read the history elsewhere"
        )

    def stop(self) -> None:
        """Nothing to do."""

    def owed(self, user: int, after: int, limit: int) -> Deferred[Sequence[Owed]]:
        return succeed([])

    def known(self, msg_ids: Collection[int]) -> Deferred[set[int]]:
        return succeed(set())

    def overdue(self, users: Collection[int], before: int, per_user: int) -> Deferred[Sequence[Overdue]]:
        return succeed([])

    def find(self, msg_id: int) -> Deferred[Stored | None]:
        return succeed(None)

    def states(self, user: int, client_msg_ids: Collection[bytes]) -> Deferred[Sequence[Stored]]:
        return succeed([])

    def notices(self, user: int, since: int, limit: int) -> Deferred[Sequence[Withdrawal]]:
        return succeed([])

    def close(self) -> Deferred[None]:
        return succeed(None)
