"""What the relay carries to a real broker, and how soon: `python -m tests.bench.relay`. About 20 s beside the boot.

Prints rates of single sends and of batches in the same run, and the time from durable to SEND_OK at 1,000 events/s.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any, Literal

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.backends.producers import make_producer
from imconnect.config.tree import Producer as Sending
from imconnect.config.tree import Rocketmq
from imconnect.core.background import Background, sleep
from imconnect.core.ports import Answer, Entry, Producer
from imconnect.core.relay import Relay
from imconnect.errors import ConfigError
from imconnect.events.seed import SEED
from imconnect.events.values import Event
from imconnect.observe.metrics import Metrics
from imconnect.tap.gateway import GATHER
from tests.business.made import sent
from tests.servers import rocketmq_broker

SECONDS = 2.5
QUEUES = 8
CHATS = 400
#: About 300 bytes as it travels.
TEXT = "x" * 80


class Watched:
    """A producer; `answered(numbers)` is called with what is stored, at the moment when that is known."""

    def __init__(self, producer: Producer, answered: Callable[[list[int]], None]) -> None:
        self._producer, self.answered = producer, answered
        self.open, self.lane, self.close = producer.open, producer.lane, producer.close

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        return self._producer.send(lane, entries).addCallback(self._note)

    def _note(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        self.answered([answer.number for answer in answers if answer.stored])
        return answers


class OneByOne(Watched):
    """One event per request; with a lock, one request at a time over all queues."""

    lock: DeferredLock | None = None

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        return Deferred.fromCoroutine(self._each(lane, entries))

    async def _each(self, lane: int, entries: Sequence[Entry]) -> Sequence[Answer]:
        answers: list[Answer] = []
        for entry in entries:
            if self.lock is not None:
                await self.lock.acquire()
            try:
                answers += self._note(await self._producer.send(lane, [entry]))
            finally:
                if self.lock is not None:
                    self.lock.release()
        return answers


class Run:
    """One topic, one outbox, one relay."""

    def __init__(self, reactor: Any, broker: rocketmq_broker.DevBroker, folder: str, name: str) -> None:
        self.reactor, self.broker = reactor, broker
        self.folder = os.path.join(folder, name)
        os.mkdir(self.folder)
        self.topic = f"Bench{name}{os.getpid()}"
        self.outbox = SqliteOutbox(reactor, os.path.join(self.folder, "outbox.db"))

    async def begin(self, kind: type[Watched], transport: Literal["native", "client-python"] = "native") -> None:
        await deferToThread(self.broker.create_topic, self.topic, QUEUES)
        await self.outbox.open()
        settings = Rocketmq(
            server_addr=self.broker.namesrv,
            transport=transport,
            topic=self.topic,
            producer=Sending(group_name=f"P{self.topic}"),
        )
        metrics = Metrics()
        producer = make_producer(self.reactor, settings, SEED, node_id=1, data_dir=self.folder, metrics=metrics)
        await producer.open()
        self.stored = 0
        self.producer: Watched = kind(producer, self.count)
        self.relay = Relay(
            clock=self.reactor,
            outbox=self.outbox,
            producer=self.producer,
            background=Background(self.reactor),
            metrics=metrics,
            gather=GATHER,
        )

    def count(self, numbers: list[int]) -> None:
        self.stored += len(numbers)

    async def fill(self, events: int) -> int:
        """Durable, and nothing sent yet. The last number."""
        last = 0
        while last < events:
            last = await self.outbox.append([event(last + each) for each in range(1, 1001)]) + 999
        return last

    async def end(self) -> None:
        self.relay.stop()
        await self.producer.close()
        await self.outbox.close()


def event(number: int) -> Event:
    return sent(number, receiver=5000 + number % CHATS, content=TEXT)


async def rate(run: Run, events: int) -> float:
    """Events per second while the outbox is full of them."""
    last = await run.fill(events)
    begun, cpu = time.perf_counter(), time.process_time()
    run.relay.start(last, 0)
    until = run.reactor.seconds() + SECONDS
    while run.reactor.seconds() < until and run.stored < events:
        await sleep(run.reactor, 0.02)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(f"{run.stored / seconds:9,.0f}/s {cpu / run.stored * 1e6:7.1f} us CPU per event")
    await run.end()
    return run.stored / seconds


async def latency(run: Run, per_second: int) -> None:
    """From durable to SEND_OK, at a steady rate."""
    durable: dict[int, float] = {}
    times: list[float] = []

    def answered(numbers: list[int]) -> None:
        now = time.perf_counter()
        times.extend(now - durable[number] for number in numbers)

    run.producer.answered = answered
    run.relay.start(0, 0)
    begun, made = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < 2 * SECONDS:
        due = int(elapsed * per_second) - made
        if due:
            first = await run.outbox.append([event(made + each) for each in range(1, due + 1)])
            now = time.perf_counter()
            durable.update(dict.fromkeys(range(first, first + due), now))
            run.relay.durable(first + due - 1)
            made += due
        await sleep(run.reactor, 0.001)
    await run.relay.caught_up()
    times = sorted(times[len(times) // 10 :])
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    print(f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, max {times[-1] * 1000:.1f} ms at {per_second:,}/s")
    await run.end()


async def measure(reactor: Any) -> None:
    """Everything, on one broker."""
    broker = await deferToThread(rocketmq_broker.shared)
    with TemporaryDirectory() as folder:

        async def begin(name: str, text: str, kind: type[Watched], transport: Any = "native") -> Run:
            run = Run(reactor, broker, folder, name)
            await run.begin(kind, transport)
            print(f"{text:42}", end="", flush=True)
            return run

        await rate(await begin("Warm", "(until the JVM is warm)", Watched), 20_000)
        run = await begin("One", "one at a time", OneByOne)
        run.producer.lock = DeferredLock()  # type: ignore[attr-defined]
        single = await rate(run, 6_000)
        each = await rate(await begin("Each", f"one per request, {QUEUES} queues at once", OneByOne), 10_000)
        batched = await rate(await begin("Batched", "batched, as the relay does", Watched), 80_000)
        try:
            await rate(await begin("Python", "client-python", Watched, "client-python"), 6_000)
        except ConfigError as error:
            print(f"client-python is not measured: {error}")
        await latency(await begin("Latency", "durable -> SEND_OK", Watched), 1000)
        print(f"batched / one at a time: {batched / single:.1f}, batched / one per request: {batched / each:.1f}")


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(measure(reactor)), sys.argv[1:])
