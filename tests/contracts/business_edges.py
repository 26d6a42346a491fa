"""What business does to a store when things come early, wrong, twice or never."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from twisted.logger import LogLevel, capturedLogs, formatEvent

from imconnect.business.rows import Changes, EarlyKind, EarlyRow, MessageRow, ParkedRow, SendKey, Source, Stock
from imconnect.business.service import DAY_MS, BusinessRules
from imconnect.business.store import BadData, Store, Unit
from imconnect.business.work import EARLY_PER_ACTOR
from imconnect.errors import Unavailable
from imconnect.events.values import Event
from imconnect.model import MAX_ID, Applied, Receipt, Withdrawal
from tests.business.made import ANN, BEN, CAT, NOW, T0, ack, client_id, offlined, sent, withdraw
from tests.contracts.business import RulesContract


class EarlyContract(RulesContract):
    """What comes before its message."""

    def test_ack_before_its_message(self) -> None:
        """It is kept, and applied with the message: never owed, not unread, told if asked for."""
        self.assertEqual(self.apply(ack(7, 4, by_business=True)), Applied())
        (kept,) = self.rows().early
        self.assertEqual((kept.msg_id, kept.kind, kept.actor, kept.status, kept.by_business), (7, 3, BEN, 4, True))
        applied = self.apply(sent(7))
        self.assertEqual(applied.receipts, (Receipt(7, client_id(7), ANN, BEN, 4),))
        self.assertEqual((self.status(7), self.owed(), self.unread(), self.rows().early), (4, [], 0, []))
        self.assertEqual((self.business.counts.early_kept, self.business.counts.early_settled), (1, 1))

    def test_withdrawal_before_its_message(self) -> None:
        """It is kept, and applied with the message: never owed, told to both."""
        self.apply(withdraw(7))
        applied = self.apply(offlined(7))
        self.assertEqual(applied, Applied(withdrawals=(Withdrawal(7, ANN, BEN),)))
        self.assertEqual((self.owed(), self.unread(), self.rows().early), ([], 0, []))

    def test_all_in_one_batch(self) -> None:
        """Before its message but in its batch: nothing stays behind."""
        applied = self.apply(ack(7, 3, by_business=True), ack(7, 4, by_business=True), withdraw(7), sent(7))
        self.assertEqual([r.status for r in applied.receipts], [3, 4])
        self.assertEqual(self.rows().early, [])
        self.assertEqual((self.status(7), self.rows().messages[0].withdrawn, self.unread()), (4, True, 0))

    def test_rights_are_checked_with_the_message(self) -> None:
        """An early ACK of a stranger, or his withdrawal, goes for nothing."""
        self.apply(ack(7, 4, actor=CAT, by_business=True), withdraw(7, actor=CAT))
        self.assertEqual(self.apply(sent(7)), Applied())
        self.assertEqual((self.status(7), self.owed(), self.rows().early), (1, [(BEN, 7)], []))
        self.assertEqual(self.business.counts.not_entitled, 2)

    def test_window_is_checked_with_the_message(self) -> None:
        """An early withdrawal that business has to judge is judged by when it was asked for."""
        self.apply(withdraw(7, by_business=True, time=T0 + 120_001), withdraw(8, by_business=True, time=T0 + 5))
        self.now += DAY_MS
        applied = self.apply(sent(7, created=T0), sent(8, created=T0))
        self.assertEqual([w.msg_id for w in applied.withdrawals], [8])

    def test_repeats_are_kept_once(self) -> None:
        """The same early event again is no second row."""
        self.apply(ack(7, 3), ack(7, 3))
        self.apply(ack(7, 3), ack(7, 4))
        self.assertEqual([row.status for row in self.rows().early], [3, 4])

    def test_bound_per_person(self) -> None:
        """Over the bound the oldest of that person go, counted; other people's stay."""
        self.apply(ack(5, 3, actor=CAT))
        for start in range(0, EARLY_PER_ACTOR, 250):
            self.now += 1
            self.apply(*(ack(10 + start + i, 3) for i in range(250)))
        self.assertEqual(self.business.counts.early_dropped, 0)
        self.now += 1
        self.apply(*(ack(5000 + i, 3) for i in range(3)))
        ids = [row.msg_id for row in self.rows().early]
        self.assertEqual(len(ids), EARLY_PER_ACTOR + 1)
        self.assertEqual(ids[:2], [5, 13])
        self.assertEqual(ids[-3:], [5000, 5001, 5002])
        self.assertEqual(self.business.counts.early_dropped, 3)

    def test_bound_in_one_batch(self) -> None:
        """A single batch over the bound keeps the bound."""
        self.apply(*(ack(10 + i, 3) for i in range(EARLY_PER_ACTOR + 20)))
        ids = [row.msg_id for row in self.rows().early]
        self.assertEqual((len(ids), ids[0]), (EARLY_PER_ACTOR, 30))

    def test_bound_counts_what_leaves(self) -> None:
        """What is settled in a batch makes room for what comes in it."""
        self.apply(*(ack(10 + i, 3) for i in range(EARLY_PER_ACTOR)))
        self.apply(sent(10), ack(5000, 3))
        ids = [row.msg_id for row in self.rows().early]
        self.assertEqual((len(ids), ids[0], ids[-1]), (EARLY_PER_ACTOR, 11, 5000))
        self.assertEqual(self.business.counts.early_dropped, 0)

    def test_settle_what_slipped(self) -> None:
        """An early event whose message another consumer stored meanwhile is applied by the job, and told."""
        self.apply(sent(7), sent(8), sent(9))
        with self.store.transaction() as unit:
            unit.save(Changes(early_in=[EarlyRow(7, EarlyKind.ACK, BEN, 4, T0 + 500, NOW, True)]))
        self.apply(ack(100, 3))
        applied = self.business.settle_early(self.now)
        self.assertEqual(applied.receipts, (Receipt(7, client_id(7), ANN, BEN, 4),))
        self.assertEqual((self.status(7), self.unread(), self.owed()), (4, 2, [(BEN, 8), (BEN, 9)]))
        self.assertEqual([row.msg_id for row in self.rows().early], [100])
        self.assertEqual(self.business.settle_early(self.now), Applied())

    def test_expiry(self) -> None:
        """Early events and withdraw notices are deleted after seven days, the former counted."""
        self.apply(ack(7, 3), sent(8), withdraw(8))
        self.business.settle_early(NOW + 7 * DAY_MS)
        self.assertEqual((len(self.rows().early), len(self.rows().notices)), (1, 1))
        self.business.settle_early(NOW + 7 * DAY_MS + 1)
        self.assertEqual((self.rows().early, self.rows().notices), ([], []))
        self.assertEqual(self.business.counts.early_expired, 1)


class ParkingContract(RulesContract):
    """Events that cannot be applied."""

    def parked(self) -> list[tuple[str, int, int, str]]:
        return [(row.topic, row.queue, row.offset, row.reason) for row in self.rows().parked]

    def test_contradiction_is_parked(self) -> None:
        """The same msgId with another content: the first stays, the second is parked, loudly, the rest goes on."""
        sources = [Source("embedded", 0, n) for n in (41, 42, 43)]
        events = [sent(7), sent(7, content="something else"), sent(8)]
        self.business.apply(events, sources)
        self.assertEqual([row.content for row in self.rows().messages], ["hello, 世界 😀"] * 2)
        self.assertEqual(self.parked(), [("embedded", 0, 42, "the message is stored with another content")])
        self.assertIn(b"something else", self.rows().parked[0].body)
        self.assertEqual(self.rows().parked[0].first_seen, NOW)
        self.assertEqual(self.business.counts.parked, 1)
        self.assertEqual(self.business.stock(), Stock(parked=1, early=0))
        self.assertEqual([row.offset for row in self.business.parked()], [42])

    def test_parking_is_logged_without_contents(self) -> None:
        """One error line names the message and the place, never what was written."""
        self.apply(sent(7))
        with capturedLogs() as events:
            self.business.apply([sent(7, content="a secret")], [Source("T", 2, 9)])
        (line,) = [formatEvent(event) for event in events if event["log_level"] is LogLevel.error]
        self.assertIn("message 7, topic 'T', queue 2, offset 9", line)
        self.assertNotIn("secret", repr(events))

    def test_every_difference_contradicts(self) -> None:
        """Receiver, sender, clientMsgId, format or content: each makes it another message."""
        self.apply(sent(7))
        before = self.rows()
        self.apply(
            sent(7, receiver=CAT), sent(7, sender=CAT), sent(7, client=client_id(99)), sent(7, format=2), offlined(7, content="x")
        )  # fmt: skip
        self.assertEqual(len(self.parked()), 5)
        self.assertEqual(self.rows()._replace(parked=[]), before)

    def test_client_id_with_another_content(self) -> None:
        """The same sender and clientMsgId with another content under a new msgId is parked."""
        self.apply(sent(7))
        self.apply(sent(8, client=client_id(7), content="else"))
        self.assertEqual([row.msg_id for row in self.rows().messages], [7])
        self.assertEqual([row[3] for row in self.parked()], ["another message has this clientMsgId of this sender"])

    def test_replayed(self) -> None:
        """A parked event that can be applied after all is, like any other, and leaves the table."""
        self.business.park(Source("T", 1, 5, b"body"), "why")
        self.business.park(Source("T", 1, 6, b"other"), "why")
        applied = self.business.replay(("T", 1, 5), offlined(7))
        self.assertEqual((applied.hints, self.status(7), self.owed()), ((BEN,), 2, [(BEN, 7)]))
        self.assertEqual([row[2] for row in self.parked()], [6])
        self.assertEqual(self.business.counts.messages, 1)

    def test_replayed_in_vain(self) -> None:
        """One that still contradicts stays as it is, and nothing is changed."""
        self.apply(sent(7))
        self.business.apply([sent(7, content="else")], [Source("T", 1, 5)])
        before = self.rows()
        self.assertRaises(BadData, self.business.replay, ("T", 1, 5), sent(7, content="else"))
        self.assertRaises(BadData, self.business.replay, ("T", 1, 5), sent(0))
        self.assertEqual(self.rows(), before)

    def test_parked_pages(self) -> None:
        """By key, behind a key, or one of them."""
        for topic, queue, offset in (("T", 2, 1), ("T", 1, 9), ("S", 7, 7), ("T", 1, 10), ("", 0, -5)):
            self.business.park(Source(topic, queue, offset, b"body") if topic else Source("", 0, 0, b"body"), "why")
        keys = [row.key for row in self.business.parked()]
        self.assertEqual(keys[1:], [("S", 7, 7), ("T", 1, 9), ("T", 1, 10), ("T", 2, 1)])
        self.assertEqual([row.key for row in self.business.parked(2, keys[1])], keys[2:4])
        self.assertEqual([row.key for row in self.business.parked(9, keys[0])], keys[1:])
        found = self.business.parked_at(("T", 1, 9))
        assert found is not None
        self.assertEqual(found.body, b"body")
        self.assertIsNone(self.business.parked_at(("T", 1, 8)))

    def test_malformed_is_parked(self) -> None:
        """What can never be applied is parked with its reason; good events around it are applied."""
        bad: list[Event] = [
            sent(0), sent(MAX_ID + 1, created=T0), sent(1, sender=0), sent(1, receiver=MAX_ID + 1),
            sent(1, client=b"short"), sent(1, created=-1), sent(1, format=-1), sent(1, format=128),
            ack(0, 3), ack(1, 2), ack(1, -1), ack(1, 5), ack(1, 3, actor=0), ack(1, 3, time=-1),
            withdraw(0), withdraw(1, actor=0), withdraw(1, time=MAX_ID + 1),
        ]  # fmt: skip
        self.apply(sent(50), *bad, sent(51))
        self.assertEqual([row.msg_id for row in self.rows().messages], [50, 51])
        self.assertEqual(len(self.parked()), len(bad))
        self.assertEqual(self.rows().early, [])

    def test_unstorable_text_is_parked(self) -> None:
        """A text that no database takes is found event by event; everything around it is applied once."""
        sources = [Source("T", 3, n) for n in range(4)]
        events: list[Event] = [sent(7), sent(8, content="half a pair \ud800"), ack(7, 4, by_business=True), offlined(9)]
        applied = self.business.apply(events, sources)
        self.assertEqual([row.msg_id for row in self.rows().messages], [7, 9])
        self.assertEqual((applied.hints, [r.msg_id for r in applied.receipts]), ((BEN,), [7]))
        self.assertEqual([row[:3] for row in self.parked()], [("T", 3, 1)])
        self.assertEqual((self.unread(), self.owed()), (1, [(BEN, 9)]))
        counts = self.business.counts
        self.assertEqual((counts.messages, counts.events, counts.parked), (2, 3, 1))

    def test_parked_once(self) -> None:
        """A batch that comes again parks nothing twice; without a source the event itself says whether it is new."""
        bad = sent(7, content="else")
        self.apply(sent(7))
        for _ in range(2):
            self.business.apply([bad], [Source("T", 1, 5, b"raw")])
            self.apply(bad)
        self.assertEqual(len(self.parked()), 2)
        self.assertEqual([row.body for row in self.rows().parked if row.topic == "T"], [b"raw"])
        self.assertEqual(self.business.counts.parked, 2)

    def test_reused_offset_loses_nothing(self) -> None:
        """A queue that was made anew counts from the start: another body at the same place is kept beside it."""
        self.business.park(Source("T", 1, 5, b"one"), "why")
        self.business.park(Source("T", 1, 5, b"two"), "why")
        self.business.park(Source("T", 1, 5, b"two"), "why")
        self.assertEqual(sorted(row.body for row in self.rows().parked), [b"one", b"two"])

    def test_park_unreadable(self) -> None:
        """A consumer parks what it cannot read, bytes and all."""
        self.business.park(Source("T", 2, 9, b"\x00\xff{"), "not JSON")
        self.assertEqual(self.rows().parked, [ParkedRow("T", 2, 9, b"\x00\xff{", "not JSON", NOW)])
        self.assertEqual(self.business.counts.parked, 1)

    def test_sources_must_match(self) -> None:
        """One source per event, or none."""
        self.assertRaises(ValueError, self.business.apply, [sent(7)], [])


class JobsContract(RulesContract):
    """Retention."""

    def test_purge(self) -> None:
        """Old messages go when nobody is owed them; one that was never read stops counting as unread."""
        self.apply(*(sent(i, created=T0) for i in range(1, 6)), sent(6, created=T0 + 2 * DAY_MS))
        self.apply(ack(1, 4), ack(2, 3), withdraw(3), ack(6, 3))
        self.assertEqual(self.unread(), 4)
        self.assertEqual(self.business.purge(T0 + DAY_MS, 1), 0)
        self.assertEqual(self.business.purge(T0 + DAY_MS + 1, 1), 3)
        self.assertEqual([row.msg_id for row in self.rows().messages], [4, 5, 6])
        self.assertEqual(self.unread(), 3)
        self.assertEqual(self.owed(), [(BEN, 4), (BEN, 5)])

    def test_purge_in_pieces(self) -> None:
        """One step takes a bounded number, the oldest first."""
        for start in (1, 401):
            self.apply(*(e for i in range(start, start + 400) for e in (sent(i, created=T0), ack(i, 4))))
        steps = [self.business.purge(T0 + 9 * DAY_MS, 1) for _ in range(3)]
        self.assertEqual(steps, [500, 300, 0])
        self.assertEqual(self.rows().messages, [])


class TransactionContract(RulesContract):
    """All or nothing."""

    def test_exception_undoes_everything(self) -> None:
        """What a unit saved is gone when an exception leaves it."""
        self.apply(sent(7), ack(99, 3))
        before = self.rows()
        with self.assertRaises(ZeroDivisionError), self.store.transaction() as unit:
            (row,) = unit.load_messages([7], [])
            row.msg_status = 4
            unit.save(Changes(changed_messages=[row]))
            unit.drop_early(NOW + 1, 10)
            unit.park(ParkedRow("T", 0, 0, b"", "", 0))
            raise ZeroDivisionError
        self.assertEqual(self.rows(), before)

    def test_loaded_rows_are_copies(self) -> None:
        """A row that was changed but not saved is not changed."""
        self.apply(sent(7))
        with self.store.transaction() as unit:
            (row,) = unit.load_messages([7], [])
            row.msg_status = 4
            (session,) = unit.load_sessions([(BEN, row.chat_id)])
            session.unread_count = 40
        self.assertEqual((self.status(7), self.unread()), (1, 1))

    def test_nested_undoes_its_part(self) -> None:
        """An exception out of a nested part leaves the rest of the unit."""
        with self.store.transaction() as unit:
            unit.park(ParkedRow("T", 0, 1, b"", "", 0))
            with self.assertRaises(ZeroDivisionError), unit.nested():
                unit.park(ParkedRow("T", 0, 2, b"", "", 0))
                raise ZeroDivisionError
            unit.park(ParkedRow("T", 0, 3, b"", "", 0))
        self.assertEqual([row.offset for row in self.rows().parked], [1, 3])

    def test_conflict_is_tried_again(self) -> None:
        """A message that another consumer stored between our reading and our writing is a repeat then."""
        blind = _Blind(self.store, times=1)
        self.apply(sent(7))
        business = BusinessRules(blind, lambda: self.now)
        self.assertEqual(business.apply([sent(7), sent(8)]), Applied())
        self.assertEqual([row.msg_id for row in self.rows().messages], [7, 8])
        self.assertEqual((business.counts.messages, business.counts.repeats), (1, 1))
        self.assertEqual(self.unread(), 2)

    def test_lasting_conflict_is_unavailable(self) -> None:
        """Nothing is committed, the caller comes again later."""
        self.apply(sent(7))
        business = BusinessRules(_Blind(self.store, times=9), lambda: self.now)
        self.assertRaises(Unavailable, business.apply, [sent(7), sent(8)])
        self.assertEqual([row.msg_id for row in self.rows().messages], [7])
        self.assertEqual(business.counts.messages, 0)


class _BlindUnit:
    """A unit that does not see the messages that are stored."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unit, name)

    def load_messages(self, msg_ids: Collection[int], keys: Collection[SendKey]) -> Sequence[MessageRow]:
        return []


class _Blind:
    """A store as another consumer sees it that read before the first one's commit: `times` transactions long."""

    def __init__(self, store: Store, times: int) -> None:
        self._store = store
        self._times = times

    @contextmanager
    def transaction(self) -> Iterator[Unit]:
        with self._store.transaction() as unit:
            self._times -= 1
            yield cast(Unit, _BlindUnit(unit)) if self._times >= 0 else unit
