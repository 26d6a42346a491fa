"""How the gateway is: what `/ready` and `/stats` say, and the gauges."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from imconnect import __version__
from imconnect.core.node import Node
from imconnect.core.ports import Outbox, Presence
from imconnect.edge.websocket import Factory
from imconnect.observe.metrics import Metrics
from imconnect.tap.backside import Backside


class State:
    """One per gateway. `phase` is set by the service tree: starting, ready, draining."""

    def __init__(
        self,
        node: Node,
        outbox: Outbox,
        factory: Factory,
        behind: Backside,
        now_ms: Callable[[], int],
        presence: Presence | None = None,
    ) -> None:
        """`presence`: of a node that may not be alone."""
        self._presence = presence
        self._node = node
        self._outbox = outbox
        self._factory = factory
        self._taker, self._business = behind.taker, behind.business
        self._now_ms = now_ms
        self._started = time.monotonic()
        self.phase = "starting"

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether clients are taken; if not, why. What is away but does no harm yet is `degraded`."""
        if self.phase != "ready":
            return False, {"reason": self.phase}
        refusing = self._node.refusing()
        if refusing:
            return False, {"reason": refusing}
        degraded: list[str] = []
        if self._node.relay.last_error:
            degraded.append(self._taker)
        if not self._node.backfill.store_answers:
            degraded.append("store")
        if self._node.relay.parked:
            degraded.append("outbox_parked")
        if self._presence is not None and self._presence.away():
            degraded.append("redis")
        if self._business is not None:
            degraded += self._business.degraded()
        return True, {"degraded": list(dict.fromkeys(degraded))}

    def stats(self) -> dict[str, Any]:
        """What `/stats` shows."""
        node = self._node
        return {
            "version": __version__,
            "phase": self.phase,
            "uptime": round(time.monotonic() - self._started, 1),
            "connections": self._factory.connection_count,
            "sessions": node.hub.sessions,
            "users": node.hub.users,
            "outbox": {
                "events": node.backlog,
                "bytes": self._outbox.size(),
                "oldest_seconds": round(node.relay.oldest_seconds(), 3),
            },
            "relay": {
                "sent": node.relay.sent,
                "retries": node.relay.retries,
                "parked": node.relay.parked,
                "last_error": node.relay.last_error,
            },
            "resend": {"waiting": len(node.resend)},
            "recent": {"rows": len(node.recent), "window_seconds": round(node.recent.window_seconds(), 1)},
            **(self._business.stats() if self._business is not None else {}),
        }

    def register(self, metrics: Metrics) -> None:
        """Everything that is asked at scrape time."""
        node = self._node
        metrics.show_health(self.ready)
        metrics.gauges.update(
            {
                "connections": lambda: self._factory.connection_count,
                "sessions": lambda: node.hub.sessions,
                "users": lambda: node.hub.users,
                "outbox_events": lambda: node.backlog,
                "outbox_bytes": self._outbox.size,
                "outbox_oldest_seconds": node.relay.oldest_seconds,
                "outbox_parked": lambda: node.relay.parked,
                "owed_online_oldest_seconds": self._owed_seconds,
                "resend_waiting": lambda: len(node.resend),
                "broker_waiting": lambda: node.gate.waiting if node.gate is not None else 0,
                "offline_due": lambda: node.delivery.due,
                "recent_window_seconds": node.recent.window_seconds,
            }
        )

    def _owed_seconds(self) -> float:
        oldest = self._node.backfill.oldest_owed
        return max(0.0, (self._now_ms() - oldest) / 1000) if oldest is not None else 0.0
