"""Counts of what happened. Plain attributes on the hot path; Prometheus reads them when it asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable


class Metrics:
    """One per process. The core adds to the attributes; `edge/http.py` renders them."""

    def __init__(self) -> None:
        self.sends_accepted = 0
        self.sends_duplicate = 0
        self.sends_refused: defaultdict[str, int] = defaultdict(int)  # reason
        self.pushes: defaultdict[str, int] = defaultdict(int)  # kind: live, resend, backfill, forwarded
        self.receipts: defaultdict[int, int] = defaultdict(int)  # status 3, 4
        self.offline: defaultdict[str, int] = defaultdict(int)  # reason
        self.acks_ignored: defaultdict[str, int] = defaultdict(int)  # reason
        self.closed: defaultdict[int, int] = defaultdict(int)  # WebSocket close code
        self.mq_sends: defaultdict[str, int] = defaultdict(int)  # result: stored, refused, retry
        self.commits_failed = 0
        self.hints = 0
        #: Gauges, asked at scrape time: name without the `imconnect_` prefix -> value.
        self.gauges: dict[str, Callable[[], float]] = {}

    def observe_commit(self, events: int, seconds: float) -> None:
        """A batch became durable."""

    def observe_mq_send(self, seconds: float) -> None:
        """A send to the queue was answered."""
