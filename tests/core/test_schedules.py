"""Random schedules of one node: whatever happens, what was acknowledged is not lost, shown twice, stuck or reordered.

A failure names its seed; `IMCONNECT_SEED=17` runs that one alone, `IMCONNECT_SEEDS=5000` hunts longer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from imconnect.model import Status
from imconnect.wire import client_codec as wire
from imconnect.wire.client_codec import Pushed, ReceiptReply, SendReply, WithdrawReply
from tests.core.rig import ALICE, BOB, CAROL, Client, RecordingLink, Rig, send_frame, text_of
from tests.support import TestCase

USERS = (ALICE, BOB, CAROL)
SEEDS = int(os.environ.get("IMCONNECT_SEEDS", "100"))
STEPS = 120
#: The shortest retry delay: sooner than this after its last push nothing comes again on the same connection.
SHORTEST = 5.0


class Broken(AssertionError):
    """A promise was broken."""


class Judge:
    """Sees everything that anybody is told, over all lives of the node, and holds it to the promises."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.accepted: dict[str, int] = {}
        self.sends: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.withdrawn: set[int] = set()
        self.receipts: dict[tuple[int, int], float] = {}
        #: When each message was pushed last, on any connection; and when before that.
        self._pushed_at: dict[int, tuple[float, float]] = {}
        #: What went wrong. Not raised: the node is in the middle of a turn.
        self.broken: list[str] = []
        #: Whether order is promised at all in this schedule.
        self.in_order = True

    def verdict(self) -> None:
        if self.broken:
            raise Broken("; ".join(self.broken))

    def saw(self, link: JudgedLink, response: wire.Response) -> None:
        if isinstance(response, Pushed):
            self._push(link, response)
        elif isinstance(response, SendReply):
            self._answer(response)
        elif isinstance(response, ReceiptReply):
            self._receipt(link, response)
        elif isinstance(response, WithdrawReply) and response.success:
            self.withdrawn.add(response.msg_id)

    def _push(self, link: JudgedLink, push: Pushed) -> None:
        msg_id, now = push.msg_id, self._seconds()
        if push.receiver != link.user:
            self.broken.append(f"{push.content!r} was shown to {link.user}")
        if (msg_id, Status.DELIVERED) in self.receipts or (msg_id, Status.READ) in self.receipts:
            self.broken.append(f"{push.content!r} was shown after its receipt")
        if msg_id in self.withdrawn:
            self.broken.append(f"{push.content!r} was shown after its withdrawal")
        before, last = self._pushed_at.get(msg_id, (0.0, 0.0))
        if last < now:
            before, last = last, now
        since = now - max(before, link.shown.get(msg_id, 0.0))
        if msg_id in link.shown and since < SHORTEST:
            self.broken.append(f"{push.content!r} was shown again after {since:.2f} s")
        if msg_id not in link.shown and self.in_order and msg_id < link.newest.get(push.sender, 0):
            self.broken.append(f"{push.content!r} was shown after a later message of its sender")
        link.shown[msg_id] = now
        link.newest[push.sender] = max(msg_id, link.newest.get(push.sender, 0))
        self._pushed_at[msg_id] = before, last

    def _answer(self, reply: SendReply) -> None:
        text = text_of(reply.client_msg_id)
        if reply.status == Status.FAILED:
            self.refusals[text] += 1
        elif self.accepted.setdefault(text, reply.msg_id) != reply.msg_id:
            self.broken.append(f"{text!r} has two ids")

    def _receipt(self, link: JudgedLink, receipt: ReceiptReply) -> None:
        key = receipt.msg_id, receipt.status
        if self.receipts.setdefault(key, self._seconds()) != self._seconds() or key in link.receipts:
            self.broken.append(f"the receipt {receipt.status} of {text_of(receipt.client_msg_id)!r} was told twice")
        link.receipts.add(key)


class JudgedLink(RecordingLink):
    """A connection under the judge's eye."""

    def __init__(self, judge: Judge, user: int) -> None:
        super().__init__()
        self.user = user
        self.judge = judge
        self.shown: dict[int, float] = {}
        self.newest: dict[int, int] = {}
        self.receipts: set[tuple[int, int]] = set()

    def write(self, payloads: Sequence[bytes]) -> bool:
        if not super().write(payloads):
            return False
        for response in self.writes[-1]:
            self.judge.saw(self, response)
        return True


class Schedule:
    """One random run: people who do what people do, a node that dies, neighbours that are away."""

    #: Kind of the judge's links.
    link = JudgedLink

    def __init__(self, seed: int, **settings: Any) -> None:
        self.random = random = Random(seed)
        small = random.random() < 0.3
        self.told: dict[str, Any] = {
            "commit_delay": random.choice((0.0, 0.05, 1.0)),
            "store_delay": random.choice((0.0, 0.3, 1.0)),
            "page": random.choice((3, 10, 100)),
            "connections_per_user": 2,
            # Shorter than in life, so that little time sees everything; never less than SHORTEST.
            "delays": (SHORTEST, 8.0),
            "give_up": 7.0,
            "dedupe_window": 1e6,
            "business_lag": random.choice((60.0, 1e6, 1e6)),
            "unacknowledged": 4 if small else 1000,
            "outgoing_bytes": 300 if small else 1048576,
            "unacknowledged_total": 10 if small else 100000,
            "outbox_max_events": random.choice((15, 1000000)),
            **settings,
        }
        self.rig = Rig(**self.told)
        self.judge = Judge(lambda: self.rig.clock.seconds())
        # What is older than business_lag comes when business has it.
        self.judge.in_order = self.told["business_lag"] > 60
        self.clients: list[Client] = []
        self.trace: list[str] = []
        self.count = 0
        self.sent: list[tuple[int, int, str]] = []

    def run(self) -> None:
        for _ in range(STEPS):
            self.step()
            self.judge.verdict()
        self.heal()
        self.last_day()
        self.judge.verdict()

    def step(self) -> None:
        names, weights = zip(*WEIGHTS.items(), strict=True)
        [name] = self.random.choices(names, weights)
        getattr(self, name)()
        if self.random.random() < 0.7:
            self.rig.turn()

    def note(self, what: str) -> None:
        self.trace.append(f"{self.rig.clock.seconds() - 1000:8.2f} {what}")

    def anybody(self) -> Client | None:
        self.clients = [client for client in self.clients if client.link.closed is None]
        return self.random.choice(self.clients) if self.clients else None

    # -- what people do

    def sign_in(self) -> None:
        user, device = self.random.choice(USERS), self.random.choice(("", "", "phone"))
        self.note(f"{user} signs in {device}")
        self.clients.append(Client(self.rig, user, device, self.link(self.judge, user)))

    def leave(self) -> None:
        client = self.anybody()
        if client is not None:
            self.note(f"{client.user} leaves")
            self.clients.remove(client)
            client.leave()

    def send(self) -> None:
        client = self.anybody()
        if client is not None:
            to = self.random.choice(USERS)
            frames = []
            for _ in range(self.random.choice((1, 1, 1, 3))):
                self.count += 1
                text = f"m{self.count}"
                self.note(f"{client.user} sends {text} to {to}")
                self.sent.append((client.user, to, text))
                self.judge.sends[text] += 1
                frames.append(send_frame(to, text))
            client.read(*frames)

    def repeat(self) -> None:
        client = self.anybody()
        mine = [one for one in self.sent[-20:] if client is not None and one[0] == client.user]
        if client is not None and mine:
            _, to, text = self.random.choice(mine)
            self.note(f"{client.user} repeats {text}")
            self.judge.sends[text] += 1
            client.send(to, text)

    def ack(self) -> None:
        client = self.anybody()
        if client is not None:
            pushes = [push for push in client.got if isinstance(push, Pushed)]
            frames = []
            for push in self.random.sample(pushes, min(len(pushes), self.random.choice((1, 1, 5)))):
                status = self.random.choice((3, 3, 4))
                self.note(f"{client.user} acknowledges {push.content} with {status}")
                frames.append(wire.encode_ack(push.client_msg_id, push.msg_id, push.sender, status))
            client.read(*frames)

    def ack_what_is_foreign(self) -> None:
        client = self.anybody()
        foreign = [text for _, to, text in self.sent if client is not None and to != client.user]
        ids = [self.judge.accepted[text] for text in foreign if text in self.judge.accepted]
        if client is not None and ids:
            client.read(wire.encode_ack(b"", self.random.choice(ids), ALICE, 4))

    def withdraw(self) -> None:
        client = self.anybody()
        mine = [one for one in self.sent[-20:] if client is not None and one[0] == client.user]
        known = [(to, text) for _, to, text in mine if text in self.judge.accepted]
        if client is not None and known:
            to, text = self.random.choice(known)
            self.note(f"{client.user} withdraws {text}")
            client.read(wire.encode_withdraw(self.judge.accepted[text], to))

    def stop_reading(self) -> None:
        client = self.anybody()
        if client is not None:
            self.note(f"{client.user} stops reading")
            client.link.stuck = client.link.slow = True

    # -- what the world does

    def wait(self) -> None:
        seconds = self.random.choice((0.01, 0.3, 1.0, 1.0, 3.0, 6.0, 12.0))
        self.note(f"{seconds} s pass")
        self.rig.advance(seconds)

    def wait_long(self) -> None:
        self.note("40 s pass")
        self.rig.advance(40)

    def crash(self) -> None:
        self.note("crash")
        self.rig.outbox.fail_appends = False
        for client in self.clients:
            client.link.closed = 1006
        self.rig.crash()

    def hold_business(self) -> None:
        self.note("business lags")
        self.rig.business.held = True

    def free_business(self) -> None:
        self.note("business goes on")
        self.rig.business.go_on()

    def break_disk(self) -> None:
        self.note("the disk is full")
        self.rig.outbox.fail_appends = True

    def repair_disk(self) -> None:
        self.note("the disk has room")
        self.rig.outbox.fail_appends = False

    def take_store_away(self) -> None:
        self.note("the store is away")
        self.rig.store.away = "gone"
        self.judge.in_order = False  # a login goes live without what it is owed; that comes later

    def bring_store_back(self) -> None:
        self.note("the store is back")
        self.rig.store.away = ""

    # -- the end

    def heal(self) -> None:
        """Everything works again, and there is time."""
        self.repair_disk()
        self.bring_store_back()
        self.free_business()
        for _ in range(12):
            self.rig.advance(10)
            if not self.not_shown():
                break

    def last_day(self) -> None:
        """Everybody signs in once more and acknowledges what he is shown, until nothing is left."""
        self.note("the last day")
        if self.not_shown():
            raise Broken(f"online and never shown {self.not_shown()}")
        for client in self.clients:
            if client.link.closed is None:
                client.leave()
        self.rig.advance(10)
        self.check_ends()
        people = [Client(self.rig, user, "", self.link(self.judge, user)) for user in USERS]
        self.rig.advance(4.9)
        for _ in range(60):
            for client in people:
                frames = [
                    wire.encode_ack(push.client_msg_id, push.msg_id, push.sender, 3)
                    for push in client.got
                    if isinstance(push, Pushed)
                ]
                client.forget()
                client.read(*frames)
            self.rig.advance(3)
            if not self.rig.store.tables.owed and not any(client.got for client in people):
                break
        self.check_store()

    def not_shown(self) -> list[str]:
        """What people are owed who are here and read and have not too much open, and were not shown it."""
        missing: list[str] = []
        for client in self.clients:
            link = client.link
            assert isinstance(link, JudgedLink)
            full = len(client.session.open) >= self.told["unacknowledged"] // 2
            if link.closed is None and not link.slow and not full:
                owed = self.rig.owed(client.user)
                missing += [text for text in owed if self.rig.id_of(text) not in link.shown]
        return missing

    def check_ends(self) -> None:
        """Every accepted message has ended: acknowledged, withdrawn or offline."""
        ended = {line.split()[-1] for line in self.rig.log if not line.startswith("sent")}
        stuck = [text for text in self.judge.accepted if text not in ended]
        if stuck:
            raise Broken(f"{stuck} were accepted and never ended")

    def check_store(self) -> None:
        rows = list(self.rig.store.tables.messages.values())
        stored = Counter(row.content for row in rows)
        lost = [text for text in self.judge.accepted if stored[text] != 1]
        if lost:
            raise Broken(f"{lost} were accepted and are not in the store once")
        wrong = [row.content for row in rows if self.judge.accepted.get(row.content, row.msg_id) != row.msg_id]
        if wrong:
            raise Broken(f"{wrong} have another id in the store than their senders were told")
        refused = [text for text, count in self.judge.refusals.items() if count == self.judge.sends[text]]
        if any(stored[text] for text in refused):
            raise Broken(f"of {refused}, refused each time, some are stored")
        owed = [row.content for row in rows if not row.withdrawn and row.msg_status < Status.DELIVERED]
        if owed or self.rig.store.tables.owed or self.rig.store.tables.parked:
            raise Broken(f"{owed} never reached their receivers, or rows are left over")


WEIGHTS = {
    "send": 30,
    "ack": 14,
    "wait": 14,
    "sign_in": 9,
    "leave": 5,
    "repeat": 5,
    "withdraw": 4,
    "ack_what_is_foreign": 1,
    "stop_reading": 1,
    "wait_long": 1,
    "crash": 2,
    "hold_business": 2,
    "free_business": 3,
    "break_disk": 1,
    "repair_disk": 4,
    "take_store_away": 0.3,
    "bring_store_back": 2,
}


def play(test: TestCase, make: Callable[[int], Schedule], seeds: int) -> None:
    """Schedules of these seeds, or the one that was asked for."""
    one = os.environ.get("IMCONNECT_SEED")
    for seed in [int(one)] if one else range(seeds):
        schedule = make(seed)
        try:
            schedule.run()
        except Broken as error:
            trace = "\n".join(schedule.trace)
            test.fail(f"seed {seed}: {error}\n{schedule.told}\n{trace}")
    test.assertEqual(test.flushLoggedErrors(), [])


class ScheduleTests(TestCase):
    """The promises, under anything that may happen to one node."""

    def test_random_schedules(self) -> None:
        """Accepted once means stored once, shown, never shown again without a reason, and in order."""
        play(self, Schedule, SEEDS)

    def test_judge_is_not_blind(self) -> None:
        """What is pushed twice, out of order, after its receipt or never is found out."""
        judge = Judge(lambda: 1000.0)
        link = JudgedLink(judge, BOB)
        for number in (2, 1, 2):
            judge.saw(link, Pushed(number, b"", ALICE, BOB, 1, f"m{number}", 0, 0))
        judge.saw(link, ReceiptReply(b"", 3, BOB, ALICE, 3, 0))
        judge.saw(link, Pushed(3, b"", ALICE, BOB, 1, "m3", 0, 0))
        self.assertEqual(
            judge.broken,
            [
                "'m1' was shown after a later message of its sender",
                "'m2' was shown again after 0.00 s",
                "'m3' was shown after its receipt",
            ],
        )
        self.assertRaises(Broken, judge.verdict)
        schedule = Schedule(0)
        schedule.judge.accepted["never sent"] = 1
        self.assertRaises(Broken, schedule.check_ends)
        self.assertRaises(Broken, schedule.check_store)
