"""What the queue costs a loaded gateway, in processor time and memory: `python -m tests.bench.overhead`. Under 3 minutes.

The same gateway four times, as real processes, without business in any of them: with a queue that costs nothing, with
the embedded queue and nobody behind it (both `tests.bench.unqueued`), with the native transport to a real RocketMQ, and
with client-python. The difference is what a transport costs: envelope, lanes, requests, connection, threads. A gateway
as `make run` starts it would be no measure, because business and SQLite work in its process.

All of them are up all the time, and pairs of people who talk through the client library in *this* process load one after
another for a few seconds each, round by round, so that whatever else happens on the machine happens to all of them.
Every message is acknowledged by its receiver: two events per message.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import ensure_schema
from imconnect.client import Client
from imconnect.core.background import sleep
from tests.backends.client_python import why_not
from tests.live.processes import GatewayProcess, until
from tests.servers import rocketmq_broker

INSTANT, EMBEDDED, NATIVE, PYTHON = "instant", "embedded", "native", "client-python"
LABELS = {INSTANT: "no queue", EMBEDDED: "embedded queue alone", NATIVE: "native", PYTHON: "client-python"}
#: What issue and seed promise for the queue: of the gateway's processor time, and megabytes.
MOST_CPU, MOST_MB = 0.05, 10.0
#: Pairs of people on each gateway.
PAIRS = 20
#: Seconds under load before anything counts.
WARM = 2.0
TEXT = "x" * 80
_TICKS = os.sysconf("SC_CLK_TCK")
_MB = 1 << 20


class Used(NamedTuple):
    """What a process has used so far."""

    cpu: float
    rss: float


def used_by(pid: int) -> Used:
    """Seconds of processor time of all its threads, MB of memory that are resident."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Used((int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / _MB)


class Subject:
    """One gateway and its people."""

    def __init__(self, reactor: Any, kind: str, gateway: GatewayProcess) -> None:
        self.reactor, self.kind, self.gateway = reactor, kind, gateway
        self.senders = [Client(reactor, gateway.url, 1001 + 2 * pair) for pair in range(PAIRS)]
        self.receivers = [Client(reactor, gateway.url, 1002 + 2 * pair) for pair in range(PAIRS)]
        self.cpu = self.seconds = self.rss = 0.0
        self.asked = self.receipts = self.left = 0

    async def begin(self) -> None:
        """The gateway is up and everybody is there."""
        await self.gateway.start()
        for client in (*self.senders, *self.receivers):
            await client.start()
        for sender in self.senders:
            sender.on_receipt = self._receipt

    async def load(self, rate: float, seconds: float) -> None:
        """So many messages per second, evenly; what is still under way at the end belongs to it."""
        before, begun, made = used_by(self.gateway.pid), time.perf_counter(), 0
        while (elapsed := time.perf_counter() - begun) < seconds:
            for number in range(made, int(elapsed * rate)):
                pair = number % PAIRS
                self.senders[pair].send(1002 + 2 * pair, TEXT)
                made += 1
            await sleep(self.reactor, 0.002)
        self.asked += made
        await until(self.reactor, lambda: self.receipts >= self.asked, f"every message has its receipt ({self.kind})")
        await sleep(self.reactor, 0.5)  # for what the queue has not answered yet
        after = used_by(self.gateway.pid)
        self.cpu += after.cpu - before.cpu
        self.seconds += seconds
        self.rss = after.rss

    async def end(self) -> None:
        """What is left in the outbox is noted; everybody is gone."""
        page = (await self.gateway.get("/metrics")).body
        self.left = int(float(page.split("\nimconnect_outbox_events ", 1)[1].split("\n", 1)[0]))
        await gatherResults([client.stop() for client in (*self.senders, *self.receivers)])
        await self.gateway.stop()

    def forget(self) -> None:
        """What was counted so far was to warm up."""
        self.cpu = self.seconds = 0.0
        self.asked = self.receipts = 0

    def _receipt(self, *_: object) -> None:
        self.receipts += 1

    @property
    def share(self) -> float:
        """Of one core."""
        return self.cpu / self.seconds

    @property
    def per_message(self) -> float:
        """Microseconds of processor time."""
        return self.cpu / self.asked * 1e6


def subject(reactor: Any, kind: str, broker: str, folder: Path) -> Subject:
    """Not started yet."""
    folder = folder / kind
    folder.mkdir()
    database = f"sqlite:///{folder}/business.db"
    engine = make_engine(database)
    ensure_schema(engine)
    engine.dispose()
    name = f"Overhead-{kind}-{os.getpid()}"
    settings: dict[str, Any] = {
        "business.mode": "off",
        "business.database": database,
        "grpc.port": 0,
        "rocketmq.server_addr": broker,
        "rocketmq.topic": name,
        "rocketmq.transport": PYTHON if kind == PYTHON else NATIVE,
        "rocketmq.producer.group_name": f"P{name}",
    }
    gateway = GatewayProcess(reactor, folder, settings, name="gateway")
    if kind in (INSTANT, EMBEDDED):
        gateway.command = [sys.executable, "-m", "tests.bench.unqueued", kind, *gateway.command[1:]]
    return Subject(reactor, kind, gateway)


def report(subjects: Mapping[str, Subject], rate: float) -> None:
    """The table, and what the transports cost."""
    print(f"\n{'':22} {'CPU of a core':>14} {'per message':>12} {'resident':>10} {'left in the outbox':>19}")
    for kind, each in subjects.items():
        print(f"{LABELS[kind]:22} {each.share:14.1%} {each.per_message:9.0f} us {each.rss:7.1f} MB {each.left:19,}")
    print(f"\nAt {rate:g} messages/s, each acknowledged, a transport costs:")
    for kind in (NATIVE, PYTHON):
        for against in (EMBEDDED, INSTANT):
            if kind in subjects:
                print(f"  {kind:13} against {LABELS[against]:20}: {cost(subjects[kind], subjects[against])}")


def cost(one: Subject, other: Subject) -> str:
    """In words."""
    cpu, rss = one.per_message / other.per_message - 1, one.rss - other.rss
    verdict = "within" if cpu <= MOST_CPU and rss <= MOST_MB else "misses"
    return (
        f"{cpu:+.1%} of the gateway's CPU ({(one.share - other.share) * 100:+.1f} points of one core), {rss:+.1f} MB; "
        f"{verdict} {MOST_CPU:.0%}, {MOST_MB:g} MB"
    )


def kinds() -> list[str]:
    """Those that this machine has."""
    lacking = why_not()
    if not lacking:
        return [INSTANT, EMBEDDED, NATIVE, PYTHON]
    print(f"client-python is not measured: {lacking}")
    return [INSTANT, EMBEDDED, NATIVE]


async def measure(reactor: Any, rate: float, seconds: float, rounds: int) -> None:
    """Everything, on one broker. `seconds` under load per gateway in all."""
    broker = await deferToThread(rocketmq_broker.shared)
    with TemporaryDirectory() as folder:
        subjects = {kind: subject(reactor, kind, broker.namesrv, Path(folder)) for kind in kinds()}
        try:
            for each in subjects.values():
                await each.begin()
                await each.load(rate, WARM)
                each.forget()
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", flush=True)
                for each in subjects.values():
                    await each.load(rate, seconds / rounds)
            for each in subjects.values():
                await each.end()
        finally:
            for each in subjects.values():
                each.gateway.end()
    report(subjects, rate)


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """For `react`."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overhead", description=__doc__)
    parser.add_argument("--rate", type=float, default=500, help="messages per second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=16, help="under load, per gateway (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="in which that is done (default: %(default)s)")
    given = parser.parse_args(arguments)
    return Deferred.fromCoroutine(measure(reactor, given.rate, given.seconds, given.rounds))


if __name__ == "__main__":
    react(main, sys.argv[1:])
