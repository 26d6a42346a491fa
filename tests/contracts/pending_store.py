"""What every PendingStore answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imconnect.business.service import BusinessRules
from imconnect.business.store import Store
from imconnect.core.ports import PendingStore
from imconnect.events.values import Event
from imconnect.model import Overdue, Owed, Stored, Withdrawal
from tests.business.made import ANN, BEN, CAT, NOW, T0, ack, client_id, message, offlined, sent, withdraw
from tests.support import TestCase

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object


class PendingStoreContract(_Base):
    """Mix into a TestCase; give it `make`. Answers come at once."""

    def make(self) -> tuple[Store, PendingStore]:
        """A new, empty store and what reads it."""
        raise NotImplementedError

    def setUp(self) -> None:
        store, self.pending = self.make()
        self.now = NOW
        self.business = BusinessRules(store, lambda: self.now)

    def apply(self, *events: Event) -> None:
        self.business.apply(events)

    def owed(self, user: int, after: int = 0, limit: int = 100) -> list[int]:
        return [row.message.msg_id for row in self.successResultOf(self.pending.owed(user, after, limit))]

    def test_owed(self) -> None:
        """The whole message, with the server's time, and whether it is offline."""
        self.apply(sent(7), offlined(8))
        self.assertEqual(
            list(self.successResultOf(self.pending.owed(BEN, 0, 10))),
            [Owed(message(7), False), Owed(message(8), True)],
        )

    def test_owed_in_pages(self) -> None:
        """In the order of msg_id, above the given one, at most the limit; each user his own."""
        self.apply(*(sent(i) for i in (9, 3, 7, 5)), sent(4, receiver=CAT))
        self.assertEqual(self.owed(BEN, 0, 2), [3, 5])
        self.assertEqual(self.owed(BEN, 5, 2), [7, 9])
        self.assertEqual(self.owed(BEN, 9, 2), [])
        self.assertEqual(self.owed(CAT), [4])
        self.assertEqual(self.owed(ANN), [])

    def test_ended_is_not_owed(self) -> None:
        """What was acknowledged or withdrawn is not in the page, and does not shorten it."""
        self.apply(*(sent(i) for i in range(1, 7)), ack(1, 3), ack(2, 4), withdraw(3))
        self.assertEqual(self.owed(BEN, 0, 3), [4, 5, 6])

    def test_no_client_id(self) -> None:
        """A message without a clientMsgId is shown with an empty one."""
        self.apply(sent(7, client=b""))
        (row,) = self.successResultOf(self.pending.owed(BEN, 0, 10))
        self.assertEqual(row.message.client_msg_id, b"")

    def test_known(self) -> None:
        """Which there are, whatever their state."""
        self.apply(sent(1), sent(2), sent(3), ack(2, 4), withdraw(3), ack(4, 3))
        self.assertEqual(self.successResultOf(self.pending.known([1, 2, 3, 4, 5])), {1, 2, 3})
        self.assertEqual(self.successResultOf(self.pending.known([])), set())

    def test_known_of_many(self) -> None:
        """More ids than one statement takes."""
        self.apply(*(sent(i) for i in range(1, 1301)))
        self.assertEqual(self.successResultOf(self.pending.known(range(1, 2000))), set(range(1, 1301)))

    def test_overdue(self) -> None:
        """The oldest first, those created before the time, at most so many per user, of the asked users only."""
        self.apply(*(sent(i) for i in (1, 2, 3, 4)), sent(10, receiver=CAT), sent(11, receiver=ANN), ack(1, 3))
        found = self.successResultOf(self.pending.overdue([BEN, CAT], T0 + 11, 2))
        self.assertEqual(list(found), [Overdue(BEN, 2, T0 + 2), Overdue(BEN, 3, T0 + 3), Overdue(CAT, 10, T0 + 10)])
        found = self.successResultOf(self.pending.overdue([BEN, CAT], T0 + 3, 2))
        self.assertEqual(list(found), [Overdue(BEN, 2, T0 + 2)])
        self.assertEqual(list(self.successResultOf(self.pending.overdue([], T0 + 99, 2))), [])

    def test_overdue_by_creation(self) -> None:
        """Oldest is by the server's time: ids of two nodes need not follow it."""
        self.apply(sent(5, created=T0 + 1), sent(4, created=T0 + 2))
        found = self.successResultOf(self.pending.overdue([BEN], T0 + 99, 1))
        self.assertEqual([row.msg_id for row in found], [5])

    def test_overdue_of_many_users(self) -> None:
        """More users than one statement takes."""
        self.apply(*(sent(i, receiver=10_000 + i) for i in range(1, 702)))
        found = self.successResultOf(self.pending.overdue(range(10_001, 10_702), T0 + 5000, 1))
        self.assertEqual([row.msg_id for row in found], list(range(1, 702)))

    def test_find(self) -> None:
        """Whose message, its status and whether it was withdrawn; None where nobody knows it."""
        self.apply(sent(7), ack(7, 3), sent(8), withdraw(8))
        find = self.pending.find
        self.assertEqual(self.successResultOf(find(7)), Stored(7, client_id(7), ANN, BEN, 3, False))
        self.assertEqual(self.successResultOf(find(8)), Stored(8, client_id(8), ANN, BEN, 1, True))
        self.assertIsNone(self.successResultOf(find(9)))

    def test_states(self) -> None:
        """What a user sent under these clientMsgIds: his own only, whatever became of it."""
        self.apply(sent(1), sent(2), ack(2, 4), sent(3), withdraw(3), offlined(4), sent(5))
        asked = [client_id(msg_id) for msg_id in (1, 2, 3, 4, 6)]
        found = self.successResultOf(self.pending.states(ANN, asked))
        self.assertEqual(
            sorted(found),
            [
                Stored(1, client_id(1), ANN, BEN, 1, False),
                Stored(2, client_id(2), ANN, BEN, 4, False),
                Stored(3, client_id(3), ANN, BEN, 1, True),
                Stored(4, client_id(4), ANN, BEN, 2, False),
            ],
        )
        self.assertEqual(list(self.successResultOf(self.pending.states(BEN, asked))), [])
        self.assertEqual(list(self.successResultOf(self.pending.states(ANN, []))), [])
        once = self.successResultOf(self.pending.states(ANN, [client_id(1)] * 3))
        self.assertEqual([row.msg_id for row in once], [1])

    def test_states_of_many(self) -> None:
        """More clientMsgIds than one statement takes."""
        self.apply(*(sent(i) for i in range(1, 702)))
        found = self.successResultOf(self.pending.states(ANN, [client_id(i) for i in range(1, 1000)]))
        self.assertEqual(sorted(row.msg_id for row in found), list(range(1, 702)))

    def test_notices(self) -> None:
        """Not older than asked for, the newest few, the oldest of them first."""
        for msg_id in (7, 6, 9, 8):
            self.now += 10
            self.apply(sent(msg_id), withdraw(msg_id))
        self.apply(sent(20, receiver=CAT), withdraw(20))

        def notices(since: int, limit: int) -> list[int]:
            rows = self.successResultOf(self.pending.notices(BEN, since, limit))
            self.assertEqual([(row.sender, row.receiver) for row in rows], [(ANN, BEN)] * len(rows))
            return [row.msg_id for row in rows]

        self.assertEqual(notices(0, 200), [7, 6, 9, 8])
        self.assertEqual(notices(NOW + 20, 200), [6, 9, 8])
        self.assertEqual(notices(0, 2), [9, 8])
        self.assertEqual(list(self.successResultOf(self.pending.notices(CAT, 0, 5))), [Withdrawal(20, ANN, CAT)])

    def test_close(self) -> None:
        """Closing comes to an end."""
        self.assertIsNone(self.successResultOf(self.pending.close()))
