"""A gateway as `twistd` runs it, with a queue that does nothing: what the real ones are compared with.

`python -m tests.bench.unqueued instant|embedded TWISTD'S ARGUMENTS`, with a `rocketmq.server_addr` that nobody connects
to. instant: everything is taken at once. embedded: the embedded queue, its thread included, with rules that apply
nothing, so that business and database do not count. Of the RocketMQ client not a module is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.scripts.twistd import run

from imconnect.backends.producer_embedded import EmbeddedProducer
from imconnect.backends.threads import Pool
from imconnect.business.rows import Source
from imconnect.core.ports import Answer, Entry
from imconnect.events.values import Event
from imconnect.model import Applied

#: The module whose place it takes, and which is imported when the gateway is wired.
TRANSPORTS = "imconnect.backends.producers"


class Instant:
    """`core.ports.Producer`."""

    def open(self) -> Deferred[None]:
        return succeed(None)

    def lane(self, event: Event) -> int:
        return 1

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        return succeed([Answer(number, True) for number, _ in entries])

    def close(self) -> Deferred[None]:
        return succeed(None)


class Idle:
    """Business that does nothing and has nothing to tell."""

    def apply(self, events: Sequence[Event], sources: Sequence[Source] | None = None) -> Applied:
        return Applied()

    def tell(self, applied: Applied) -> None:
        """Never called."""


class Embedded(EmbeddedProducer):
    """The embedded queue; its thread is started and stopped with it."""

    def __init__(self, reactor: Any) -> None:
        self._thread = Pool(reactor, "idle", 1)
        super().__init__(Idle(), self._thread, Idle())

    def open(self) -> Deferred[None]:
        self._thread.start()
        return super().open()

    def close(self) -> Deferred[None]:
        return super().close().addCallback(lambda _: self._thread.stop())


def main() -> None:
    """Does not return."""
    kind = sys.argv.pop(1)
    standin: Any = ModuleType(TRANSPORTS)
    standin.make_producer = lambda reactor, *_, **__: Embedded(reactor) if kind == "embedded" else Instant()
    sys.modules[TRANSPORTS] = standin
    sys.argv[0] = "twistd"
    run()


if __name__ == "__main__":
    main()
