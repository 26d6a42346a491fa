"""What durability costs a gateway, in processor time per message: `python -m tests.bench.durability`. About a minute.

The same gateway twice, as real processes, with a queue that costs nothing (`tests.bench.unqueued`) and without business,
so that nothing hides the difference: with the outbox in memory, and as it is, in SQLite with WAL and synchronous=FULL on
the disk of the current folder.

A pair of people or several who talk through the client library in *this* process, each sender with 16 messages not
answered yet. Both gateways are up all the time and are loaded in turns, round by round, so that whatever else happens
on the machine happens to both. Every message is acknowledged by its receiver: two events per message.

The fault hooks of the crash matrix are not measured but looked for: a gateway without the variable has loaded no such
module and wrapped no method, so there is nothing that could cost. Status 1 where that is not so, or where the outbox on
disk costs more than 2.5 times what the one in memory does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import react

from imconnect.backends import outbox_sqlite
from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import ensure_schema
from imconnect.client import Client, SendResult
from imconnect.core.background import sleep
from imconnect.core.ports import Entry, Outbox, Recovered
from imconnect.events.values import Event
from tests.bench import unqueued
from tests.bench.overhead import used_by
from tests.live.processes import GatewayProcess, clean_environment, until
from tests.tap.test_faults import MAKE

MEMORY, DISK = "memory", "disk"
LABELS = {MEMORY: "outbox in memory", DISK: "outbox on disk"}
WINDOW = 16
#: What issue C promises.
MOST = 2.5
#: Seconds under load before anything counts.
WARM = 1.0
TEXT = "x" * 80


class Held:
    """`core.ports.Outbox` in memory, and as cheap as can be: the twin for tests packs as the disk does, and searches."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._batches: list[Sequence[Event]] = []
        self._last = 0
        self._positions: dict[int, int] = {}

    def open(self) -> Deferred[Recovered]:
        return succeed(Recovered([], 0, 0))

    def append(self, events: Sequence[Event]) -> Deferred[int]:
        first = self._last + 1
        self._last += len(events)
        self._firsts.append(first)
        self._batches.append(events)
        return succeed(first)

    def read(self, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        found: list[Entry] = []
        at = max(0, bisect_right(self._firsts, after + 1) - 1)
        while at < len(self._firsts) and len(found) < limit:
            found += [entry for entry in enumerate(self._batches[at], self._firsts[at]) if entry[0] > after]
            at += 1
        return succeed(found)

    def done(self, positions: Mapping[int, int]) -> None:
        self._positions.update(positions)

    def positions(self) -> Mapping[int, int]:
        return self._positions

    def park(self, parked: Iterable[tuple[int, Event, str]]) -> Deferred[None]:
        return succeed(None)

    def parked(self) -> Deferred[Sequence[tuple[int, Event, str]]]:
        return succeed([])

    def forget(self, below: int) -> None:
        gone = max(0, bisect_right(self._firsts, below) - 1)
        del self._firsts[:gone], self._batches[:gone]

    def reserve(self, until_ms: int) -> Deferred[None]:
        return succeed(None)

    def size(self) -> int:
        return 0

    def close(self) -> Deferred[None]:
        return succeed(None)


def be_gateway(kind: str) -> None:
    """In a process of its own; the rest of the command line is `tests.bench.unqueued`'s. Does not return."""
    if kind == MEMORY:
        held: Outbox = Held()
        module: Any = outbox_sqlite
        module.SqliteOutbox = lambda *_: held
    unqueued.main()


class Subject:
    """One gateway and its people."""

    def __init__(self, reactor: Any, kind: str, gateway: GatewayProcess, pairs: int) -> None:
        self.reactor, self.kind, self.gateway = reactor, kind, gateway
        self.senders = [Client(reactor, gateway.url, 1001 + 2 * pair) for pair in range(pairs)]
        self.receivers = [Client(reactor, gateway.url, 1002 + 2 * pair) for pair in range(pairs)]
        self.cpu = self.seconds = 0.0
        self.asked = self.receipts = 0
        self._until = 0.0

    async def begin(self) -> None:
        """The gateway is up and everybody is there."""
        await self.gateway.start()
        for client in (*self.senders, *self.receivers):
            await client.start()
        for sender in self.senders:
            sender.on_receipt = self._receipt

    async def load(self, seconds: float) -> None:
        """Chat for so long; what is still under way at the end belongs to it."""
        before, begun = used_by(self.gateway.pid), time.perf_counter()
        self._until = begun + seconds
        for pair in range(len(self.senders)):
            for _ in range(WINDOW):
                self._send(pair)
        await sleep(self.reactor, seconds)
        await until(self.reactor, lambda: self.receipts >= self.asked, f"every message has its receipt ({self.kind})")
        await sleep(self.reactor, 0.3)  # for the positions of the relay
        self.cpu += used_by(self.gateway.pid).cpu - before.cpu
        self.seconds += seconds

    async def events_per_commit(self) -> float:
        page = (await self.gateway.get("/metrics")).body
        events, commits = (_value(page, f"imconnect_commit_events_{part}") for part in ("sum", "count"))
        return events / commits

    async def end(self) -> None:
        await gatherResults([client.stop() for client in (*self.senders, *self.receivers)])
        await self.gateway.stop()

    def forget(self) -> None:
        """What was counted so far was to warm up."""
        self.cpu = self.seconds = 0.0
        self.asked = self.receipts = 0

    @property
    def per_message(self) -> float:
        """Microseconds of processor time."""
        return self.cpu / self.asked * 1e6

    def _send(self, pair: int) -> None:
        self.asked += 1
        self.senders[pair].send(1002 + 2 * pair, TEXT).addCallback(self._answered, pair)

    def _answered(self, _: SendResult, pair: int) -> None:
        if time.perf_counter() < self._until:
            self._send(pair)

    def _receipt(self, *_: object) -> None:
        self.receipts += 1


def _value(page: str, name: str) -> float:
    return float(page.split(f"\n{name} ", 1)[1].split("\n", 1)[0])


def subject(reactor: Any, kind: str, folder: Path, pairs: int) -> Subject:
    """Not started yet."""
    folder = folder / kind
    folder.mkdir()
    database = f"sqlite:///{folder}/business.db"
    engine = make_engine(database)
    ensure_schema(engine)
    engine.dispose()
    settings: dict[str, Any] = {
        "business.mode": "off",
        "business.database": database,
        "grpc.port": 0,
        "rocketmq.server_addr": "127.0.0.1:1",  # of a queue that nobody connects to
        "limits.commands_per_second": 1000000,
        "limits.burst": 1000000,
    }
    gateway = GatewayProcess(reactor, folder, settings)
    first = [sys.executable, "-m", "tests.bench.durability", "gateway", kind, "instant"]
    gateway.command = [*first, *gateway.command[1:]]
    gateway.env["PYTHONPATH"] = str(Path.cwd())
    return Subject(reactor, kind, gateway, pairs)


def unarmed_faults(folder: str) -> str:
    """What a gateway without the variable has loaded and wrapped, as it says itself."""
    made = subprocess.run(
        [sys.executable, "-c", MAKE, folder],
        check=True, env=clean_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return made.stdout.strip()


async def report(subjects: Mapping[str, Subject], faults: str) -> bool:
    """The table; -> whether everything is as promised."""
    print(f"\n{'':18} {'per message':>12} {'messages':>10} {'a second':>9} {'events per commit':>18}")
    for kind, each in subjects.items():
        commits = await each.events_per_commit()
        rate = each.asked / each.seconds
        print(f"{LABELS[kind]:18} {each.per_message:9.0f} us {each.asked:10,} {rate:9,.0f} {commits:18.1f}")
    ratio, clean = subjects[DISK].per_message / subjects[MEMORY].per_message, faults == "False []"
    print(f"\ndurability: {ratio:.2f} times the processor time; {'within' if ratio <= MOST else 'misses'} {MOST}")
    print(f"fault hooks, unarmed: module loaded, methods wrapped: {faults}; expected: False []")
    return ratio <= MOST and clean


async def measure(reactor: Any, pairs: int, seconds: float, rounds: int) -> None:
    """Everything. `seconds` under load per gateway in all."""
    with TemporaryDirectory(dir=".", prefix=".bench-") as name:
        folder = Path(name).absolute()
        subjects = {kind: subject(reactor, kind, folder, pairs) for kind in LABELS}
        try:
            for each in subjects.values():
                await each.begin()
                await each.load(WARM)
                each.forget()
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", flush=True)
                for each in subjects.values():
                    await each.load(seconds / rounds)
            good = await report(subjects, unarmed_faults(str(folder / "unarmed")))
            for each in subjects.values():
                await each.end()
        finally:
            for each in subjects.values():
                each.gateway.end()
    if not good:
        raise SystemExit(1)


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """For `react`."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.durability", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1, help="of people on each gateway (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=12, help="under load, per gateway (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="in which that is done (default: %(default)s)")
    given = parser.parse_args(arguments)
    return Deferred.fromCoroutine(measure(reactor, given.pairs, given.seconds, given.rounds))


if __name__ == "__main__":
    if sys.argv[1:2] == ["gateway"]:
        sys.argv.pop(1)
        be_gateway(sys.argv.pop(1))
    else:
        react(main, sys.argv[1:])
