"""Messages whose end another node took in, and events of which this node has not heard yet that they are durable."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from imconnect.backends.outbox_memory import MemoryOutbox
from imconnect.business.service import BusinessRules
from imconnect.core.background import sleep
from imconnect.core.ports import Entry
from imconnect.core.session import Stage
from imconnect.events.values import Acknowledged, Event, Sent
from imconnect.model import Applied, Receipt, Status, Withdrawal
from tests.core.rig import ALICE, BOB, CAROL, Rig, client_id
from tests.support import TestCase


class FullSessionTests(TestCase):
    """He has acknowledged through another node what fills his session here."""

    def setUp(self) -> None:
        self.rig = Rig(unacknowledged=2)
        for text in ("1", "2", "3", "4", "5"):
            self.rig.elsewhere(text)
            self.rig.advance(0.01)
        self.bob = self.rig.sign_in(BOB)
        self.assertEqual((self.bob.shown, self.bob.session.stage), (["1", "2"], Stage.FULL))
        self.bob.forget()

    def acknowledge_elsewhere(self, text: str) -> None:
        event = Acknowledged(self.rig.id_of(text), b"", CAROL, BOB, 3, self.rig.now_ms())
        BusinessRules(self.rig.store, self.rig.now_ms).apply([event])

    def test_watch_sees_that_there_is_room(self) -> None:
        """What is owed to him comes without another login."""
        self.acknowledge_elsewhere("1")
        self.rig.advance(10)
        self.assertIn("3", self.bob.shown)

    def test_also_where_much_is_owed_in_between(self) -> None:
        """What the session has open need not lie on one page of what is owed."""
        self.acknowledge_elsewhere("1")
        self.rig.advance(10)
        self.bob.forget()
        self.acknowledge_elsewhere("3")
        self.rig.advance(10)
        self.assertIn("4", self.bob.shown)

    def test_still_full_where_nothing_was_acknowledged(self) -> None:
        """He stays full."""
        self.rig.advance(4.9)
        self.assertEqual((self.bob.shown, self.bob.session.stage), ([], Stage.FULL))
        self.assertEqual(len(self.bob.session.open), 2)


class ToldByBusinessTests(TestCase):
    """Business tells this node the end of a message that it is still pushing."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.msg_id = self.rig.id_of("hello")

    def test_nothing_is_pushed_after_its_receipt(self) -> None:
        """The sender is told, and the retry clock stops."""
        receipt = Receipt(self.msg_id, client_id("hello"), ALICE, BOB, int(Status.DELIVERED))
        self.rig.node.tell(Applied(receipts=(receipt,)))
        self.rig.advance(40)
        self.assertEqual((self.bob.shown, self.alice.receipts), (["hello"], [("hello", 3)]))

    def test_stored_is_no_end(self) -> None:
        """Profile xzll tells that, too."""
        receipt = Receipt(self.msg_id, client_id("hello"), ALICE, BOB, int(Status.STORED))
        self.rig.node.tell(Applied(receipts=(receipt,)))
        self.rig.advance(6)
        self.assertEqual(self.bob.shown, ["hello", "hello"])

    def test_withdrawn_message_is_not_open_for_ever(self) -> None:
        """Its row may leave `recent`, and with that the log."""
        self.rig.node.tell(Applied(withdrawals=(Withdrawal(self.msg_id, ALICE, BOB),)))
        self.rig.advance(40)
        self.bob.leave()
        self.rig.turn()
        self.assertEqual((self.bob.shown, self.rig.node.recent.open_rows()), (["hello"], []))


class GivenUpTests(TestCase):
    """Shown from the store, and given up, before the broker's answer let the batch act."""

    def test_it_is_turned_offline(self) -> None:
        """Nobody runs its clock any more, and it must end."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.turn()
        entry = rig.node.resend.end(rig.id_of("hello"))
        assert entry is not None
        rig.node.delivery.deliver(entry.message)
        rig.turn()
        self.assertEqual((rig.log, bob.shown), (["sent hello", "offline hello"], ["hello"]))

    def test_shown_as_offline_already(self) -> None:
        """Another node had turned it offline before this one, which accepted it, acts: it still owes it an end."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.turn()
        entry = rig.node.resend.end(rig.id_of("hello"))
        assert entry is not None
        rig.node.resend.hold(entry.message, entry.frame, offline=True)
        rig.node.delivery.deliver(entry.message)
        bob.leave()
        rig.turn()
        self.assertEqual(rig.log, ["sent hello", "offline hello"])


class Late(MemoryOutbox):
    """Its answers come late: the relay may read what the node does not know to be durable."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.clock = clock
        self.late = 0.0

    def append(self, events: Sequence[Event]) -> Deferred[int]:
        late = self.late
        return super().append(events).addCallback(lambda first: deferLater(self.clock, late, lambda: first))

    def read(self, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        read = super().read
        return sleep(self.clock, 0.5).addCallback(lambda _: read(after, limit))


class NotSettledTests(TestCase):
    """Durable and relayed, before the node has heard that it is durable."""

    def test_log_keeps_it(self) -> None:
        """After a crash its repeat is found, and it is turned offline."""
        rig = Rig(outbox=lambda rig: Late(rig.clock), recent_rows=0)
        alice = rig.sign_in(ALICE)
        alice.send(BOB, "first")
        rig.advance(0.1)
        assert isinstance(rig.outbox, Late)
        rig.outbox.late = 10.0
        alice.send(BOB, "second")
        rig.advance(5)
        self.assertEqual((rig.stored["second"], alice.accepted), (1, ["first"]))
        kept = [event for _, event in self.successResultOf(rig.outbox.restart().open()).entries]
        self.assertEqual([event.message.content for event in kept if isinstance(event, Sent)], ["second"])
