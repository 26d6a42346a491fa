"""What stands behind a gateway: a queue, the database that people's missed messages are read from, and business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from imconnect.backends.datadir import DataDir
from imconnect.backends.producer_embedded import EmbeddedProducer
from imconnect.backends.sql.engine import make_engine
from imconnect.backends.store_none import NoPendingStore
from imconnect.backends.store_sql import SqlPendingStore
from imconnect.backends.threads import Pool
from imconnect.config import Config
from imconnect.core.node import Node
from imconnect.core.ports import PendingStore, Producer
from imconnect.events.dialect import Dialect
from imconnect.model import Applied
from imconnect.observe.metrics import Metrics
from imconnect.service import Part
from imconnect.tap.clock import now_ms
from imconnect.tap.database import Database, IfAway
from imconnect.tap.jobs import Jobs, Keeping

#: Threads that read what users are owed.
READERS = 4
#: Seconds that a start may take to bring what an earlier process left into the database.
RECOVERY = 600.0

#: (name, part, seconds that its start may take), in the order in which they start.
Parts = Sequence[tuple[str, Part, float]]


class Backside(NamedTuple):
    """What the wiring of the gateway needs to know of it."""

    producer: Producer
    store: PendingStore
    #: Before the outbox is opened, and after it was recovered: what tells people something.
    parts: Parts
    consumers: Parts
    telling: Telling
    #: What takes the events, as `/ready` calls it.
    taker: Literal["queue", "database"]
    #: Whether clients wait until the database has what the log holds: always, unless it is away, never.
    settles: Literal["always", "if there", "never"]
    #: None: business is elsewhere.
    business: Keeping | None = None
    #: Called when clients are asked to leave.
    leave: Callable[[], None] = lambda: None


class Telling:
    """The port Pushback towards a node that does not exist yet."""

    def __init__(self) -> None:
        self.node: Node | None = None

    def tell(self, applied: Applied) -> None:
        if self.node is not None:
            self.node.tell_everywhere(applied)


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
    reactor: Any, config: Config, folder: DataDir, dialect: Dialect, metrics: Metrics, http_port: int
) -> Backside:
    """As configured. Raises ConfigError, and Damaged for a file that cannot be ours."""
    if not config.rocketmq.server_addr:
        return _embedded(reactor, config, folder, metrics)
    # Late: an embedded gateway never loads the RocketMQ client.
    from imconnect.backends.producers import make_producer

    producer = make_producer(
        reactor, config.rocketmq, dialect, node_id=config.node.id, data_dir=folder.path, metrics=metrics
    )
    if config.business.mode == "embedded":
        return _consuming(reactor, config, producer, metrics, f"{config.node.name or 'imconnect'}-{http_port}")
    return _business_elsewhere(reactor, config, producer)


def _embedded(reactor: Any, config: Config, folder: DataDir, metrics: Metrics) -> Backside:
    """Queue, business and database in this process."""
    telling = Telling()
    url_or_path = config.business.database or folder.file("business.db")
    if_away = _if_away(url_or_path)
    database = Database(reactor, config, url_or_path, now_ms, if_away=if_away)
    jobs = Jobs(reactor, database, now_ms, config.business.keep_days, telling)
    business = Keeping(database, jobs)
    business.register(metrics)
    pool = Pool(reactor, "store", READERS)
    return Backside(
        producer=EmbeddedProducer(database.rules, database.writer, telling),
        store=SqlPendingStore(database.engine, pool),
        parts=(("database", database, RECOVERY), ("store", Readers(pool), 10.0)),
        consumers=(("jobs", jobs, 10.0),),
        telling=telling,
        taker="database",
        settles="always" if if_away == "fail" else "if there",
        business=business,
    )


def _consuming(reactor: Any, config: Config, producer: Producer, metrics: Metrics, name: str) -> Backside:
    """Events go to RocketMQ, and this process is a member of the group that applies them."""
    from imconnect.tap.consuming import Membership, make_consuming

    telling = Telling()
    url = config.business.database
    database = Database(reactor, config, url, now_ms, if_away=_if_away(url))
    consuming = make_consuming(reactor, config, database, telling, metrics, name)
    member = Membership(reactor, consuming)
    pool = Pool(reactor, "store", READERS)
    return Backside(
        producer=producer,
        store=SqlPendingStore(database.engine, pool),
        parts=(("producer", _Closing(producer), 10.0), ("database", database, RECOVERY), ("store", Readers(pool), 10.0)),
        consumers=(("jobs", consuming.jobs, 10.0), ("consumer", member, 10.0)),
        telling=telling,
        taker="queue",
        settles="never",
        business=consuming,
        leave=member.leave,
    )


def _business_elsewhere(reactor: Any, config: Config, producer: Producer) -> Backside:
    """Events go to RocketMQ, imbusiness applies them; the database is only read here, and may be away."""
    if not config.business.database:
        return _without_database(producer)
    engine = make_engine(config.business.database)
    pool = Pool(reactor, "store", READERS)
    return Backside(
        producer=producer,
        store=SqlPendingStore(engine, pool),
        parts=(("producer", _Closing(producer), 10.0), ("store", Readers(pool, engine.dispose), 10.0)),
        consumers=(),
        telling=Telling(),
        taker="queue",
        settles="never",
    )


def _without_database(producer: Producer) -> Backside:
    """Events go to RocketMQ, and the Java im-business keeps them where nobody here can look."""
    nothing = NoPendingStore()
    return Backside(
        producer=producer,
        store=nothing,
        parts=(("producer", _Closing(producer), 10.0), ("store", nothing, 10.0)),
        consumers=(),
        telling=Telling(),
        taker="queue",
        settles="never",
    )


def _if_away(url_or_path: str) -> IfAway:
    """A file that cannot be used is this machine's own trouble; a server may come back."""
    return "fail" if "://" not in url_or_path or url_or_path.startswith("sqlite") else "go on"


class _Closing:
    """A producer connects when the relay opens it; here it is closed."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def start(self) -> None:
        """Nothing yet: the queue may be away."""

    def stop(self) -> Any:
        return self._producer.close()
