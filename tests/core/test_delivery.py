"""Where a durable message goes, and what becomes of it when its receiver is away, slow or never acknowledges."""

from __future__ import annotations

from imconnect.core.resend import Resend
from imconnect.events.values import Sent
from imconnect.model import Message
from imconnect.wire.client_codec import Pushed
from tests.core.rig import ALICE, BOB, CAROL, RecordingLink, Rig, client_id, send_frame
from tests.support import TestCase


class PushTests(TestCase):
    """The receiver is here."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def test_receiver_sees_what_was_sent(self) -> None:
        """The server's msgId and sender, the client's time, format and text."""
        self.alice.read(send_frame(BOB, "hello", format=3, time=77))
        self.rig.turn()
        [push] = self.bob.got
        self.assertEqual(push, Pushed(self.rig.id_of("hello"), client_id("hello"), ALICE, BOB, 3, "hello", 77, 0))

    def test_message_without_a_time_shows_the_servers(self) -> None:
        """A client without a clock need not send one."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        [push] = self.bob.got
        assert isinstance(push, Pushed)
        self.assertEqual(push.time, self.rig.now_ms())

    def test_every_connection_of_the_receiver_gets_it(self) -> None:
        """Phone and laptop."""
        laptop = self.rig.sign_in(BOB)
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual((self.bob.shown, laptop.shown), (["hello"], ["hello"]))

    def test_note_to_oneself(self) -> None:
        """Writing to oneself is a message to one's own connections; the ACK gives oneself the receipt."""
        self.alice.send(ALICE, "milk")
        self.rig.turn()
        self.alice.ack("milk")
        self.rig.advance(400)
        self.assertEqual((self.alice.shown, self.alice.receipts), (["milk"], [("milk", 3)]))

    def test_chat_keeps_its_order(self) -> None:
        """Two messages of one person arrive as they were sent, in one read or in several."""
        self.alice.read(send_frame(BOB, "one"), send_frame(BOB, "two"))
        self.alice.send(BOB, "three")
        self.rig.turn()
        self.assertEqual(self.bob.shown, ["one", "two", "three"])

    def test_push_is_remembered_before_it_is_written(self) -> None:
        """A connection that breaks in the very write leaves nothing forgotten."""
        seen: list[int] = []
        rig = self.rig

        class Curious(RecordingLink):
            def write(self, payloads: object) -> bool:
                seen.append(len(rig.node.resend))
                return super().write(payloads)  # type: ignore[arg-type]

        rig.sign_in(CAROL, link=Curious())
        self.alice.send(CAROL, "hello")
        rig.turn()
        self.assertEqual(seen, [1])


class AbsentTests(TestCase):
    """The receiver is away, or goes."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.alice = self.rig.sign_in(ALICE)

    def test_absent_receiver_is_owed_it(self) -> None:
        """SEND, then OFFLINE; the store has it as offline and owed."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual(self.rig.log, ["sent hello", "offline hello"])
        self.assertEqual((self.rig.stored, self.rig.owed(BOB)), ({"hello": 2}, ["hello"]))
        self.assertEqual(self.rig.metrics.offline["absent"], 1)

    def test_last_connection_that_goes_leaves_its_messages_offline_at_once(self) -> None:
        """In the order in which they were sent, without waiting for a retry."""
        bob = self.rig.sign_in(BOB)
        for text in ("one", "two", "three"):
            self.alice.send(BOB, text)
            self.rig.turn()
        bob.ack("two")
        self.rig.turn()
        bob.leave()
        self.rig.turn()
        self.assertEqual(self.rig.log[-2:], ["offline one", "offline three"])
        self.assertEqual(len(self.rig.node.resend), 0)

    def test_one_of_two_connections_that_goes_changes_nothing(self) -> None:
        """The other one still shows the message and is asked again for it."""
        phone, laptop = self.rig.sign_in(BOB), self.rig.sign_in(BOB)
        self.alice.send(BOB, "hello")
        self.rig.turn()
        phone.leave()
        self.rig.advance(5)
        self.assertEqual((self.rig.log, laptop.shown), (["sent hello"], ["hello", "hello"]))

    def test_message_that_is_durable_after_the_receiver_left(self) -> None:
        """He was there when it was sent and gone when it was on disk."""
        rig = Rig(commit_delay=1.0)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.advance(0.5)
        bob.leave()
        rig.advance(2)
        self.assertEqual((rig.log, bob.got), (["sent hello", "offline hello"], []))

    def test_one_offline_event_however_often_he_comes_and_goes(self) -> None:
        """Not while the first is being written, not when business lags behind with it, not after it has stored it."""
        rig = Rig(commit_delay=1.0)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.advance(1)
        rig.business.held = True
        for _ in range(2):
            bob.leave()
            rig.advance(0.3)
            bob = rig.sign_in(BOB)
            self.assertEqual(bob.shown, ["hello"])
        rig.advance(2)
        for _ in range(2):
            bob.leave()
            rig.advance(2)
            bob = rig.sign_in(BOB)
            self.assertEqual(bob.shown, ["hello"])
            rig.business.go_on()
        bob.leave()
        rig.advance(400)
        self.assertEqual(rig.log, ["sent hello", "offline hello"])

    def test_connection_that_ends_twice_ends_once(self) -> None:
        """Closed by us, then reported closed."""
        bob = self.rig.sign_in(BOB)
        self.rig.node.end(bob.session, 4004, "idle")
        bob.leave()
        bob.send(ALICE, "too late")
        self.rig.turn()
        self.assertEqual((bob.link.closed, self.rig.node.hub.sessions, self.rig.log), (4004, 1, []))


class SlowReaderTests(TestCase):
    """A client that does not read."""

    def test_slow_reader_is_closed_and_his_messages_wait_for_him(self) -> None:
        """4003; what he has not acknowledged is offline, and shown at his next login."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "one")
        rig.turn()
        bob.link.stuck = True
        alice.send(BOB, "two")
        rig.turn()
        self.assertEqual(bob.link.closed, 4003)
        self.assertEqual(rig.log, ["sent one", "sent two", "offline one", "offline two"])
        self.assertEqual(rig.sign_in(BOB).shown, ["one", "two"])

    def test_others_get_theirs_in_the_same_batch(self) -> None:
        """One slow reader costs nobody else anything."""
        rig = Rig()
        alice, bob, carol = rig.sign_in(ALICE), rig.sign_in(BOB), rig.sign_in(CAROL)
        bob.link.stuck = True
        alice.read(send_frame(BOB, "for bob"), send_frame(CAROL, "for carol"))
        rig.turn()
        self.assertEqual((alice.accepted, carol.shown), (["for bob", "for carol"], ["for carol"]))

    def test_slow_second_connection_leaves_the_first_alone(self) -> None:
        """The phone hangs, the laptop goes on."""
        rig = Rig()
        alice, laptop, phone = rig.sign_in(ALICE), rig.sign_in(BOB), rig.sign_in(BOB)
        phone.link.stuck = True
        alice.send(BOB, "hello")
        rig.turn()
        self.assertEqual((phone.link.closed, laptop.link.closed), (4003, None))
        self.assertEqual((laptop.shown, rig.log), (["hello"], ["sent hello"]))

    def test_slow_sender_does_not_lose_what_he_was_not_told(self) -> None:
        """His message is durable and pushed, though the answer found no room."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.link.stuck = True
        alice.send(BOB, "hello")
        rig.turn()
        self.assertEqual((alice.link.closed, bob.shown), (4003, ["hello"]))
        again = rig.sign_in(ALICE)
        again.send(BOB, "hello")
        rig.turn()
        self.assertEqual((again.accepted, bob.shown), (["hello"], ["hello"]))


class ConnectionsTests(TestCase):
    """Several connections of one user."""

    def setUp(self) -> None:
        self.rig = Rig(connections_per_user=3)

    def test_new_connection_of_a_device_replaces_the_old_one(self) -> None:
        """4001; what the old one had not acknowledged comes on the new one."""
        alice, old = self.rig.sign_in(ALICE), self.rig.sign_in(BOB, "phone")
        alice.send(BOB, "hello")
        self.rig.turn()
        new = self.rig.sign_in(BOB, "phone")
        self.assertEqual((old.link.closed, new.link.closed), (4001, None))
        self.assertEqual((new.shown, self.rig.log), (["hello"], ["sent hello"]))

    def test_other_devices_and_none_stay(self) -> None:
        """Only the same device is replaced; without one every connection is its own."""
        clients = [self.rig.sign_in(BOB, device) for device in ("phone", "", "")]
        self.rig.sign_in(ALICE, "phone")
        self.assertEqual([client.link.closed for client in clients], [None, None, None])

    def test_oldest_goes_over_the_limit(self) -> None:
        """4001 for the oldest; the newest always wins."""
        clients = [self.rig.sign_in(BOB) for _ in range(5)]
        self.assertEqual([client.link.closed for client in clients], [4001, 4001, None, None, None])

    def test_replaced_device_does_not_cost_another_one(self) -> None:
        """At the limit a returning phone pushes out its own old connection only."""
        clients = [self.rig.sign_in(BOB, device) for device in ("laptop", "phone", "tablet", "phone")]
        self.assertEqual([client.link.closed for client in clients], [None, 4001, None, None])
        self.assertEqual(self.rig.node.hub.sessions, 3)

    def test_what_waited_on_a_replaced_connection_is_not_lost(self) -> None:
        """The old one was still being brought up to date when its device came again."""
        rig = Rig(store_delay=1.0)
        alice, old = rig.sign_in(ALICE), rig.sign_in(BOB, "phone")
        alice.send(BOB, "hello")
        rig.advance(0.5)
        new = rig.sign_in(BOB, "phone")
        rig.advance(20)
        self.assertEqual((old.shown, new.shown[:1]), ([], ["hello"]))


class ResendTests(TestCase):
    """Unacknowledged pushes."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)
        self.alice.send(BOB, "hello")
        self.rig.turn()

    def pushes_after(self, seconds: float) -> int:
        self.bob.forget()
        self.rig.advance(seconds)
        return len(self.bob.shown)

    def test_pushed_again_after_5_30_and_300_seconds_then_offline_after_30_more(self) -> None:
        """Each delay counts from the last push; never early, a quarter of a second late at most; OFFLINE once."""
        for delay in (5, 30, 300):
            self.assertEqual(self.pushes_after(delay - 0.01), 0)
            self.assertEqual(self.pushes_after(0.26), 1)
            self.rig.clock.rightNow -= 0.25  # the next delay counts from when it was due
        self.assertEqual(self.pushes_after(29), 0)
        self.assertEqual(self.rig.log, ["sent hello"])
        self.assertEqual(self.pushes_after(2), 0)
        self.assertEqual(self.rig.log, ["sent hello", "offline hello"])
        self.assertEqual(self.pushes_after(400), 0)
        self.assertEqual(self.rig.log, ["sent hello", "offline hello"])
        self.assertEqual((self.rig.metrics.pushes["resend"], self.rig.metrics.offline["unacknowledged"]), (3, 1))

    def test_acknowledged_message_is_not_pushed_again(self) -> None:
        """Nor turned offline."""
        self.assertEqual(self.pushes_after(6), 1)
        self.bob.ack("hello")
        self.assertEqual(self.pushes_after(400), 0)
        self.assertEqual(self.rig.log, ["sent hello", "ack 3 hello"])

    def test_acknowledged_while_a_retry_is_on_its_way(self) -> None:
        """An ACK that is being committed when the retry falls due holds it back."""
        rig = Rig(commit_delay=1.0)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.advance(1)
        rig.advance(4.5)
        bob.ack("hello")
        rig.advance(400)
        self.assertEqual((bob.shown, rig.log), (["hello"], ["sent hello", "ack 3 hello"]))

    def test_acknowledgement_that_could_not_be_committed(self) -> None:
        """The retry asks again, five seconds late."""
        self.rig.advance(4)
        self.rig.outbox.fail_appends = True
        self.bob.ack("hello")
        self.assertEqual(self.pushes_after(5.9), 0)
        self.rig.outbox.fail_appends = False
        self.assertEqual(self.pushes_after(0.5), 1)
        self.bob.ack("hello")
        self.rig.advance(400)
        self.assertEqual(self.rig.log, ["sent hello", "ack 3 hello"])

    def test_what_was_given_up_does_not_come_again_on_the_same_connection(self) -> None:
        """He has had it four times; another connection of his shows it as owed."""
        self.assertEqual(self.pushes_after(400), 3)
        self.assertEqual(self.pushes_after(100), 0)
        self.assertEqual(self.rig.sign_in(BOB).shown, ["hello"])

    def test_ack_after_giving_up_counts(self) -> None:
        """The receipt reaches the sender, the store owes it no longer."""
        self.rig.advance(400)
        self.bob.ack("hello")
        self.rig.turn()
        self.assertEqual((self.alice.receipts, self.rig.owed(BOB)), ([("hello", 3)], []))

    def test_second_connection_starts_the_clock_anew(self) -> None:
        """What it was just shown does not come again a moment later because another connection is due."""
        self.rig.advance(4)
        laptop = self.rig.sign_in(BOB)
        self.assertEqual(laptop.shown, ["hello"])
        self.assertEqual((self.pushes_after(4.9), len(laptop.shown)), (0, 1))
        self.assertEqual((self.pushes_after(0.4), len(laptop.shown)), (1, 2))

    def test_attempts_go_on_counting_over_connections(self) -> None:
        """A user who reconnects all the time does not keep a message from ever being turned offline."""
        self.rig.advance(36)
        laptop = self.rig.sign_in(BOB)
        self.rig.advance(299)
        self.assertEqual(laptop.shown, ["hello"])
        self.rig.advance(2)
        self.assertEqual((laptop.shown, self.rig.log), (["hello"] * 2, ["sent hello"]))
        self.rig.advance(31)
        self.assertEqual(self.rig.log, ["sent hello", "offline hello"])

    def test_retry_reaches_every_connection(self) -> None:
        """Also the one that was behind when it was first pushed."""
        laptop = self.rig.sign_in(BOB)
        self.rig.advance(5.3)
        self.assertEqual((self.bob.shown, laptop.shown), (["hello"] * 2, ["hello"] * 2))

    def test_retry_that_finds_nobody_to_push_to_is_not_the_last(self) -> None:
        """Only a connection that is still behind is left; when it has caught up without a store, the retry finds it."""
        rig = Rig()
        alice, phone = rig.sign_in(ALICE), rig.sign_in(BOB)
        rig.business.held = True
        alice.send(BOB, "hello")
        rig.advance(1)
        rig.pending._delay = 1000.0
        laptop = rig.sign_in(BOB)
        phone.leave()
        rig.advance(6)
        self.assertEqual((laptop.live, laptop.shown), (True, []))
        rig.advance(30)
        self.assertEqual(laptop.shown, ["hello"])

    def test_too_many_on_one_node_turns_the_oldest_offline_early(self) -> None:
        """limits.unacknowledged_total bounds the memory; the newest keep their retries."""
        rig = Rig(unacknowledged_total=2)
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        for text in ("one", "two", "three", "four"):
            alice.send(BOB, text)
            rig.turn()
        self.assertEqual(bob.shown, ["one", "two", "three", "four"])
        self.assertEqual([line for line in rig.log if "offline" in line], ["offline one", "offline two"])
        self.assertEqual(len(rig.node.resend), 2)
        rig.advance(5.3)
        self.assertEqual(bob.shown[4:], ["three", "four"])

    def test_many_logins_do_not_break_that_bound(self) -> None:
        """What a login brings counts like what is sent."""
        rig = Rig(unacknowledged_total=5)
        alice = rig.sign_in(ALICE)
        for number in range(20):
            alice.send(BOB, f"{number}")
        rig.advance(1)
        bob = rig.sign_in(BOB)
        self.assertEqual(bob.shown, [str(number) for number in range(20)])
        self.assertEqual(len(rig.node.resend), 5)
        self.assertEqual(rig.log.count("offline 0"), 1)


class WheelTests(TestCase):
    """The timer wheel alone."""

    def setUp(self) -> None:
        self.resend = Resend((5.0, 30.0), 10.0, 100)

    def push(self, number: int, now: float) -> None:
        message = Message(number, b"", ALICE, BOB, 1, "", 0, 0)
        self.resend.pushed(self.resend.hold(message, b""), now)

    def due(self, now: float) -> tuple[list[int], list[int]]:
        again, given_up = self.resend.due(now)
        return [entry.message.msg_id for entry in again], [entry.message.msg_id for entry in given_up]

    def test_process_that_slept_catches_up(self) -> None:
        """Everything that fell due meanwhile is due once."""
        self.push(1, 0.0)
        self.assertEqual(self.due(1.0), ([], []))
        self.push(2, 2.0)
        self.assertEqual(self.due(3600.0), ([1, 2], []))
        self.assertEqual(self.due(3600.25), ([], []))

    def test_entry_that_ended_and_came_again_is_a_new_one(self) -> None:
        """Its old place in the wheel means nothing any more."""
        self.push(1, 0.0)
        self.resend.end(1)
        self.push(1, 3.0)
        self.assertEqual(self.due(5.0), ([], []))
        self.assertEqual(self.due(8.0), ([1], []))

    def test_place_in_the_wheel_may_move_forward(self) -> None:
        """A later push on another connection with a shorter wait ahead."""
        resend = Resend((100.0, 1.0), 10.0, 100)
        entry = resend.hold(Message(1, b"", ALICE, BOB, 1, "", 0, 0), b"")
        resend.pushed(entry, 0.0)
        entry.attempts = 1
        resend.pushed(entry, 0.0)
        self.assertEqual(resend.due(1.0), ([entry], []))
        self.assertEqual(resend.due(200.0), ([], []))

    def test_wheel_keeps_nothing_of_what_has_ended(self) -> None:
        """After the longest delay there is no trace of an acknowledged message."""
        for number in range(100):
            self.push(number, number / 10)
            self.resend.end(number)
        self.due(50.0)
        self.assertEqual((len(self.resend), self.resend._wheel, self.resend._users), (0, {}, {}))


class MetricsTests(TestCase):
    """What the operator reads."""

    def test_counts(self) -> None:
        """Accepted, pushed by kind, receipts by status."""
        rig = Rig()
        alice, bob = rig.sign_in(ALICE), rig.sign_in(BOB)
        alice.send(BOB, "hello")
        rig.turn()
        rig.advance(6)
        rig.sign_in(BOB)
        bob.ack("hello", 4)
        rig.turn()
        metrics = rig.metrics
        self.assertEqual((metrics.sends_accepted, dict(metrics.receipts)), (1, {4: 1}))
        self.assertEqual(dict(metrics.pushes), {"live": 1, "resend": 1, "backfill": 1})
        self.assertTrue(all(isinstance(event, Sent) for event in rig.events[:1]))
