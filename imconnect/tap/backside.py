"""What stands behind a gateway: a queue, the database that people's missed messages are read from, and business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from imconnect.backends.datadir import DataDir
from imconnect.backends.producer_embedded import EmbeddedProducer
from imconnect.backends.sql.engine import make_engine
from imconnect.backends.store_sql import SqlPendingStore
from imconnect.backends.threads import Pool
from imconnect.config import Config
from imconnect.core.node import Node
from imconnect.core.ports import PendingStore, Producer
from imconnect.events.dialect import Dialect
from imconnect.model import Applied
from imconnect.observe.metrics import Metrics
from imconnect.service import Part
from imconnect.tap.database import Database, Jobs

#: Threads that read what users are owed.
READERS = 4
#: Seconds that a start may take to bring what an earlier process left into the database.
RECOVERY = 600.0

Gauges = dict[str, Callable[[], float]]


class Backside(NamedTuple):
    """What the wiring of the gateway needs to know of it."""

    producer: Producer
    store: PendingStore
    #: (name, part, seconds that its start may take), in the order in which they start.
    parts: Sequence[tuple[str, Part, float]]
    gauges: Gauges
    telling: Telling
    #: Whether what the log holds is in the database as soon as the queue has it: then clients wait for that.
    embedded: bool


class Telling:
    """The port Pushback towards a node that does not exist yet."""

    def __init__(self) -> None:
        self.node: Node | None = None

    def tell(self, applied: Applied) -> None:
        if self.node is not None:
            self.node.tell(applied)


class Readers:
    """A part of the service tree: the threads that read; with an engine of its own, that too."""

    def __init__(self, pool: Pool, dispose: Callable[[], None] | None = None) -> None:
        self._pool = pool
        self._dispose = dispose

    def start(self) -> None:
        self._pool.start()

    async def stop(self) -> None:
        await self._pool.stop()
        if self._dispose is not None:
            self._dispose()


def make_backside(
    reactor: Any, config: Config, folder: DataDir, dialect: Dialect, metrics: Metrics, now_ms: Callable[[], int]
) -> Backside:
    """As configured. Raises ConfigError, and Damaged for a file that cannot be ours."""
    if config.rocketmq.server_addr:
        return _rocketmq(reactor, config, folder, dialect, metrics)
    return _embedded(reactor, config, folder, now_ms)


def _embedded(reactor: Any, config: Config, folder: DataDir, now_ms: Callable[[], int]) -> Backside:
    """Queue, business and database in this process."""
    telling = Telling()
    database = Database(reactor, config, config.business.database or folder.file("business.db"), now_ms)
    pool = Pool(reactor, "store", READERS)
    jobs = Jobs(reactor, database, now_ms, config.business.keep_days, telling)
    return Backside(
        producer=EmbeddedProducer(database.rules, database.writer, telling),
        store=SqlPendingStore(database.engine, pool),
        parts=(("database", database, RECOVERY), ("store", Readers(pool), 10.0), ("jobs", jobs, 10.0)),
        gauges={**database.gauges(), **jobs.gauges()},
        telling=telling,
        embedded=True,
    )


def _rocketmq(reactor: Any, config: Config, folder: DataDir, dialect: Dialect, metrics: Metrics) -> Backside:
    """Events go to RocketMQ, imbusiness applies them; the database is only read here, and may be away."""
    # Late: an embedded gateway never loads the RocketMQ client.
    from imconnect.backends.producers import make_producer

    engine = make_engine(config.business.database)
    pool = Pool(reactor, "store", READERS)
    producer = make_producer(
        reactor, config.rocketmq, dialect, node_id=config.node.id, data_dir=folder.path, metrics=metrics
    )
    return Backside(
        producer=producer,
        store=SqlPendingStore(engine, pool),
        parts=(("producer", _Closing(producer), 10.0), ("store", Readers(pool, engine.dispose), 10.0)),
        gauges={},
        telling=Telling(),
        embedded=False,
    )


class _Closing:
    """A producer connects when the relay opens it; here it is closed."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def start(self) -> None:
        """Nothing yet: the queue may be away."""

    def stop(self) -> Any:
        return self._producer.close()
