"""The rules, whatever the order: found by trying many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from imconnect.backends.store_memory import MemoryStore
from imconnect.business.rules import Counts, flaw
from imconnect.business.service import BusinessRules
from imconnect.events.values import Event, Sent
from imconnect.model import MAX_ID, Applied
from tests.business.made import ANN, BEN, CAT, NOW, Everything, ack, in_memory, message, offlined, sent, withdraw
from tests.support import TestCase

#: The messages of the trials: a chat both ways, a note to oneself, another chat.
PEOPLE = {1: (ANN, BEN), 2: (ANN, BEN), 3: (BEN, ANN), 4: (ANN, ANN), 5: (CAT, BEN)}


class Story(NamedTuple):
    """Events in the order in which they were meant, and the same mixed up, some of them repeatedly."""

    straight: list[Event]
    mixed: list[Event]
    #: Where the batches of `mixed` end.
    cuts: list[int]


@st.composite
def of_one_message(draw: st.DrawFn, msg_id: int) -> list[Event]:
    """What may happen to a message, in order: at least it is sent or turned offline."""
    sender, receiver = PEOPLE[msg_id]
    events: list[Event] = []
    first = draw(st.sampled_from(("sent", "offlined", "both")))
    if first != "offlined":
        events.append(sent(msg_id, sender=sender, receiver=receiver))
    if first != "sent":
        events.append(offlined(msg_id, sender=sender, receiver=receiver))
    if draw(st.booleans()):
        events.append(ack(msg_id, 4, actor=CAT if receiver != CAT else ANN, by_business=draw(st.booleans())))
    for status in (3, 4):
        if draw(st.booleans()):
            events.append(ack(msg_id, status, actor=receiver, sender=sender, by_business=draw(st.booleans())))
    if draw(st.booleans()):
        who = draw(st.sampled_from((sender, sender, receiver)))
        events.append(withdraw(msg_id, actor=who, receiver=receiver, by_business=draw(st.booleans())))
    return events


@st.composite
def stories(draw: st.DrawFn) -> Story:
    chosen = draw(st.lists(st.sampled_from(sorted(PEOPLE)), min_size=1, max_size=4, unique=True))
    straight = [event for msg_id in sorted(chosen) for event in draw(of_one_message(msg_id))]
    repeated = draw(st.lists(st.sampled_from(straight), max_size=6))
    mixed = draw(st.permutations(straight + repeated))
    cuts = draw(st.lists(st.integers(0, len(mixed)), max_size=4))
    return Story(straight, list(mixed), sorted(cuts))


def end_of(events: Sequence[Event], cuts: Sequence[int]) -> tuple[Everything, list[Applied], Counts]:
    store = MemoryStore()
    business = BusinessRules(store, lambda: NOW)
    told = []
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        told.append(business.apply(events[start:end]))
    return in_memory(store.tables), told, business.counts


class OrderTests(TestCase):
    """The end does not depend on the way."""

    @settings(max_examples=150, deadline=None)
    @given(stories())
    def test_any_order_any_repetition(self, story: Story) -> None:
        """However the events are mixed, repeated and cut into batches: the rows are those of once and in order."""
        straight, _, _ = end_of(story.straight, [])
        mixed, _, counts = end_of(story.mixed, story.cuts)
        self.assertEqual(mixed, straight)
        self.assertEqual(counts.parked, 0)

    @settings(max_examples=80, deadline=None)
    @given(stories())
    def test_rows_agree(self, story: Story) -> None:
        """Owed is what is neither acknowledged nor withdrawn; unread what is neither read nor withdrawn."""
        rows, told, counts = end_of(story.mixed, story.cuts)
        self.assertEqual(
            [(row.user_id, row.msg_id) for row in rows.owed],
            sorted((row.to_id, row.msg_id) for row in rows.messages if row.msg_status < 3 and not row.withdrawn),
        )
        unread = {(row.user_id, row.chat_id): row.unread_count for row in rows.sessions}
        for key, count in unread.items():
            mine = [row for row in rows.messages if (row.to_id, row.chat_id) == key]
            self.assertEqual(count, sum(row.msg_status < 4 and not row.withdrawn for row in mine))
        self.assertEqual(
            sorted(row.msg_id for row in rows.notices), [row.msg_id for row in rows.messages if row.withdrawn]
        )
        self.assertEqual(rows.early, [])
        self.assertEqual(counts.messages, len(rows.messages))
        receipts = [(receipt.msg_id, receipt.status) for applied in told for receipt in applied.receipts]
        self.assertEqual(len(receipts), len(set(receipts)))
        withdrawn = {w.msg_id for applied in told for w in applied.withdrawals}
        self.assertEqual(withdrawn, {row.msg_id for row in rows.messages if row.withdrawn})


class FlawTests(TestCase):
    """What can be said about an event without looking anything up."""

    def test_good_events(self) -> None:
        """The edges of what is allowed."""
        good: list[Event] = [
            Sent(message(MAX_ID, created=0)),
            sent(1, sender=MAX_ID, receiver=1, client=b""),
            sent(1, format=0, content=""),
            ack(1, 3, actor=MAX_ID, sender=0, time=0),
            withdraw(1, receiver=0),
        ]
        self.assertEqual([flaw(event) for event in good], [""] * len(good))

    def test_reasons(self) -> None:
        """Each reason says which field it is about."""
        self.assertEqual(flaw(sent(0)), "msgId out of range")
        self.assertEqual(flaw(sent(1, receiver=0)), "user id out of range")
        self.assertEqual(flaw(sent(1, client=bytes(17))), "clientMsgId is not 16 bytes")
        self.assertEqual(flaw(sent(1, created=MAX_ID + 1)), "msgCreateTime out of range")
        self.assertEqual(flaw(sent(1, format=1000)), "msgFormat out of range")
        self.assertEqual(flaw(ack(1, 1)), "an ACK with a status that is neither 3 nor 4")
        self.assertEqual(flaw(withdraw(1, time=-5)), "time out of range")


class CountsTests(TestCase):
    """Counting."""

    def test_add(self) -> None:
        """Every field is added to its own."""
        counts = Counts(events=1, parked=2)
        counts.add(Counts(events=10, early_kept=5))
        self.assertEqual(counts, Counts(events=11, parked=2, early_kept=5))
