"""Which keys a running process takes another value for, and what happens to the others: they wait for a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
from twisted.logger import Logger

from imconnect.config import Config
from imconnect.core.node import Node
from imconnect.edge.admission import Admission

_log = Logger()


class Live:
    """Parts say here what they take; `take` gives it to them."""

    def __init__(self, config: Config) -> None:
        self._started = self._config = config
        self._takers: list[tuple[frozenset[str], Callable[[Config], None]]] = []
        #: Keys that have been said to wait for a restart.
        self.waiting: set[str] = set()

    def on(self, keys: tuple[str, ...], taker: Callable[[Config], None]) -> None:
        """`taker` is called with the whole configuration when one of these keys has another value."""
        self._takers.append((frozenset(keys), taker))

    def take(self, config: Config) -> None:
        """Another valid configuration is there."""
        fresh = set(_different(self._config, config))
        takers = [(keys & fresh, taker) for keys, taker in self._takers if keys & fresh]
        if takers:
            taken = sorted(frozenset[str]().union(*(keys for keys, _ in takers)))
            said = (f"{key} {_value(self._config, key)} -> {_value(config, key)}" for key in taken)
            # Before it is: afterwards log.level may be above this line.
            _log.info("configuration changed, taken: {keys}", keys=", ".join(said))
        for _, taker in takers:
            taker(config)
        possible = frozenset[str]().union(*(keys for keys, _ in self._takers))
        waiting = set(_different(self._started, config)) - possible
        if waiting - self.waiting:
            _log.warn(
                "configuration changed, waiting for a restart: {keys}", keys=", ".join(sorted(waiting - self.waiting))
            )
        self.waiting = waiting
        self._config = config


def gateway_takes(live: Live, node: Node, admission: Admission) -> None:
    """What a gateway looks up each time it needs it, and nothing else."""
    live.on(
        ("limits.connections", "limits.connections_per_ip"),
        lambda config: admission.limit(config.limits.connections, config.limits.connections_per_ip),
    )
    live.on(
        ("limits.commands_per_second", "limits.burst", "outbox.max_events", "drain.rate"),
        lambda config: node.adapt(
            commands_per_second=config.limits.commands_per_second,
            burst=config.limits.burst,
            outbox_max_events=config.outbox.max_events,
            drain_rate=config.drain.rate,
        ),
    )


def _different(old: Any, new: Any, above: str = "") -> Iterator[str]:
    """The key path of every leaf that is not the same."""
    for field in attrs.fields(type(old)):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if attrs.has(type(before)):
            yield from _different(before, after, f"{above}{field.name}.")
        elif before != after:
            yield f"{above}{field.name}"


def _value(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config
