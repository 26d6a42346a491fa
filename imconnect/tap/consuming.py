"""Business in this process, whichever it is: what imbusiness and a gateway that consumes too have in common."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred

from imconnect.backends.consumer_rocketmq import RocketmqConsumer
from imconnect.backends.intake import Intake
from imconnect.backends.producers import connector
from imconnect.config import Config
from imconnect.config.profiles import dialect_of, terms_of
from imconnect.core.background import Background
from imconnect.core.ports import Pushback
from imconnect.observe.metrics import Metrics
from imconnect.tap.database import Database
from imconnect.tap.jobs import Jobs, Keeping


class Consuming(Keeping):
    """Business on a topic of RocketMQ. `client_id` is the name of this member of the consumer group."""

    def __init__(self, client_id: str, database: Database, jobs: Jobs, intake: Intake, consumer: RocketmqConsumer) -> None:
        super().__init__(database, jobs)
        self.client_id = client_id
        self.consumer = consumer
        self._intake = intake

    def degraded(self) -> list[str]:
        """What is away, or waits for a person."""
        found = super().degraded()
        if self._intake.trouble and "database" not in found:
            found.insert(0, "database")
        # It joins when the database is there.
        if self.consumer.away and not self.database.away:
            found.insert(0, "queue")
        return found

    def stats(self) -> dict[str, Any]:
        """What `/stats` shows of it."""
        consumer = self.consumer
        return {"client_id": self.client_id, "queues": consumer.queues, "lag": consumer.lag(), **super().stats()}

    def register(self, metrics: Metrics) -> None:
        """Everything that is asked at scrape time."""
        super().register(metrics)
        metrics.gauges["consumer_queues"] = lambda: len(self.consumer.queues)
        metrics.labelled["consumer_lag"] = self.consumer.lag


def make_consuming(
    reactor: Any, config: Config, database: Database, pushback: Pushback, metrics: Metrics, name: str
) -> Consuming:
    """As configured; `name` is this process's among those on this machine. Nothing runs yet. Raises ConfigError."""
    # The same after a restart, and nobody else's on this machine: the broker gives the queues back at once.
    client_id = f"{socket.gethostname()}@{name}"
    intake = Intake(
        reactor,
        database.rules,
        database.writer,
        pushback,
        metrics,
        max_attempts=config.rocketmq.consumer.max_attempts,
        always_told=terms_of(config).always_tell,
    )
    consumer = RocketmqConsumer(
        connector(reactor, config.rocketmq, client_id),
        intake.take,
        group=config.rocketmq.consumer.group_name,
        topic=dialect_of(config).topic,
    )
    jobs = Jobs(reactor, database, database.now_ms, config.business.keep_days, pushback)
    consuming = Consuming(client_id, database, jobs, intake, consumer)
    consuming.register(metrics)
    return consuming


class Membership:
    """A part of the gateway's service tree: in the consumer group from when the database is there until clients are
    asked to leave (`leave`), so that others have the queues while they do."""

    def __init__(self, reactor: Any, consuming: Consuming) -> None:
        self._consumer, self._database = consuming.consumer, consuming.database
        self._background = Background(reactor)
        self._left: Deferred[None] | None = None

    def start(self) -> None:
        self._database.when_there(self._join)

    def leave(self) -> None:
        """What is in hand is finished; `stop` waits for it."""
        if self._left is None:
            self._left = Deferred.fromCoroutine(self._leave())

    async def stop(self) -> None:
        self.leave()
        assert self._left is not None
        await self._left

    def _join(self) -> None:
        if self._left is None:
            self._background.run(self._consumer.start(), "joining the consumer group")

    async def _leave(self) -> None:
        await self._background.stop()
        await self._consumer.stop()
