"""The world: servers, queue, business, database and people, and what ties them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from imconnect.backends.store_memory import MemoryStore
from imconnect.business.rows import Source
from imconnect.core.settings import Settings
from imconnect.model import Applied
from tests.simulation.across import Across
from tests.simulation.broker import Broker
from tests.simulation.business import Consumer, Pool, Watched
from tests.simulation.clock import Life, Timeline
from tests.simulation.faults import Fate, Faults
from tests.simulation.judge import Judge
from tests.simulation.model import Model
from tests.simulation.people import Link, Person
from tests.simulation.record import Record
from tests.simulation.server import Server
from tests.simulation.shared import Shared
from tests.simulation.ways import Ways

#: When the world begins, ms since 1970; and what its clock shows then, in seconds.
BEGIN_MS, BEGIN = 1_800_000_000_000, 1000.0
#: Seconds until somebody starts again what has died, at most.
DOWNTIME = 3.0


class World:
    """Everything, in one process. `servers` gateways over one database; one of them may be its own business side."""

    def __init__(
        self, random: Random, *, servers: int, queues: int, users: Sequence[int], settings: Settings, linked: bool
    ) -> None:
        """`linked`: the servers know of each other."""
        self.random = random
        #: What happened, one line each.
        self.trace: list[str] = []
        self.settings = settings
        self.timeline = Timeline(BEGIN)
        self.faults = Faults(random)
        self.model = Model()
        self.store = MemoryStore()
        self.broker: Broker | None = None
        self.network = Life(self.timeline)
        self.record = Record(
            lambda event: self.broker.lane(event) if self.broker else 0, settings.ack_after_broker, linked
        )
        self.across = Across(self)
        self.judge = Judge(self.record, self.model, self.across, lambda: self.timeline.now, settings)
        #: What the nodes share and how they reach each other, where they do.
        self.shared = Shared(self.timeline, self.faults, self.across) if linked else None
        self.ways = Ways(self.timeline, self.faults, self.across)
        if queues:
            self.broker = Broker(queues, self.faults, self.record)
        self.people = [Person(user) for user in users]
        self.servers: list[Server] = []
        for number in range(1, servers + 1):
            self.servers.append(Server(self, number))
        self.consumer: Consumer | None = None
        self._business = Life(self.timeline)
        #: When the last thing that business told each node arrives there.
        self._told_at: dict[int, float] = {}
        if self.broker:
            self.start_business()

    # -- business

    def start_business(self) -> None:
        if self.broker is not None and self.consumer is None:
            broker = self.broker
            self._business = Life(self.timeline, self.crash_business)
            rules = Watched(self.store, self.now_ms, self.model, self.record, self._applied)
            self.consumer = Consumer(broker, self._business, self.faults, rules, self, self.record)
            broker.listener = self.consumer.wake

    def crash_business(self) -> None:
        """What was read and not applied, or applied and not acknowledged to the queue, is read again."""
        if self.consumer is not None:
            self._business.end()
            self.consumer = None
            self.restart(self.start_business)

    def _applied(self, source: Source) -> None:
        self.record.committed(source.queue, source.offset)

    def tell(self, applied: Applied) -> None:
        """The port Pushback: to every node, in order per node; some of it gets lost."""
        for server in self.servers:
            if self.faults.fate("hint") is Fate.WELL:
                arrives = max(self._told_at.get(server.number, 0.0), self.timeline.now + self.faults.pause("hint"))
                self._told_at[server.number] = arrives
                self.network.callLater(arrives - self.timeline.now, server.hear, applied)

    @property
    def pools(self) -> list[Pool]:
        """Where business works."""
        return [self.consumer.pool] if self.consumer else [] if self.broker else [one.pool for one in self.servers]

    def server(self, number: int) -> Server:
        return self.servers[number - 1]

    # -- people

    @property
    def links(self) -> list[Link]:
        return self.judge.links

    def sign_in(self, person: Person, server: Server, device: str) -> Link | None:
        """None where the node is not there."""
        if not server.accepting:
            return None
        self.judge.links = [link for link in self.judge.links if link.closed is None]
        return Link(server, person, device, self.judge, self.settings.outgoing_bytes)

    # -- time and trouble

    def now_ms(self) -> int:
        """The right time."""
        return BEGIN_MS + round((self.timeline.now - BEGIN) * 1000)

    def note(self, what: str) -> None:
        self.trace.append(f"{self.timeline.now - BEGIN:8.2f} {what}")

    def advance(self, seconds: float) -> None:
        self.timeline.advance(seconds)

    def restart(self, start: Callable[[], None]) -> None:
        """Somebody, or systemd, starts it again."""
        self.network.callLater(self.random.random() * DOWNTIME, start)

    def bug(self, failure: Any, what: str) -> None:
        self.record.broken.append(f"{what}: {failure.getTraceback()}")

    def heal(self) -> None:
        """Everything works from now on."""
        self.faults.heal()
        self.store.away = ""
        self.ways.cut.clear()
        if self.shared is not None:
            self.shared.bring_back()
        if self.broker is not None:
            self.broker.dead.clear()
        for server in self.servers:
            server.disk.full = False
            server.start()
        self.start_business()
        for pool in self.pools:
            pool.release()
