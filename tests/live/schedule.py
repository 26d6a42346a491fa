"""Which process is hurt when, how and for how long: one seed, one schedule."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple

#: Mean seconds between two blows to the same process, and the longest that it stays away.
GAPS = {"gateway": 5.0, "business": 6.0, "database": 16.0, "broker": 20.0}
LONGEST = 2.0
#: Of a run, seconds without blows: people have to have met, and to have talked after the last one.
CALM_BEFORE, CALM_AFTER = 1.0, 2.0
#: How often a blow to the gateway hits business in the same second too.
BOTH = 0.25


class Blow(NamedTuple):
    """kill: kill -9, and started again after `seconds`. pause: SIGSTOP for so long. stop: SIGTERM, then as kill."""

    at: float
    process: str
    kind: Literal["kill", "pause", "stop"]
    seconds: float


def schedule(seed: int, seconds: float, names: Sequence[str]) -> list[Blow]:
    """In the order of time; a run of `seconds`."""
    random = Random(f"schedule {seed}")
    blows: list[Blow] = []
    for name in names:
        at = CALM_BEFORE + random.expovariate(1 / GAPS[name])
        while at < seconds - CALM_AFTER:
            # Broker and database have no drain that would be ours to test.
            kinds: Sequence[Literal["kill", "pause", "stop"]] = ("kill", "kill", "pause", "stop")
            kind = random.choice(kinds[: 4 if name in ("gateway", "business") else 3])
            blow = Blow(round(at, 3), name, kind, round(random.uniform(0.1, LONGEST), 3))
            blows.append(blow)
            if name == "gateway" and "business" in names and random.random() < BOTH:
                blows.append(blow._replace(process="business", kind="kill"))
            at += blow.seconds + random.expovariate(1 / GAPS[name])
    return sorted(blows)
