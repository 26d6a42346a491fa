"""The end of a run: everything is healed, everybody is online, and then the accounts must be clean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from tests.live.accounts import Violation, audit
from tests.live.books import Terms
from tests.live.chatter import Chatter
from tests.live.processes import until
from tests.live.record import Record
from tests.live.world import World

#: Seconds between two looks at the database.
LOOK = 0.3
#: Seconds after the last login in which what should not come has time to come.
QUIET = 0.5
#: What only the last login can tell: notices of withdrawals.
_LATER = "receipt missing"


#: Seconds between two notes that the reactor turns.
TURN = 0.02


def note_turns(reactor: Any, record: Record) -> LoopingCall:
    """From now on the record knows when this process was too busy to read; stop it at the end."""
    turning = LoopingCall(lambda: record.turns.append(reactor.seconds()))
    turning.clock = reactor
    turning.start(TURN)
    return turning


async def settle(
    world: World, record: Record, people: Sequence[Chatter], delays: Sequence[float], early: Sequence[int] = (),
    within: float = 30.0,
) -> list[Violation]:  # fmt: skip
    """-> what is wrong all the same. Nobody signs in twice to have his messages; then all do, for what they are told
    at a login."""
    reactor: Any = world.reactor
    for person in people:
        person.come()
    await until(reactor, lambda: all(p.connection and not p.waits for p in people), lambda: _unanswered(people), within)
    for person in people:
        person.ack_all()

    async def accounts(whole: bool = False) -> list[Violation]:
        terms = Terms(delays, world.store_away, world.queue_away, len(world.ports), early)
        topic = await world.topic() if whole else None
        # On a thread: meanwhile people are heard, and the times of what they see are right.
        return await deferToThread(audit, record.snapshot(), await world.rows(), terms, topic)

    deadline = reactor.seconds() + within
    while any(each.kind != _LATER for each in await accounts()) and reactor.seconds() < deadline:
        await deferLater(reactor, LOOK)
    for person in people:
        await person.leave()
        person.come()
    await until(reactor, lambda: all(person.connection for person in people), "all are back", within)
    await deferLater(reactor, QUIET)
    deadline = reactor.seconds() + 6
    while await accounts() and reactor.seconds() < deadline:
        await deferLater(reactor, LOOK)
    found = await accounts(whole=True)
    for person in people:
        await person.leave()
    return found


def _unanswered(people: Sequence[Chatter]) -> str:
    waiting = {p.user: (p.connection, len(p.unanswered), len(p.withdrawing)) for p in people}
    return f"everybody is online and has his answers (connection, sends, withdrawals): {waiting}"
