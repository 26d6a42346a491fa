"""How imbusiness is: what `/ready` and `/stats` say, and the gauges."""

from __future__ import annotations

import time
from typing import Any

import attrs

from imconnect import __version__
from imconnect.backends.consumer_rocketmq import RocketmqConsumer
from imconnect.backends.intake import Intake
from imconnect.backends.pushback_grpc import GrpcPushback
from imconnect.observe.metrics import Metrics
from imconnect.tap.database import Database, Jobs


class BusinessState:
    """One per process. `phase` is set by the service tree: starting, ready, stopping."""

    def __init__(
        self,
        client_id: str,
        database: Database,
        intake: Intake,
        consumer: RocketmqConsumer,
        jobs: Jobs,
        pushback: GrpcPushback,
    ) -> None:
        self._client_id = client_id
        self._database, self._intake, self._consumer = database, intake, consumer
        self._jobs, self._pushback = jobs, pushback
        self._started = time.monotonic()
        self.phase = "starting"

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether it consumes; if not, why. What is away while it waits for it is `degraded`."""
        if self.phase != "ready":
            return False, {"reason": "waiting for the database" if self._database.waiting else self.phase}
        degraded = []
        if self._consumer.away:
            degraded.append("queue")
        if self._intake.trouble or self._jobs.trouble:
            degraded.append("database")
        if self._pushback.away:
            degraded.append("gateways")
        if self._jobs.parked:
            degraded.append("parked")
        return True, {"degraded": degraded}

    def stats(self) -> dict[str, Any]:
        """What `/stats` shows."""
        told, failed, dropped = self._pushback.told, self._pushback.failed, self._pushback.dropped
        return {
            "version": __version__,
            "phase": self.phase,
            "uptime": round(time.monotonic() - self._started, 1),
            "client_id": self._client_id,
            "queues": self._consumer.queues,
            "lag": self._consumer.lag(),
            "business": attrs.asdict(self._database.rules.counts),
            "parked_rows": self._jobs.parked,
            "gateways": {
                each: {"told": told[each], "failed": failed[each], "dropped": dropped[each]} for each in told
            },
            "gateways_away": self._pushback.away,
        }

    def register(self, metrics: Metrics) -> None:
        """Everything that is asked at scrape time."""
        metrics.gauges.update(
            {
                "consumer_queues": lambda: len(self._consumer.queues),
                **self._database.gauges(),
                **self._jobs.gauges(),
            }
        )
        metrics.labelled.update(
            {
                "consumer_lag": self._consumer.lag,
                "pushback_told": lambda: self._pushback.told,
                "pushback_failed": lambda: self._pushback.failed,
                "pushback_dropped": lambda: self._pushback.dropped,
            }
        )
