"""The accounts find every kind of violation: a ledger that cannot fail is worth nothing."""

from __future__ import annotations

from typing import Any

from imconnect.business.rows import MessageRow
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import Message
from imconnect.wire.client_codec import Pushed, ReceiptReply, SendReply, WithdrawNotice, WithdrawReply
from imconnect.wire.ids import chat_id
from tests.live.accounts import audit, table
from tests.live.books import Terms
from tests.live.evidence import Queued, Rows
from tests.live.record import Ack, Came, Record, Send, Went, Withdraw
from tests.support import TestCase

ANN, BEN = 1001, 1002
CHAT = chat_id(ANN, BEN)
DELAYS = (2.0, 4.0)


class Story:
    """Ann sends 1 and 2, Ben acknowledges both (the second as read); she withdraws 3, which he never saw."""

    def __init__(self) -> None:
        self.record = Record()
        self.ann = self.record.opened(0.0, ANN)
        self.ben = self.record.opened(0.0, BEN)
        for msg_id in (1, 2, 3):
            self.send(msg_id, at=msg_id)
        self.push(1, at=1.2)
        self.push(2, at=2.2)
        self.ack(1, 3, at=1.3)
        self.ack(2, 4, at=2.3)
        self.record.went.append(Went(3.3, ANN, self.ann, Withdraw(3)))
        self.told(WithdrawReply(3, self.key(3), True, "", 0, 0), at=3.4)
        self.rows = [self.row(1, 3), self.row(2, 4), self.row(3, 1, withdrawn=True)]
        self.sessions = {(ANN, CHAT): (3, 0), (BEN, CHAT): (3, 1)}
        self.owed: set[tuple[int, int]] = set()
        self.early: list[int] = []
        self.parked: list[str] = []
        self.topic: list[Queued] = []
        for event in self.events():
            self.topic.append(self.queued(event))
        self.ben = self.record.opened(10.0, BEN)
        self.told(WithdrawNotice(3, ANN, BEN, 0), at=10.1, user=BEN)

    def key(self, number: int) -> bytes:
        return number.to_bytes(16, "big")

    def send(self, msg_id: int, at: float, **reply: Any) -> None:
        """And its answer."""
        self.record.went.append(Went(at, ANN, self.ann, Send(self.key(msg_id), BEN, 1, f"text {msg_id}", 77)))
        self.told(SendReply(self.key(msg_id), msg_id, ANN, BEN, 1, 0, "")._replace(**reply), at=at + 0.1)

    def push(self, msg_id: int, at: float, connection: int = 0, **push: Any) -> None:
        what = Pushed(msg_id, self.key(msg_id), ANN, BEN, 1, f"text {msg_id}", 77, 0)._replace(**push)
        self.told(what, at=at, user=BEN, connection=connection)

    def ack(self, msg_id: int, status: int, at: float, **receipt: Any) -> None:
        """And its receipt."""
        self.record.went.append(Went(at, BEN, self.ben, Ack(msg_id, status)))
        self.told(ReceiptReply(self.key(msg_id), msg_id, ANN, BEN, status, 0)._replace(**receipt), at=at + 0.1)

    def told(self, what: Any, at: float, user: int = ANN, connection: int = 0) -> None:
        mine = self.ann if user == ANN else self.ben
        self.record.came.append(Came(at, user, connection or mine, what))

    def row(self, msg_id: int, status: int, withdrawn: bool = False) -> MessageRow:
        return MessageRow(msg_id, self.key(msg_id), ANN, BEN, CHAT, f"text {msg_id}", 1, status, withdrawn, 78)

    def message(self, msg_id: int) -> Message:
        return Message(msg_id, self.key(msg_id), ANN, BEN, 1, f"text {msg_id}", 77, 78)

    def events(self) -> list[Event]:
        return [
            *(Sent(self.message(msg_id)) for msg_id in (1, 2, 3)),
            Offlined(self.message(3)),
            Acknowledged(1, self.key(1), ANN, BEN, 3, 80),
            Acknowledged(2, self.key(2), ANN, BEN, 4, 80),
            Withdrawn(3, self.key(3), ANN, BEN, 80),
        ]

    def queued(self, event: Event) -> Queued:
        return Queued(0, 100 + len(self.topic), repr(event), repr(event).encode(), event)

    def forget(self, kind: type, **fields: Any) -> None:
        """Nobody ever saw or did it."""

        def meant(what: Any) -> bool:
            return type(what) is kind and all(getattr(what, name) == value for name, value in fields.items())

        self.record.came = [came for came in self.record.came if not meant(came.what)]
        self.record.went = [went for went in self.record.went if not meant(went.what)]

    def change(self, kind: type, found: Any, **fields: Any) -> None:
        """The first thing of this kind, and with this msgId, came otherwise."""
        for index, came in enumerate(self.record.came):
            if type(came.what) is kind and came.what.msg_id == found:  # type: ignore[union-attr]
                self.record.came[index] = came._replace(what=came.what._replace(**fields))
                return

    def change_row(self, msg_id: int, **fields: Any) -> None:
        for row in self.rows:
            if row.msg_id == msg_id:
                for name, value in fields.items():
                    setattr(row, name, value)

    def read_though_nobody_said_so(self) -> None:
        self.told(ReceiptReply(self.key(1), 1, ANN, BEN, 4, 0), at=5)
        self.change_row(1, msg_status=4)
        self.sessions[BEN, CHAT] = (3, 0)

    def audit(self, **terms: Any) -> dict[str, list[str]]:
        """kind -> what was found."""
        rows = Rows(self.rows, self.owed, self.sessions, self.early, self.parked)
        found: dict[str, list[str]] = {}
        for kind, says in audit(self.record, rows, Terms(DELAYS, **terms), self.topic):
            found.setdefault(kind, []).append(says)
        return found


class AccountsTests(TestCase):
    def setUp(self) -> None:
        self.story = Story()

    def assertFinds(self, *kinds: str, **terms: Any) -> None:
        """These kinds of violation and no other, once or more each."""
        found = self.story.audit(**terms)
        self.assertEqual(sorted(found), sorted(kinds), found)

    def test_nothing_to_find(self) -> None:
        """A story in which all is well; the table says so."""
        self.assertFinds()
        self.assertIn("lost                        0", table([]))

    # -- lost

    def test_acknowledged_and_not_stored(self) -> None:
        """A row is missing."""
        self.story.rows = self.story.rows[:1] + self.story.rows[2:]
        self.assertFinds("lost")

    def test_acknowledged_and_not_in_the_topic(self) -> None:
        """An event is missing, though the database has the row."""
        self.story.topic = [each for each in self.story.topic if "text 2" not in repr(each)]
        self.assertIn("lost", self.story.audit())

    def test_receipt_not_stored(self) -> None:
        """The sender was told that it is read, the database does not know."""
        self.story.change_row(2, msg_status=3)
        self.assertIn("lost", self.story.audit())

    def test_withdrawal_not_stored(self) -> None:
        """Accepted, and gone."""
        self.story.change_row(3, withdrawn=False, msg_status=3)
        self.assertIn("lost", self.story.audit())

    # -- doubled

    def test_two_answers(self) -> None:
        """The repeat of a send got another msgId."""
        self.story.told(SendReply(self.story.key(1), 9, ANN, BEN, 1, 0, ""), at=4)
        self.assertIn("doubled", self.story.audit())

    def test_two_rows(self) -> None:
        """One send, two rows."""
        row = self.story.row(9, 3)
        row.client_msg_id = self.story.key(1)
        self.story.rows.append(row)
        self.assertIn("doubled", self.story.audit())

    def test_two_pushes(self) -> None:
        """One send, shown under two msgIds."""
        self.story.push(9, at=1.25, client_msg_id=self.story.key(1), content="text 1")
        self.assertFinds("doubled")

    def test_nobody_sent_it(self) -> None:
        """A row out of nothing."""
        self.story.forget(Send, key=self.story.key(1))
        self.assertIn("doubled", self.story.audit())

    # -- shown twice

    def test_again_on_one_connection(self) -> None:
        """Before the retry is due."""
        self.story.push(1, at=2.5, connection=2)
        self.assertIn("shown twice", self.story.audit())

    def test_a_retry(self) -> None:
        """When it is due it is none, as long as there is no receipt; the second one is due later."""
        self.story.forget(ReceiptReply, msg_id=1)
        self.story.forget(Ack, msg_id=1)
        self.story.change_row(1, msg_status=3)
        self.story.push(1, at=3.25, connection=2)
        self.assertFinds()
        self.story.push(1, at=5.5, connection=2)
        self.assertFinds("shown twice")

    def test_more_often_than_set(self) -> None:
        """A message that was given up is not pushed again."""
        self.story.forget(ReceiptReply, msg_id=1)
        self.story.forget(Ack, msg_id=1)
        for at in (4, 9, 60):
            self.story.push(1, at=at, connection=2)
        self.assertFinds("shown twice")

    def test_after_the_receipt(self) -> None:
        """On any connection."""
        self.story.push(1, at=10.2)
        self.assertFinds("shown twice")

    def test_read_late(self) -> None:
        """What a busy process read late may have come before the receipt."""
        self.story.record.turns = [1.3, 10.15, 10.3]
        self.story.push(1, at=10.2)
        self.assertFinds("shown twice")
        self.story.record.turns = [1.3, 10.3]
        self.assertFinds()

    def test_on_a_new_connection(self) -> None:
        """Without a receipt that is as it should be."""
        self.story.forget(ReceiptReply, msg_id=1)
        self.story.forget(Ack, msg_id=1)
        self.story.push(1, at=10.2)
        self.assertFinds()

    def test_shown_after_its_withdrawal(self) -> None:
        """Taken back, and shown all the same."""
        self.story.push(3, at=10.2)
        self.assertFinds("shown, withdrawn")

    # -- order

    def test_a_later_one_first(self) -> None:
        """A message that is shown for the first time after its successor; not where the store was away."""
        for kind in (Pushed, ReceiptReply, Ack):
            self.story.forget(kind, msg_id=1)
        self.story.push(1, at=2.25, connection=2)
        self.assertFinds("out of order")
        self.assertFinds(store_away=[(0.0, 1.0)])
        self.story.record.came[-1] = self.story.record.came[-1]._replace(at=10.2, connection=3)
        self.assertFinds(store_away=[(0.0, 1.0)])
        self.assertFinds(nodes=2)

    def test_accepted_in_another_order(self) -> None:
        """A sender's own order."""
        self.story.record.went.insert(0, self.story.record.went.pop(1))
        self.assertFinds("out of order")

    def test_topic_in_another_order(self) -> None:
        """Two messages of a chat lie the wrong way round in its queue."""
        one, two = self.story.topic[:2]
        self.story.topic[:2] = [one._replace(offset=two.offset), two._replace(offset=one.offset)]
        self.assertFinds("out of order")

    def test_topic_repeats(self) -> None:
        """A duplicate in the topic is none."""
        self.story.topic += [each._replace(offset=each.offset + 50) for each in self.story.topic]
        self.assertFinds()

    def test_topic_begins_with_another_event(self) -> None:
        """An ACK lies before its message."""
        ack = next(each for each in self.story.topic if isinstance(each.event, Acknowledged))
        self.story.topic.append(ack._replace(offset=0))
        self.assertFinds("out of order")

    # -- never

    def test_never_shown(self) -> None:
        """Stored, and its receiver has not seen it."""
        for kind in (Pushed, ReceiptReply, Ack):
            self.story.forget(kind, msg_id=1)
        self.assertFinds("never delivered")

    def test_never_answered(self) -> None:
        """A send whose fate nobody was told."""
        self.story.forget(SendReply, msg_id=2)
        self.assertFinds("never delivered")

    def test_still_not_acknowledged(self) -> None:
        """Shown and acknowledged, and the database does not know."""
        self.story.forget(ReceiptReply, msg_id=1)
        self.story.change_row(1, msg_status=2)
        self.assertFinds("never delivered")

    # -- fields

    def test_wrong_fields(self) -> None:
        """Of every kind of thing that carries them."""
        for change in (
            lambda story: story.change(SendReply, 1, receiver=7),
            lambda story: story.change(Pushed, 1, content="text 2"),
            lambda story: story.change(Pushed, 1, time=76),
            lambda story: story.change(Pushed, 1, format=2),
            lambda story: story.change_row(1, content="text 2"),
            lambda story: story.change_row(1, msg_format=2),
            lambda story: story.topic.append(
                story.queued(Sent(story.message(1)._replace(content="x")))._replace(offset=900)
            ),
            lambda story: story.topic.append(story.topic[0]._replace(offset=900, body=b"x")),
            lambda story: story.topic.append(story.queued(Acknowledged(1, story.key(1), ANN, 7, 3, 80))),
            lambda story: story.topic.append(story.queued(Withdrawn(3, story.key(3), 7, BEN, 80))),
        ):
            self.story = Story()
            change(self.story)
            self.assertFinds("wrong fields")

    # -- receipts

    def test_receipt_missing(self) -> None:
        """The sender was there all the time; not where he was away for a moment, nor between nodes, nor while
        receipts waited for a broker."""
        self.story.forget(ReceiptReply, msg_id=1)
        self.assertFinds("receipt missing")
        self.assertFinds(nodes=2)
        self.assertFinds(queue_away=[(0.5, 2.0)])
        self.story.record.closed(1.35, self.story.ann)
        self.assertFinds()

    def test_notice_missing(self) -> None:
        """A receiver is told at his last login what was taken back."""
        self.story.forget(WithdrawNotice)
        self.assertFinds("receipt missing")

    def test_receipt_wrong(self) -> None:
        """Of what nobody said, about somebody else, to somebody else, twice."""
        for change in (
            lambda story: story.read_though_nobody_said_so(),
            lambda story: story.change(ReceiptReply, 1, receiver=7),
            lambda story: story.change(ReceiptReply, 1, client_msg_id=story.key(2)),
            lambda story: story.told(ReceiptReply(story.key(1), 1, ANN, BEN, 3, 0), at=5, user=BEN),
            lambda story: story.told(ReceiptReply(story.key(1), 1, ANN, BEN, 3, 0), at=5),
            lambda story: story.told(WithdrawNotice(1, ANN, BEN, 0), at=5),
        ):
            self.story = Story()
            change(self.story)
            self.assertFinds("receipt wrong")

    # -- counts

    def test_counts(self) -> None:
        """An unread message counted twice, a session with another end, something owed, parked or kept for nobody."""
        for change in (
            lambda story: story.sessions.update({(BEN, CHAT): (3, 2)}),
            lambda story: story.sessions.update({(BEN, CHAT): (2, 1)}),
            lambda story: story.sessions.pop((BEN, CHAT)),
            lambda story: story.sessions.update({(7, CHAT): (1, 0)}),
            lambda story: story.owed.add((BEN, 1)),
            lambda story: story.parked.append("why"),
            lambda story: story.early.append(9),
        ):
            self.story = Story()
            change(self.story)
            self.assertFinds("counts")

    def test_expected_early(self) -> None:
        """An event whose message does not exist stays where it is."""
        self.story.early.append(9)
        self.assertFinds(early=[9])
