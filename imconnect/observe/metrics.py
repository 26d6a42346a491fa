"""Counts of what happened. Plain attributes on the hot path; Prometheus reads them when it asks."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from twisted.logger import Logger

_log = Logger()
_T = TypeVar("_T")

#: Attributes that are one number: (name, attribute, help).
_COUNTS = (
    ("imconnect_sends_accepted", "sends_accepted", "Messages accepted: durable and answered."),
    ("imconnect_sends_duplicate", "sends_duplicate", "Repeats of a send, answered like the first."),
    (
        "imconnect_sends_unclaimed",
        "sends_unclaimed",
        "Messages accepted while repeats through other nodes were not looked for.",
    ),
    ("imconnect_commits_failed", "commits_failed", "Batches that the outbox could not make durable."),
    ("imconnect_hints", "hints", "Hints of the business side to read what users are owed."),
)

#: Attributes by label: (name, attribute, label, help, values that are shown from the start).
_LABELLED: tuple[tuple[str, str, str, str, tuple[str | int, ...]], ...] = (
    (
        "imconnect_sends_refused",
        "sends_refused",
        "reason",
        "Sends answered with an error code.",
        ("bad_request", "conflict", "too_large", "flood", "unavailable"),
    ),
    (
        "imconnect_pushes",
        "pushes",
        "kind",
        "Messages written to a receiver's connection.",
        ("live", "resend", "backfill", "forwarded"),
    ),
    (
        "imconnect_receipts",
        "receipts",
        "status",
        "Acknowledgements taken in: 3 delivered, 4 read; 1: senders told that it is stored.",
        (1, 3, 4),
    ),
    (
        "imconnect_offline",
        "offline",
        "reason",
        "Messages turned offline.",
        ("absent", "behind", "gone", "unacknowledged", "unacknowledged_total", "due", "restart"),
    ),
    (
        "imconnect_acks_ignored",
        "acks_ignored",
        "reason",
        "Acknowledgements that changed nothing.",
        ("no_such_id", "not_receiver", "repeated", "lookups", "outbox_full"),
    ),
    ("imconnect_closed", "closed", "code", "WebSocket connections that ended, by close code.", ()),
    (
        "imconnect_mq_sends",
        "mq_sends",
        "result",
        "Events answered by the queue.",
        ("stored", "refused", "retry"),
    ),
    (
        "imconnect_mq_retries",
        "mq_retries",
        "code",
        "Requests to the broker whose events were sent again, by its code.",
        ("none",),
    ),
    (
        "imconnect_mq_unproven",
        "mq_unproven",
        "code",
        "Events taken as stored although the broker did not prove it, by its code.",
        ("10", "11", "12"),
    ),
)

#: Gauges that may be registered in `Metrics.gauges`: name without the prefix -> help.
GAUGES: Mapping[str, str] = {
    "start_time_seconds": "When this process started, in seconds since 1970.",
    "ready": "Whether /ready says 200.",
    "connections": "WebSocket connections, half-open ones included.",
    "sessions": "Signed-in connections.",
    "users": "Users with at least one session here.",
    "resend_waiting": "Pushed messages that are not acknowledged yet.",
    "recent_window_seconds": "How far back repeats are recognised at the moment.",
    "outbox_events": "Events that wait for the queue.",
    "outbox_oldest_seconds": "Age of the oldest event that waits for the queue.",
    "outbox_bytes": "Size of the outbox on disk.",
    "outbox_parked": "Events that the queue refused for good.",
    "mq_in_flight": "Requests to the broker that wait for an answer.",
    "broker_waiting": "Requests that are durable here and wait for the broker (outbox.ack_after broker).",
    "offline_due": "Messages whose offlining could not be committed yet.",
    "owed_online_oldest_seconds": "Age of the oldest message that is owed to somebody who is online.",
    "business_events": "Events that the business side has taken in.",
    "business_parked": "Events that the business side could not apply and keeps aside.",
    "business_parked_rows": "Events that lie aside in the database.",
    "business_early_kept": "Acknowledgements and withdrawals that came before their message.",
    "business_early_dropped": "Early acknowledgements and withdrawals over the bound per person.",
    "business_early_rows": "Acknowledgements and withdrawals in the database that wait for their message.",
    "consumer_queues": "Queues of the topic that this member of the group has.",
}


class Labelled(NamedTuple):
    """A family whose values somebody else keeps, one per value of a label."""

    counter: bool
    label: str
    text: str


#: Families that may be registered in `Metrics.labelled`: name without the prefix -> what it is.
LABELLED: Mapping[str, Labelled] = {
    "degraded": Labelled(False, "what", "What /ready calls degraded: 1."),
    "consumer_lag": Labelled(False, "queue", "Events in a queue of ours that are not in the database yet."),
    "pushback_told": Labelled(True, "gateway", "Calls that a gateway took from the business side."),
    "pushback_failed": Labelled(True, "gateway", "Calls that a gateway did not answer in time, or refused."),
    "pushback_dropped": Labelled(True, "gateway", "Things not told to a gateway because too many waited."),
}

_COMMIT_EVENTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Histogram:
    """Counts per bucket and a sum. No lock: everything is observed on the reactor thread."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds`: the upper ends of the buckets, rising; one more without an end is added."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: upper end -> how many were not above it."""
        ends = [str(bound) for bound in self._bounds] + ["+Inf"]
        return list(zip(ends, map(float, accumulate(self._counts)), strict=True))


class Metrics:
    """One per process. The core adds to the attributes; `edge/http.py` renders `registry`."""

    def __init__(self) -> None:
        self.sends_accepted = 0
        self.sends_duplicate = 0
        self.sends_unclaimed = 0
        self.sends_refused: defaultdict[str, int] = defaultdict(int)  # reason
        self.pushes: defaultdict[str, int] = defaultdict(int)  # kind: live, resend, backfill, forwarded
        self.receipts: defaultdict[int, int] = defaultdict(int)  # status 1, 3, 4
        self.offline: defaultdict[str, int] = defaultdict(int)  # reason
        self.acks_ignored: defaultdict[str, int] = defaultdict(int)  # reason
        self.closed: defaultdict[int, int] = defaultdict(int)  # WebSocket close code
        self.mq_sends: defaultdict[str, int] = defaultdict(int)  # result: stored, refused, retry
        #: Of the transport to RocketMQ, which puts its own counters here: code, or none where nobody answered.
        self.mq_retries: dict[str, int] = {}
        self.mq_unproven: dict[str, int] = {}
        self.commits_failed = 0
        self.hints = 0
        self.commit_events = Histogram(_COMMIT_EVENTS)
        self.commit_seconds = Histogram(_SECONDS)
        self.mq_send_seconds = Histogram(_SECONDS)
        self.business_commit_events = Histogram(_COMMIT_EVENTS)
        self.business_commit_seconds = Histogram(_SECONDS)
        #: Gauges, asked at scrape time: name without the `imconnect_` prefix -> value. Known names: `GAUGES`.
        self.gauges: dict[str, Callable[[], float]] = {}
        #: The same with a label: name -> value of the label -> value. Known names: `LABELLED`.
        self.labelled: dict[str, Callable[[], Mapping[str, float]]] = {}
        #: This process's own, never the library's global one.
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(Collector(self))

    def show_health(self, ready: Callable[[], tuple[bool, Mapping[str, Any]]]) -> None:
        """What `/ready` says, and since when it could be asked."""
        started = time.time()
        self.gauges["start_time_seconds"] = lambda: started
        self.gauges["ready"] = lambda: ready()[0]
        self.labelled["degraded"] = lambda: dict.fromkeys(ready()[1].get("degraded", ()), 1)

    def observe_commit(self, events: int, seconds: float) -> None:
        """A batch became durable."""
        self.commit_events.observe(events)
        self.commit_seconds.observe(seconds)

    def observe_business_commit(self, events: int, seconds: float) -> None:
        """A batch from the queue is in the database."""
        self.business_commit_events.observe(events)
        self.business_commit_seconds.observe(seconds)

    def observe_mq_send(self, seconds: float) -> None:
        """A send to the queue was answered."""
        self.mq_send_seconds.observe(seconds)


class Collector:
    """Turns a `Metrics` into Prometheus' families, whenever they are asked for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        metrics = self._metrics
        for name, attribute, text in _COUNTS:
            yield CounterMetricFamily(name, text, value=getattr(metrics, attribute))
        for name, attribute, label, text, known in _LABELLED:
            family = CounterMetricFamily(name, text, labels=[label])
            counts = dict.fromkeys(known, 0) | getattr(metrics, attribute)
            for value, count in counts.items():
                family.add_metric([str(value)], count)
            yield family
        for name, text, histogram in (
            ("imconnect_commit_events", "Events per durable batch.", metrics.commit_events),
            (
                "imconnect_commit_seconds",
                "Seconds from the commit's start until it was durable.",
                metrics.commit_seconds,
            ),
            ("imconnect_mq_send_seconds", "Seconds until the queue answered a send.", metrics.mq_send_seconds),
            (
                "imconnect_business_commit_events",
                "Events per batch that the consumer brought into the database.",
                metrics.business_commit_events,
            ),
            (
                "imconnect_business_commit_seconds",
                "Seconds until such a batch was in the database.",
                metrics.business_commit_seconds,
            ),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.buckets(), sum_value=histogram.sum)
        yield from self._gauges()
        yield from self._labelled()

    def _gauges(self) -> Iterable[Metric]:
        for name, read in self._metrics.gauges.items():
            value = _asked(name, read)
            if value is not None:
                yield GaugeMetricFamily(f"imconnect_{name}", GAUGES.get(name, name.replace("_", " ")), value=value)

    def _labelled(self) -> Iterable[Metric]:
        for name, read in self._metrics.labelled.items():
            counter, label, text = LABELLED[name]
            make = CounterMetricFamily if counter else GaugeMetricFamily
            family = make(f"imconnect_{name}", text, labels=[label])
            for each, value in (_asked(name, read) or {}).items():
                family.add_metric([each], value)
            yield family


def _asked(name: str, read: Callable[[], _T]) -> _T | None:
    """One that is broken must not hide all the others from whoever is looking for the cause."""
    try:
        return read()
    except Exception:
        _log.failure("the gauge {name} failed", name=name)
        return None
