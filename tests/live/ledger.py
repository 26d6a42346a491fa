"""The ledger: real processes, people who talk, seeded kills, and accounts at the end.

`make ledger SEED=1 MINUTES=1` runs gateway, imbusiness, RocketMQ and MariaDB; `FORM=embedded` one process on SQLite.
Exits non-zero on any violation. One seed has one schedule of blows and one character per talker; what they meet is up
to the machine, so a finding is kept: the folder with all logs and every frame is named at the end.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

from tests.live.accounts import Violation, table
from tests.live.record import Record
from tests.live.schedule import Blow, schedule
from tests.live.settle import note_turns, settle
from tests.live.talker import Talker
from tests.live.world import Whole, World
from tests.servers.mariadb import MariaDb
from tests.servers.private import CannotRun
from tests.servers.rocketmq_broker import DevBroker

#: `retry.delays` and `retry.give_up`, seconds: short, so that retries and giving up happen in a short run.
DELAYS, GIVE_UP = (2.0, 4.0, 8.0), 4.0
SETTINGS = {"retry.delays": list(DELAYS), "retry.give_up": GIVE_UP}
#: Events go on as soon as a broker is back.
WHOLE_SETTINGS = {**SETTINGS, "rocketmq.producer.send_timeout": 3}
PEOPLE = 6
#: Seconds that a process runs at least between two blows.
REST = 1.0
#: Seconds in which everything must be in order after the last process is back.
HEALED_WITHIN = 60.0


class Outcome(NamedTuple):
    """Of one run."""

    violations: list[Violation]
    facts: dict[str, int]


async def run(world: World, seed: int, seconds: float, blows: Sequence[Blow], record: Record) -> Outcome:
    """Talk and hurt for so long, heal, settle, compare. Raises where it does not come to rest."""
    users = range(1001, 1001 + PEOPLE)
    talkers = [
        Talker(world.reactor, [world.gateway.port], user, record, [u for u in users if u != user], seed) for user in users
    ]
    await world.start()
    turning = note_turns(world.reactor, record)
    try:
        for talker in talkers:
            talker.begin()
        mine: dict[str, list[Blow]] = defaultdict(list)
        for blow in blows:
            mine[blow.process].append(blow)
        begun = world.reactor.seconds()
        hurting = [Deferred.fromCoroutine(_hurt(world, begun, each)) for each in mine.values()]
        await deferLater(world.reactor, seconds)
        for talker in talkers:
            talker.stop_talking()
        await gatherResults(hurting, consumeErrors=True)
        violations = await settle(world, record, talkers, DELAYS, within=HEALED_WITHIN)
        return Outcome(violations, await _facts(world, record, blows))
    finally:
        for talker in talkers:
            talker.stop_talking()
            await talker.leave()
        turning.stop()


async def _hurt(world: World, begun: float, blows: Sequence[Blow]) -> None:
    """One process, blow by blow; where a start took long, it runs for a moment all the same before the next one."""
    for blow in blows:
        await deferLater(world.reactor, max(REST, begun + blow.at - world.reactor.seconds()))
        if blow.kind == "pause":
            world.pause(blow.process)
            await deferLater(world.reactor, blow.seconds)
            world.resume(blow.process)
            continue
        if blow.kind == "stop":
            await world.ours[blow.process].stop()
        else:
            await world.kill9(blow.process)
        await deferLater(world.reactor, blow.seconds)
        await world.revive(blow.process)


async def _facts(world: World, record: Record, blows: Sequence[Blow]) -> dict[str, int]:
    """How much was put to the test."""
    facts = {f"{blow.kind} of {blow.process}": 0 for blow in blows}
    for blow in blows:
        facts[f"{blow.kind} of {blow.process}"] += 1
    said, told = Counter(type(went.what).__name__ for went in record.went), Counter[str]()
    told.update(type(came.what).__name__ for came in record.came)
    stored = len((await world.rows()).messages)
    topic = await world.topic()
    return {
        "messages stored": stored,
        "events in the topic": len(topic or ()),
        "connections": len(record.links),
        **facts,
        **{f"{name} frames sent": count for name, count in sorted(said.items())},
        **{f"{name} frames received": count for name, count in sorted(told.items())},
    }


async def ledger(reactor: Any, seed: int, minutes: float, form: str, ack_after: str) -> int:
    """The command; -> its exit status."""
    folder = Path(tempfile.mkdtemp(prefix="imconnect-ledger-"))
    folder.chmod(0o755)  # MariaDB runs as a user of its own
    record = Record()
    servers: list[Any] = []
    try:
        world = await _world(reactor, folder, form, ack_after, servers)
    except CannotRun as error:
        print(f"ledger: {error}", file=sys.stderr)
        return 2
    blows = schedule(seed, minutes * 60, world.names)
    print(f"seed {seed}, {minutes:g} minutes, {form}: {len(blows)} blows, {PEOPLE} people", flush=True)
    try:
        outcome = await run(world, seed, minutes * 60, blows, record)
    except Exception as error:
        _write_frames(record, folder)
        print(f"{world.tail()}\n\nno accounts: {error}\nlogs and frames: {folder}")
        return 1
    finally:
        world.end()
        for server in servers:
            await deferToThread(server.kill9)
    print("\n".join(f"{name:<32} {count:>8}" for name, count in outcome.facts.items()))
    print(f"\n{table(outcome.violations)}")
    if outcome.violations:
        _write_frames(record, folder)
        print(f"\nviolations: {len(outcome.violations)}; logs and frames: {folder}")
        return 1
    shutil.rmtree(folder)
    print("\nclean")
    return 0


def _write_frames(record: Record, folder: Path) -> None:
    frames: list[Any] = sorted([*record.went, *record.came], key=lambda each: each.at)
    (folder / "frames.txt").write_text("\n".join(map(repr, frames)))


async def _world(reactor: Any, folder: Path, form: str, ack_after: str, servers: list[Any]) -> World:
    if form == "embedded":
        return World(reactor, folder, SETTINGS)
    broker = DevBroker(folder / "rocketmq", properties={"autoCreateTopicEnable": "false"})
    database = MariaDb(folder / "mariadb")
    servers += [broker, database]
    await gatherResults([deferToThread(server.start) for server in (broker, database)], consumeErrors=True)
    settings = {**WHOLE_SETTINGS, "outbox.ack_after": ack_after}
    return Whole(reactor, folder, settings, broker, database)


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """For `react`."""
    parser = argparse.ArgumentParser(prog="ledger", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--form", choices=("whole", "embedded"), default="whole")
    parser.add_argument("--ack-after", choices=("disk", "broker"), default="disk", help="outbox.ack_after (whole)")
    given = parser.parse_args(arguments)

    def ended(status: int) -> None:
        if status:
            raise SystemExit(status)

    running = ledger(reactor, given.seed, given.minutes, given.form, given.ack_after)
    return Deferred.fromCoroutine(running).addCallback(ended)


if __name__ == "__main__":
    react(main, sys.argv[1:])
