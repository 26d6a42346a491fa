"""What one imbusiness takes from a real broker into a real MariaDB: `python -m tests.bench.consumer`.

Its own parts (group consumer, intake, rules, store) in this process; the servers beside it. About 30 s beside the boot.
Prints events per second of the wall clock and per second of this process's CPU ("per core": what one core would carry
if the process had it for itself and the database kept up), batched and one by one in the same run, and what the CPU
goes into. `--profile` adds the functions that cost most.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine, event, text
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from imconnect.backends.consumer_rocketmq import RocketmqConsumer
from imconnect.backends.intake import Intake
from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import ensure_schema
from imconnect.backends.store_sql import SqlStore
from imconnect.backends.threads import Pool
from imconnect.business.service import BusinessRules
from imconnect.core.background import sleep
from imconnect.events.decode import decode_body
from imconnect.events.dialect import java_queue
from imconnect.events.seed import SEED
from imconnect.events.values import Event
from imconnect.model import Applied
from imconnect.observe.metrics import Metrics
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.lane import Settings
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Producer
from imconnect.tap.clock import now_ms
from tests.business.made import ack, offlined, sent, withdraw
from tests.servers import mariadb, rocketmq_broker

QUEUES = 8
CHATS = 400
#: About 300 bytes as an event travels.
TEXT = "x" * 80
#: A run ends after so many seconds, finished or not.
SECONDS = 12.0
_TICKS = os.sysconf("SC_CLK_TCK")


def sends(number: int) -> list[Event]:
    """Nothing but new messages: each is a row of its own, an owed row and two sessions."""
    return [sent(number, receiver=5000 + number % CHATS, content=TEXT)]


def chat(number: int) -> list[Event]:
    """A message as people chat: delivered and read at once; of ten one is offline first, of a hundred one withdrawn."""
    receiver = 5000 + number % CHATS
    events: list[Event] = [sent(number, receiver=receiver, content=TEXT)]
    if number % 10 == 0:
        events.append(offlined(number, receiver=receiver, content=TEXT))
    events += [ack(number, 3, actor=receiver), ack(number, 4, actor=receiver)]
    if number % 100 == 0:
        events.append(withdraw(number, receiver=receiver))
    return events


Made = Callable[[int], list[Event]]


class Driver:
    """Statements and what they cost in this process: SQLAlchemy's cursor calls, with PyMySQL below them."""

    def __init__(self, engine: Engine) -> None:
        self.statements, self.cpu, self._begun = 0, 0.0, 0.0
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)

    def _before(self, *_: Any) -> None:
        self.statements += 1
        self._begun = time.thread_time()

    def _after(self, *_: Any) -> None:
        self.cpu += time.thread_time() - self._begun


class Rate(NamedTuple):
    """What a run came to. CPU in seconds: of this process, of its thread that writes, of the driver there."""

    events: int
    seconds: float
    cpu: float
    writer_cpu: float
    driver_cpu: float
    database_cpu: float
    statements: int
    commits: int

    @property
    def per_second(self) -> float:
        return self.events / self.seconds

    @property
    def per_core(self) -> float:
        return self.events / self.cpu

    def __str__(self) -> str:
        return (
            f"{self.per_second:7,.0f}/s {self.per_core:9,.0f}/s per core {self.cpu / self.events * 1e3:7.3f} CPU s per 1,000"
            f" {self.database_cpu / self.events * 1e3:7.3f} of MariaDB"
            f" {self.events / self.commits:6.0f} events and {self.statements / self.commits:4.1f} statements per commit"
        )

    def shares(self, reading: float) -> str:
        """What the CPU of an event goes into; `reading` is seconds per body."""
        each = [self.cpu - self.writer_cpu, reading * self.events, self.driver_cpu]
        each.append(self.cpu - sum(each))
        names = ("pulls and the reactor", "reading bodies", "PyMySQL (escaping, rows)", "rules, SQLAlchemy, threads")
        text = ", ".join(f"{name} {value / self.cpu:.0%}" for name, value in zip(names, each, strict=True))
        return f"  {self.cpu / self.events * 1e6:.0f} us of CPU per event: {text}"


class Quiet:
    """Nobody to tell."""

    def tell(self, applied: Applied) -> None:
        pass


class Bench:
    """One broker, one database server; a topic and a database of its own for each run."""

    def __init__(self, reactor: Any, broker: rocketmq_broker.DevBroker, server: mariadb.MariaDb) -> None:
        self.reactor, self.broker, self.server = reactor, broker, server
        self.runs = 0

    async def run(
        self, made: Made, messages: int, batch: int = Settings().batch, profile: Profiled | None = None
    ) -> Rate:
        """So many messages' events wait in the topic; how fast are they taken?"""
        self.runs += 1
        topic = f"Bench{os.getpid()}n{self.runs}"
        await deferToThread(self.broker.create_topic, topic, QUEUES)
        total = await self.fill(topic, made, messages)
        engine = make_engine(self.server.create_database(topic.lower()))
        await deferToThread(ensure_schema, engine)
        try:
            return await self.take(topic, engine, total, batch, profile)
        finally:
            await deferToThread(drop, engine)

    async def fill(self, topic: str, made: Made, messages: int) -> int:
        """Every chat into its queue, in order."""
        client = Client(self.reactor, self.broker.namesrv)
        producer = Producer(client, f"P{topic}")
        queues = await producer.queues(topic)
        waiting: list[list[Message]] = [[] for _ in queues]
        total = 0
        for number in range(1, messages + 1):
            for each in made(number):
                body = SEED.encode(each)
                lane = java_queue(SEED.queue_key(each), len(queues))
                waiting[lane].append(Message(body=body.body, keys=body.keys, tags=body.tag, properties=body.properties))
                total += 1
        for queue, lane_messages in zip(queues, waiting, strict=True):
            for start in range(0, len(lane_messages), 500):
                await producer.send(queue, lane_messages[start : start + 500])
        await client.close(1.0)
        return total

    async def take(self, topic: str, engine: Engine, total: int, batch: int, profile: Profiled | None) -> Rate:
        """imbusiness' own path."""
        driver, pool = Driver(engine), Pool(self.reactor, "business", 1)
        pool.start()
        rules = BusinessRules(SqlStore(engine), now_ms)
        intake = Intake(self.reactor, rules, pool, Quiet(), Metrics(), max_attempts=16)
        commits = [0]

        async def handler(*arguments: Any) -> None:
            await intake.take(*arguments)
            commits[0] += 1

        consumer = RocketmqConsumer(
            lambda: Client(self.reactor, self.broker.namesrv, client_id=f"bench@{topic}"),
            handler,
            group=f"G{topic}",
            topic=topic,
            settings=Settings(batch=batch),
        )
        if profile is not None:
            await pool.run(profile.begin)
        database = cpu_of(self.server.pid)
        writer = await pool.run(time.thread_time)
        begun, cpu = time.perf_counter(), time.process_time()
        await consumer.start()
        while rules.counts.events < total and time.perf_counter() - begun < SECONDS:
            await sleep(self.reactor, 0.02)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        writer = await pool.run(time.thread_time) - writer
        database = cpu_of(self.server.pid) - database
        done = rules.counts.events
        rate = Rate(done, seconds, cpu, writer, driver.cpu, database, driver.statements, commits[0])
        if profile is not None:
            await pool.run(profile.end)
        await consumer.stop()
        await pool.stop()
        if rules.counts.parked or rules.counts.early_kept:
            raise AssertionError(f"not what was sent: {rules.counts}")
        return rate


def drop(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"DROP DATABASE `{engine.url.database}`"))
    engine.dispose()


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Profiled:
    """Where the time of the thread that writes goes."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile(time.thread_time)

    def begin(self) -> None:
        self._profile.enable()

    def end(self) -> None:
        self._profile.disable()

    def show(self) -> None:
        pstats.Stats(self._profile, stream=sys.stdout).sort_stats("tottime").print_stats(30)


def reading(made: Made) -> float:
    """Seconds of CPU for one body."""
    bodies = [SEED.encode(each).body for number in range(1, 1001) for each in made(number)]
    begun = time.thread_time()
    for body in bodies:
        decode_body(body)
    return (time.thread_time() - begun) / len(bodies)


async def measure(reactor: Any, profile: bool) -> None:
    broker = await deferToThread(rocketmq_broker.shared)
    server = await deferToThread(mariadb.shared)
    bench = Bench(reactor, broker, server)
    await bench.run(sends, 2000)  # until everything is warm
    for name, made, messages in (("new messages only", sends, 24_000), ("as people chat", chat, 10_000)):
        print(name)
        batched = await bench.run(made, messages)
        print(f"  batched    {batched}", flush=True)
        single = await bench.run(made, messages // 12, batch=1)
        print(f"  one by one {single}", flush=True)
        print(
            f"  batched / one by one: {batched.per_second / single.per_second:.1f} by the clock, "
            f"{batched.per_core / single.per_core:.1f} by CPU"
        )
        print(batched.shares(reading(made)))
        if profile:
            seen = Profiled()
            await bench.run(made, messages // 2, profile=seen)
            seen.show()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="store_true", help="also the functions that cost most")
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(measure(reactor, given.profile)))


if __name__ == "__main__":
    main()
