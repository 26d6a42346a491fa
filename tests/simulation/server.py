"""One node, and the machine that it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from imconnect.backends.outbox_memory import MemoryOutbox
from imconnect.backends.producer_embedded import EmbeddedProducer
from imconnect.backends.store_memory import MemoryPendingStore
from imconnect.business.rows import Source
from imconnect.core.node import Node
from imconnect.core.others import Between
from imconnect.core.ports import Producer
from imconnect.errors import Unavailable
from imconnect.handlers import HANDLERS
from imconnect.handlers.refuse import refuse
from imconnect.model import Applied
from imconnect.observe.metrics import Metrics
from tests.simulation.broker import BrokerProducer
from tests.simulation.business import Pool, Watched
from tests.simulation.clock import Life
from tests.simulation.disk import Disk
from tests.simulation.faults import Fate
from tests.simulation.people import Link
from tests.simulation.reading import EVERYBODY, Reading
from tests.simulation.record import NodeRecord
from tests.simulation.shared import SharedIndex, SharedPresence
from tests.simulation.ways import Way

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Seconds that a stopping node gets.
STOP_DEADLINE = 10.0


class Server:
    """One machine: a disk, a clock of its own that may be wrong, and a gateway that lives, dies and lives again."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.up = False
        #: Whether clients may sign in.
        self.accepting = False
        self.skew_ms = 0
        self._world = world
        #: The gateway's clock; the machine's own never stops.
        self.life = Life(world.timeline)
        self._presence: SharedPresence | None = None
        self._log = MemoryOutbox(Life(world.timeline))
        self.record = world.record.nodes[number] = NodeRecord(world.record, number, world.judge)
        self.start()

    def start(self) -> None:
        if self.up:
            return
        world, life = self._world, Life(self._world.timeline, self.crash)
        self.up = True
        self.life = life
        self.disk = Disk(self._log, life, world.faults, self.record)
        self.reading = Reading(MemoryPendingStore(world.store), life, world.faults, self.failed_to_read)
        self.pool = Pool(life, world.faults)
        between = self._meet(life)
        self.node = Node(
            clock=life,
            now_ms=lambda: world.now_ms() + self.skew_ms,
            settings=world.settings,
            node_id=self.number,
            outbox=self.disk,
            store=self.reading,
            producer=self._producer(life),
            metrics=Metrics(),
            handlers=HANDLERS,
            refuse=refuse,
            fits=lambda _: True,
            between=between,
        )
        recovering = Deferred.fromCoroutine(self._recover(life))
        recovering.addErrback(world.bug, "a start failed")

    def _meet(self, life: Life) -> Between | None:
        """The ports to other nodes, for this life."""
        world = self._world
        if world.shared is None:
            return None
        self._presence = SharedPresence(world.shared, life, self.number)
        index = SharedIndex(world.shared, life, self.number)
        return Between(presence=self._presence, peer=Way(world.ways, life, self.number), index=index)

    async def _recover(self, life: Life) -> None:
        world = self._world
        try:
            await self.node.recover()
        except Unavailable:
            life.die()  # systemd starts it again
            return
        self.record.restarted()
        if self._presence is not None:
            self._presence.open()
            world.ways.doors[self.number] = self
        self.node.start()
        self.accepting = True

    def _producer(self, life: Life) -> Producer:
        world = self._world
        if world.broker is not None:
            return BrokerProducer(world.broker, self.number, life, world.faults, world.record)
        rules = Watched(world.store, world.now_ms, world.model, world.record, self._applied)
        return EmbeddedProducer(rules, self.pool, self)

    def _applied(self, source: Source) -> None:
        """The embedded queue has an event when the database has it."""
        self.record.queued(0, source.offset)

    def crash(self) -> None:
        """kill -9: what was durable stays, every connection breaks; after a while it is started again."""
        if self.up:
            self.up = self.accepting = False
            self.life.end()
            self._world.ways.doors.pop(self.number, None)
            self._log = self._log.restart()
            for link in self.links:
                link.lost(1006)
            self._world.restart(self.start)

    def stop(self) -> None:
        """SIGTERM: everybody is asked to leave, what was taken in is finished."""
        if self.accepting:
            self.accepting = False
            self.life.callLater(STOP_DEADLINE, self.life.die)
            Deferred.fromCoroutine(self._stop()).addErrback(self._world.bug, "a stop failed")

    async def _stop(self) -> None:
        await self.node.drain()
        if self._presence is not None:
            await self._presence.close()
        await self.node.stop()
        self.crash()

    def tell(self, applied: Applied) -> None:
        """The port Pushback of an embedded business."""
        self._world.tell(applied)

    def hear(self, applied: Applied) -> None:
        """What business wants this node to know arrives."""
        if self.accepting:
            self._world.judge.tell(self.number, applied, self.node.tell)

    def wrote(self) -> None:
        """Something was written to a client; with that it may have died."""
        if self._world.faults.fate("link") is Fate.DEATH:
            self.crash()

    def note(self, what: str) -> None:
        self._world.note(what)

    def failed_to_read(self, user: int) -> None:
        """The store did not answer: what this user is owed may come after what is new."""
        for link in self.links:
            if user in (link.user, EVERYBODY):
                link.in_order = False

    @property
    def links(self) -> list[Link]:
        return [link for link in self._world.links if link.server is self]
