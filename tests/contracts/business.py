"""What business does to a store, whatever the store is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imconnect.business.rows import Changes
from imconnect.business.rules import Terms
from imconnect.business.service import BusinessRules
from imconnect.business.store import Store
from imconnect.events.values import Event
from imconnect.model import Applied, Receipt, Withdrawal
from tests.business.made import ANN, BEN, CAT, NOW, T0, Everything, ack, client_id, offlined, sent, withdraw
from tests.support import TestCase

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object


class RulesContract(_Base):
    """Mix a suite into a TestCase; give it `make` and `rows`."""

    def make(self) -> Store:
        """A new, empty store."""
        raise NotImplementedError

    def rows(self) -> Everything:
        """What the store holds."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.store = self.make()
        self.now = NOW
        self.business = self.rules()

    def rules(self, terms: Terms | None = None) -> BusinessRules:
        return BusinessRules(self.store, lambda: self.now, terms)

    def apply(self, *events: Event) -> Applied:
        return self.business.apply(events)

    def status(self, msg_id: int) -> int:
        return next(row.msg_status for row in self.rows().messages if row.msg_id == msg_id)

    def owed(self) -> list[tuple[int, int]]:
        return [(row.user_id, row.msg_id) for row in self.rows().owed]

    def unread(self, user: int = BEN) -> int:
        return sum(row.unread_count for row in self.rows().sessions if row.user_id == user)


class MessagesContract(RulesContract):
    """Storing."""

    def test_send_is_stored(self) -> None:
        """A message has its row, both people their session, and its receiver is owed it."""
        self.assertEqual(self.apply(sent(7)), Applied())
        rows = self.rows()
        (stored,) = rows.messages
        self.assertEqual(
            (stored.msg_id, stored.client_msg_id, stored.from_id, stored.to_id, stored.chat_id),
            (7, client_id(7), ANN, BEN, "100-1-1001-1002"),
        )
        self.assertEqual(
            (stored.content, stored.msg_format, stored.msg_status, stored.withdrawn, stored.msg_create_time),
            ("hello, 世界 😀", 1, 1, False, T0 + 7),
        )
        self.assertEqual(
            [(s.user_id, s.peer_id, s.last_msg_id, s.last_msg_time, s.unread_count) for s in rows.sessions],
            [(ANN, BEN, 7, T0 + 7, 0), (BEN, ANN, 7, T0 + 7, 1)],
        )
        self.assertEqual([tuple(row) for row in rows.owed], [(BEN, 7, T0 + 7)])
        self.assertEqual(self.business.counts.messages, 1)

    def test_repeat_changes_nothing(self) -> None:
        """The same event again, in the same batch or later, also after its end, leaves everything as it is."""
        self.apply(sent(7), sent(7))
        self.apply(ack(7, 4))
        before = self.rows()
        self.apply(sent(7))
        self.assertEqual(self.rows(), before)
        self.assertEqual(self.unread(), 0)
        self.assertEqual(self.owed(), [])
        self.assertEqual(self.business.counts.repeats, 2)
        self.assertEqual(self.business.counts.parked, 0)

    def test_no_client_id(self) -> None:
        """Messages without a clientMsgId are never repeats of each other."""
        self.apply(sent(7, client=b""), sent(8, client=b""))
        self.apply(sent(9, client=b""))
        self.assertEqual([row.client_msg_id for row in self.rows().messages], [b"", b"", b""])

    def test_late_duplicate(self) -> None:
        """The same clientMsgId and content under a new msgId: the first is kept, nothing is owed for the second."""
        self.apply(sent(7))
        applied = self.apply(sent(8, client=client_id(7)), offlined(8, client=client_id(7)))
        self.assertEqual(applied, Applied())
        self.assertEqual([row.msg_id for row in self.rows().messages], [7])
        self.assertEqual(self.owed(), [(BEN, 7)])
        self.assertEqual(self.unread(), 1)
        self.assertEqual((self.business.counts.late_duplicates, self.business.counts.parked), (2, 0))

    def test_late_duplicate_in_one_batch(self) -> None:
        """Both in one batch: the first of it is kept."""
        self.apply(sent(7), sent(8, client=client_id(7)))
        self.assertEqual([row.msg_id for row in self.rows().messages], [7])

    def test_same_client_id_of_another_sender(self) -> None:
        """clientMsgIds of different people have nothing to do with each other."""
        self.apply(sent(7), sent(8, sender=CAT, client=client_id(7)))
        self.assertEqual([row.msg_id for row in self.rows().messages], [7, 8])

    def test_note_to_oneself(self) -> None:
        """It has one session, and counts as unread until it is read."""
        self.apply(sent(7, receiver=ANN))
        self.assertEqual([(s.user_id, s.peer_id, s.unread_count) for s in self.rows().sessions], [(ANN, ANN, 1)])
        self.assertEqual(self.owed(), [(ANN, 7)])
        self.apply(ack(7, 4, actor=ANN))
        self.assertEqual(self.unread(ANN), 0)

    def test_session_only_climbs(self) -> None:
        """An older message that comes late moves neither the last id nor the last time back."""
        self.apply(sent(9))
        self.apply(sent(7))
        self.assertEqual({(s.last_msg_id, s.last_msg_time) for s in self.rows().sessions}, {(9, T0 + 9)})
        self.assertEqual(self.unread(), 2)

    def test_session_climbs_apart(self) -> None:
        """The last id and the last time climb each on its own: clocks of two nodes differ."""
        self.apply(sent(9, created=T0))
        self.apply(sent(7, created=T0 + 50))
        self.assertEqual({(s.last_msg_id, s.last_msg_time) for s in self.rows().sessions}, {(9, T0 + 50)})

    def test_many_at_once(self) -> None:
        """A batch larger than one statement's keys."""
        self.apply(*(sent(i) for i in range(1, 1201)))
        self.apply(*(ack(i, 4) for i in range(1, 1101)))
        self.assertEqual(len(self.rows().messages), 1200)
        self.assertEqual(len(self.owed()), 100)
        self.assertEqual(self.unread(), 100)

    def test_empty_batch(self) -> None:
        """Nothing is nothing."""
        self.assertEqual(self.apply(), Applied())


class StatusContract(RulesContract):
    """Acknowledging, offlining, withdrawing."""

    def test_status_only_climbs(self) -> None:
        """Delivered after read, or offline after delivered, changes nothing."""
        self.apply(sent(7))
        for event, status in ((offlined(7), 2), (ack(7, 3), 3), (offlined(7), 3), (ack(7, 4), 4), (ack(7, 3), 4)):
            self.apply(event)
            self.assertEqual(self.status(7), status)

    def test_ack_ends_owing(self) -> None:
        """Delivered: not owed any more, still unread. Read: not unread either, once."""
        self.apply(sent(7), sent(8))
        self.apply(ack(7, 3))
        self.assertEqual((self.owed(), self.unread()), ([(BEN, 8)], 2))
        self.apply(ack(7, 4))
        self.apply(ack(7, 4))
        self.assertEqual((self.owed(), self.unread()), ([(BEN, 8)], 1))

    def test_ack_in_the_same_batch(self) -> None:
        """A message that ends in the batch it came in is never owed."""
        self.apply(sent(7), ack(7, 4), sent(8), withdraw(8))
        self.assertEqual((self.owed(), self.unread()), ([], 0))

    def test_unread_never_below_zero(self) -> None:
        """A count that somebody else has put to 0 stays there."""
        self.apply(sent(7))
        with self.store.transaction() as unit:
            (session,) = unit.load_sessions([(BEN, "100-1-1001-1002")])
            session.unread_count = 0
            unit.save(Changes(changed_sessions=[session]))
        self.apply(ack(7, 4))
        self.assertEqual(self.unread(), 0)

    def test_failed_is_never_left(self) -> None:
        """A message with status -1 keeps it."""
        self.apply(sent(7))
        with self.store.transaction() as unit:
            (row,) = unit.load_messages([7], [])
            row.msg_status = -1
            unit.save(Changes(changed_messages=[row]))
        self.apply(ack(7, 3), offlined(7), ack(7, 4))
        self.assertEqual(self.status(7), -1)

    def test_offline_of_a_known_message(self) -> None:
        """Status 2 and a hint for its receiver; neither owed rows nor the unread count change."""
        self.apply(sent(7))
        applied = self.apply(offlined(7))
        self.assertEqual(applied, Applied(hints=(BEN,)))
        self.assertEqual((self.status(7), self.owed(), self.unread()), (2, [(BEN, 7)], 1))

    def test_offline_of_an_unknown_message(self) -> None:
        """It is stored like a send, with status 2; the send that comes later is a repeat."""
        applied = self.apply(offlined(7))
        self.assertEqual(applied, Applied(hints=(BEN,)))
        self.assertEqual((self.status(7), self.owed(), self.unread()), (2, [(BEN, 7)], 1))
        self.apply(sent(7))
        self.assertEqual((self.status(7), self.owed(), self.unread()), (2, [(BEN, 7)], 1))

    def test_one_hint_per_user(self) -> None:
        """However many messages of a batch are offline, their receiver is hinted once; an ended one hints nobody."""
        applied = self.apply(offlined(7), offlined(8), offlined(9, receiver=CAT), sent(10, receiver=ANN))
        self.assertEqual(applied.hints, (BEN, CAT))
        self.apply(ack(7, 3))
        self.assertEqual(self.apply(offlined(7)).hints, ())

    def test_only_the_receiver_acknowledges(self) -> None:
        """An ACK of anybody else is ignored and counted, not parked, and nobody is told."""
        self.apply(sent(7))
        applied = self.apply(ack(7, 4, actor=CAT, by_business=True), ack(7, 4, actor=ANN, by_business=True))
        self.assertEqual(applied, Applied())
        self.assertEqual((self.status(7), self.owed()), (1, [(BEN, 7)]))
        self.assertEqual((self.business.counts.not_entitled, self.business.counts.parked), (2, 0))

    def test_receipts(self) -> None:
        """Told where the gateway asks for it, once per message and status, and only when the status climbed."""
        self.apply(sent(7))
        self.assertEqual(self.apply(ack(7, 3)).receipts, ())
        self.assertEqual(self.apply(ack(7, 3, by_business=True)).receipts, ())
        # `sender` is what the client claims; the receipt names who it was.
        applied = self.apply(ack(7, 4, sender=CAT, by_business=True), ack(7, 4, by_business=True))
        self.assertEqual(applied.receipts, (Receipt(7, client_id(7), ANN, BEN, 4),))

    def test_always_tell(self) -> None:
        """In profile xzll business tells every receipt, still once."""
        self.business = self.rules(Terms(always_tell=True))
        self.apply(sent(7))
        applied = self.apply(ack(7, 3), ack(7, 3), ack(7, 4))
        self.assertEqual([receipt.status for receipt in applied.receipts], [3, 4])

    def test_tell_stored(self) -> None:
        """In profile xzll business tells senders that their messages are stored: once per batch and message."""
        self.business = self.rules(Terms(tell_stored=True))
        stored = [Receipt(number, client_id(number), ANN, BEN, 1) for number in (7, 8)]
        self.assertEqual(self.apply(sent(7), offlined(7), sent(8)).receipts, tuple(stored))
        # The first telling may have died with the process: a repeat tells again. Turning offline is none.
        self.assertEqual(self.apply(sent(7), sent(7)).receipts, (stored[0],))
        self.assertEqual(self.apply(offlined(8)).receipts, ())
        self.assertEqual([receipt.msg_id for receipt in self.apply(offlined(9)).receipts], [9])
        self.assertEqual(self.apply(ack(7, 3, by_business=False)).receipts, ())

    def test_tell_stored_event_by_event(self) -> None:
        """A batch with a text that no database takes tells of the others, once each."""
        self.business = self.rules(Terms(tell_stored=True))
        bad = sent(8, content="half a pair \ud800")
        self.assertEqual([receipt.msg_id for receipt in self.apply(sent(7), bad, sent(7), sent(9)).receipts], [7, 9])

    def test_tell_stored_of_a_late_duplicate(self) -> None:
        """The sender is told under which id his message is kept."""
        self.business = self.rules(Terms(tell_stored=True))
        self.apply(sent(7))
        applied = self.apply(sent(9, client=client_id(7)))
        self.assertEqual(applied.receipts, (Receipt(7, client_id(7), ANN, BEN, 1),))

    def test_tell_stored_before_what_came_early(self) -> None:
        """Stored, then delivered, also where the ACK came first."""
        self.business = self.rules(Terms(tell_stored=True, always_tell=True))
        self.assertEqual(self.apply(ack(7, 3)).receipts, ())
        self.assertEqual([receipt.status for receipt in self.apply(sent(7), ack(7, 4)).receipts], [1, 3, 4])

    def test_nothing_is_told_of_what_is_parked(self) -> None:
        """A contradiction is stored for nobody."""
        self.business = self.rules(Terms(tell_stored=True))
        self.apply(sent(7))
        self.assertEqual(self.apply(sent(7, content="another")), Applied())

    def test_withdraw(self) -> None:
        """The flag is set, nothing is owed or unread, both sides are told, the receiver at login too."""
        self.apply(sent(7), sent(8))
        applied = self.apply(withdraw(7, receiver=0))
        self.assertEqual(applied, Applied(withdrawals=(Withdrawal(7, ANN, BEN),)))
        rows = self.rows()
        self.assertEqual([row.withdrawn for row in rows.messages], [True, False])
        self.assertEqual((self.owed(), self.unread()), ([(BEN, 8)], 1))
        self.assertEqual([tuple(row) for row in rows.notices], [(BEN, 7, ANN, NOW)])

    def test_withdraw_again(self) -> None:
        """A repeat tells again, because the first telling may have been lost, and changes nothing."""
        self.apply(sent(7))
        self.apply(withdraw(7))
        before = self.rows()
        self.now += 5000
        self.assertEqual(self.apply(withdraw(7), withdraw(7)).withdrawals, (Withdrawal(7, ANN, BEN),))
        self.assertEqual(self.rows(), before)
        self.assertEqual(self.business.counts.withdrawn, 1)

    def test_withdraw_of_a_read_message(self) -> None:
        """It was not unread any more, so the count stays; read after withdrawn does not count down again either."""
        self.apply(sent(7), sent(8), sent(9), ack(7, 4))
        self.assertEqual(self.unread(), 2)
        self.apply(withdraw(7))
        self.assertEqual(self.unread(), 2)
        self.apply(withdraw(8))
        self.apply(ack(8, 4))
        self.assertEqual((self.unread(), self.status(8)), (1, 4))

    def test_only_the_sender_withdraws(self) -> None:
        """A withdrawal of anybody else is ignored and counted, and nobody is told."""
        self.apply(sent(7))
        self.assertEqual(self.apply(withdraw(7, actor=BEN), withdraw(7, actor=CAT, by_business=True)), Applied())
        self.assertEqual(self.owed(), [(BEN, 7)])
        self.assertEqual((self.business.counts.not_entitled, self.business.counts.parked), (2, 0))

    def test_withdraw_window(self) -> None:
        """Business judges the age where the gateway did not know the message, by the times of the two events."""
        self.apply(sent(7, created=T0), sent(8, created=T0), sent(9, created=T0))
        late = T0 + 120_001
        applied = self.apply(
            withdraw(7, by_business=True, time=late),
            withdraw(8, by_business=True, time=T0 + 120_000),
            withdraw(9, time=late),
        )
        self.assertEqual([w.msg_id for w in applied.withdrawals], [8, 9])
        self.assertEqual(self.business.counts.too_late, 1)
