"""How imbusiness is: what `/ready` and `/stats` say, and the gauges."""

from __future__ import annotations

import time
from typing import Any

from imconnect import __version__
from imconnect.backends.pushback_grpc import GrpcPushback
from imconnect.observe.metrics import Metrics
from imconnect.tap.consuming import Consuming


class BusinessState:
    """One per process. `phase` is set by the service tree: starting, ready, stopping."""

    def __init__(self, consuming: Consuming, pushback: GrpcPushback) -> None:
        self._consuming, self._pushback = consuming, pushback
        self._started = time.monotonic()
        self.phase = "starting"

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether it consumes; if not, why. What is away while it waits for it is `degraded`."""
        if self.phase != "ready":
            return False, {"reason": "waiting for the database" if self._consuming.database.away else self.phase}
        degraded = self._consuming.degraded()
        return True, {"degraded": [*degraded, "gateways"] if self._pushback.away else degraded}

    def stats(self) -> dict[str, Any]:
        """What `/stats` shows."""
        told, failed, dropped = self._pushback.told, self._pushback.failed, self._pushback.dropped
        return {
            "version": __version__,
            "phase": self.phase,
            "uptime": round(time.monotonic() - self._started, 1),
            **self._consuming.stats(),
            "gateways": {
                each: {"told": told[each], "failed": failed[each], "dropped": dropped[each]} for each in told
            },
            "gateways_away": self._pushback.away,
        }

    def register(self, metrics: Metrics) -> None:
        """Health, and everything of the push-back that is asked at scrape time."""
        metrics.show_health(self.ready)
        metrics.labelled.update(
            {
                "pushback_told": lambda: self._pushback.told,
                "pushback_failed": lambda: self._pushback.failed,
                "pushback_dropped": lambda: self._pushback.dropped,
            }
        )
