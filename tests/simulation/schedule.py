"""One random run: people who do what people do, in a world in which everything fails now and then; then the last day."""

from __future__ import annotations

import random as global_random
import traceback
from collections import Counter
from collections.abc import Sequence
from random import Random

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from imconnect.core.settings import Settings
from imconnect.model import Status
from tests.simulation.doings import Doings
from tests.simulation.doings_nodes import NodeDoings
from tests.simulation.judge import ROOM
from tests.simulation.people import Person, Sending
from tests.simulation.world import World

USERS = (1001, 1002, 1003)
STEPS = 60
#: Shorter than in life, so that little time sees everything.
DELAYS, GIVE_UP = (2.0, 3.0), 2.5
WATCH = 2.0
#: How long, after everything works again, somebody may wait for what he is owed; seconds.
PATIENCE = 40.0
#: Rounds of the last day, each a little longer than a watch.
ROUNDS = 40


class Broken(AssertionError):
    """A promise was broken."""


def settings_of(random: Random, one_lane: bool) -> Settings:
    """Small bounds, so that few messages reach them.

    Small pages only where all events come by one way: else an older message may reach the store while the pages above
    it are read, and then follows a later one of its chat. No page promises against that.
    """
    small = random.random() < 0.3
    return Settings(
        delays=DELAYS,
        give_up=GIVE_UP,
        watch_interval=WATCH,
        backfill_timeout=1.5,
        page=random.choice((2, 5, 100)) if one_lane else 100,
        connections_per_user=2,
        commands_per_second=1e6,
        burst=10**6,
        unacknowledged=random.choice((2, 4, 1000, 1000)),
        outgoing_bytes=400 if small else 1048576,
        unacknowledged_total=6 if small else 100000,
        outbox_max_events=random.choice((6, 1000000, 1000000)),
        dedupe_window=1e6,
        withdraw_window=1e6,
        business_lag=random.choice((15.0, 1e6, 1e6)),
        drain_deadline=2.0,
        ack_after_broker=random.random() < 0.25,
        broker_timeout=5.0,
    )


@implementer(ILogObserver)
class LogReader:
    """A failure in the log is a bug."""

    def __init__(self, broken: list[str]) -> None:
        self._broken = broken

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self._broken.append(f"logged: {event['log_failure'].getTraceback()}")


class Schedule:
    """What a seed stands for. `run` raises Broken with everything that went wrong."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        servers = random.choice((1, 1, 2, 2, 3))
        queues = 0 if servers == 1 and random.random() < 0.7 else random.choice((1, 2, 3))
        linked = servers > 1 and random.random() < 0.5
        settings = settings_of(random, one_lane=servers == 1 and queues <= 1)
        self.world = World(random, servers=servers, queues=queues, users=USERS, settings=settings, linked=linked)
        self.doings = NodeDoings(random, self.world) if linked else Doings(random, self.world)
        # What is older than business_lag comes when business has it.
        self.world.judge.in_order = settings.business_lag > PATIENCE
        self.note(f"{servers} {'linked ' * linked}servers, {queues} queues, {settings}")
        self.note(f"speeds {self.world.faults.speeds}, of a hundred fail {self.world.faults.rates}")

    def run(self) -> None:
        # Backoff is jittered by the module's own generator.
        before = global_random.getstate()
        global_random.seed(self.seed)
        reader = LogReader(self.world.record.broken)
        globalLogPublisher.addObserver(reader)
        try:
            for _ in range(STEPS):
                self.step()
                self.verdict()
            self.heal()
            self.last_day()
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"raised: {traceback.format_exc()}") from error
        finally:
            globalLogPublisher.removeObserver(reader)
            global_random.setstate(before)

    def step(self) -> None:
        self.doings.happen()
        if self.random.random() < 0.7:
            self.world.timeline.turn()

    def verdict(self) -> None:
        if self.world.record.broken:
            raise Broken("; ".join(self.world.record.broken[:5]))

    def note(self, what: str) -> None:
        self.world.note(what)

    # -- the end

    def heal(self) -> None:
        """Everything works again. Whoever is online is shown what he is owed, without having to do anything."""
        self.note("everything is healed")
        self.world.heal()
        begin = self.world.timeline.now
        while self.world.timeline.now < begin + PATIENCE:
            self.world.advance(4)
            self.verdict()
            if not self.not_shown():
                return
        raise Broken(f"online, and not shown after {PATIENCE:.0f} s: {self.not_shown()}")

    def not_shown(self) -> list[str]:
        """What people are owed who are here and read and have not too much open, and were not shown."""
        missing: list[str] = []
        bound = self.world.settings.unacknowledged
        for person in self.world.people:
            owed = [msg_id for user, msg_id in self.world.store.tables.owed if user == person.user]
            for link in person.links:
                if link.reading and not link.full({*owed, *self.world.model.doubles}, bound):
                    missing += [
                        f"{self.world.model.facts[msg_id].message.content} to {link.user} on {link.server.number}"
                        for msg_id in owed
                        if msg_id not in link.shown
                    ]
        return missing

    def last_day(self) -> None:
        """Everybody leaves; everybody comes once more and acknowledges what he is shown, until nothing is left."""
        self.note("the last day")
        world = self.world
        for person in world.people:
            for link in tuple(person.links):
                link.leave()
        world.advance(6)
        world.record.check_ends(world.across.died_with())
        for person in world.people:
            world.sign_in(person, self.doings.server(), "")
        world.advance(2)
        self.check_notices()
        for _ in range(ROUNDS):
            for person in world.people:
                person.acknowledge(person.links[0], self.due(person), Status.DELIVERED)
            if not world.store.tables.owed:
                break
            world.advance(WATCH + 0.5)
        self.check_store()
        self.verdict()

    def due(self, person: Person) -> list[int]:
        """What he has to acknowledge. ACKs over a bound are dropped (a full outbox, look-ups per second), and a node
        without room to remember its pushes does not ask again: there he does it again himself."""
        again: list[int] = []
        settings = self.world.settings
        if min(settings.outbox_max_events, settings.unacknowledged_total) < ROOM:
            owed = self.world.store.tables.owed
            again = [msg_id for user, msg_id in owed if user == person.user and msg_id in person.acked]
        return person.not_acknowledged() + again

    def check_notices(self) -> None:
        """Whoever missed a withdrawal has been told of it at his login."""
        for person in self.world.people:
            for msg_id, fact in self.world.model.facts.items():
                mine = fact.withdrawn and fact.message.receiver == person.user
                if mine and msg_id not in person.links[0].notices:
                    self.world.judge.broken(f"{person.user} was never told that {fact.message.content!r} is withdrawn")

    def check_store(self) -> None:
        world = self.world
        rows = list(world.store.tables.messages.values())
        stored = Counter((row.from_id, row.client_msg_id) for row in rows)
        self.check_sent([one for person in world.people for one in person.sent], stored)
        for msg_id, message in world.record.messages.items():
            fact = world.model.facts.get(msg_id)
            if fact is None and msg_id in world.model.doubles:
                continue
            if fact is None:
                world.judge.broken(f"{message.content!r} was durable and is not in the store")
            elif fact.owed:
                world.judge.broken(f"{message.content!r} never reached {message.receiver}")
        if [row for row in world.store.tables.early.values() if row.msg_id not in world.model.doubles]:
            world.judge.broken("something early is left over")

    def check_sent(self, sent: Sequence[Sending], stored: Counter[tuple[int, bytes]]) -> None:
        """Accepted once is stored once, refused each time is not stored."""
        judge = self.world.judge
        for sending in sent:
            count = stored[sending.sender, sending.client_msg_id]
            is_there = sending.msg_id in judge.model.facts or sending.msg_id in judge.model.doubles
            if sending.msg_id and (count != 1 or not is_there):
                judge.broken(f"{sending.text!r} was accepted and is in the store {count} times")
            refused = judge.answers[sending, False]
            if refused == sending.times and not self._has_been_accepted(sending, sent) and count:
                judge.broken(f"{sending.text!r} was refused each time and is in the store")

    def _has_been_accepted(self, sending: Sending, sent: Sequence[Sending]) -> bool:
        """This clientMsgId, with another content."""
        return any(one is not sending and one.client_msg_id == sending.client_msg_id for one in sent)
