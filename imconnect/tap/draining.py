"""`imconnect outbox drain`, wired: as a gateway starts, but nobody can sign in, and it ends when the log is empty."""

from __future__ import annotations

from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from imconnect.backends import outbox_drained
from imconnect.backends.datadir import DataDir
from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.config import Config
from imconnect.config.profiles import dialect_of
from imconnect.core.background import sleep
from imconnect.core.node import Node
from imconnect.core.others import Between
from imconnect.errors import Unavailable
from imconnect.handlers import HANDLERS
from imconnect.handlers.refuse import refuse
from imconnect.observe.metrics import Metrics
from imconnect.service import OrderedService, end_now
from imconnect.service.ordered import TookTooLong
from imconnect.tap.backside import RECOVERY, Backside, make_backside
from imconnect.tap.clock import now_ms
from imconnect.tap.gateway import core_settings
from imconnect.tap.gateway_parts import LOOK, Log

#: However much is in the log; only when nothing moves any more is it given up.
FOREVER = 10 * 365 * 86400.0


class Drained(NamedTuple):
    """What was done. Numbers of events."""

    relayed: int
    #: Of them: messages that had not ended and were turned offline first.
    offlined: int
    #: That the broker has refused for good, now or earlier: they lie there still.
    parked: int


async def drain_outbox(reactor: Any, config: Config, folder: DataDir, patience: float) -> Drained:
    """Bring what the log of this folder has not relayed to where the configuration says, and mark the log.

    `patience`: seconds for which the queue may take nothing. Raises ConfigError, Damaged, and Unavailable; then there is
    no mark, and what was not relayed is still in the log. May be run again, also on a log that has the mark.
    """
    metrics, path = Metrics(), folder.file("outbox.db")
    behind = make_backside(reactor, config, folder, dialect_of(config), metrics, 0)
    ended = _Index(reactor, config) if config.redis.url else None
    node = Node(
        clock=reactor,
        now_ms=now_ms,
        settings=core_settings(config),
        node_id=config.node.id,
        outbox=SqliteOutbox(reactor, path, config.outbox.sync, end_now),
        store=behind.store,
        producer=behind.producer,
        metrics=metrics,
        handlers=HANDLERS,
        refuse=refuse,
        fits=lambda message: True,
        between=ended.between if ended else None,
    )
    await _run(reactor, node, behind, ended, patience)
    outbox_drained.mark(path, now_ms)
    return Drained(node.relay.sent, metrics.offline["restart"], node.relay.parked)


async def _run(reactor: Any, node: Node, behind: Backside, ended: _Index | None, patience: float) -> None:
    over: Deferred[None] = Deferred()

    def failed(part: str, why: Failure) -> None:
        over.errback(Failure(Unavailable(f"{part}: {why.getErrorMessage()}")) if why.check(TookTooLong) else why)

    service = OrderedService(reactor, failed)
    for name, part, seconds in behind.parts:
        service.add(name, part, start_within=seconds)
    if ended is not None:
        service.add("index", ended)
    service.add("outbox", Log(node), start_within=RECOVERY)
    service.add("relay", _Emptying(reactor, node, patience, over), start_within=FOREVER)
    service.startService()
    await over
    await service.stopService()


class _Emptying:
    """The last part: it is up when the queue has everything."""

    def __init__(self, clock: Any, node: Node, patience: float, over: Deferred[None]) -> None:
        self._clock, self._node, self._patience, self._over = clock, node, patience, over

    async def start(self) -> None:
        relay = self._node.relay
        done = relay.caught_up()
        while not done.called:
            if relay.stuck_seconds() > self._patience:
                why = relay.last_error or f"the queue has taken nothing for {self._patience:g} s"
                raise Unavailable(f"{relay.backlog} events are in the outbox still: {why}")
            await sleep(self._clock, LOOK)
        self._clock.callLater(0, self._over.callback, None)

    def stop(self) -> None:
        """Nothing: what was not taken stays in the log."""


class _Index:
    """A part: what has ended on other nodes, as a start asks for it. Nobody is told anything."""

    def __init__(self, reactor: Any, config: Config) -> None:
        # Late: a node alone loads no Redis.
        from imconnect.backends.peer_memory import MemoryPeer
        from imconnect.backends.presence_memory import MemoryPresence, Registry
        from imconnect.backends.redis_calls import RedisCalls
        from imconnect.backends.sent_redis import RedisSentIndex
        from imconnect.tap.neighbours import SENT

        self._calls = RedisCalls(reactor, config.redis.url, "sent", SENT)
        self.between = Between(
            presence=MemoryPresence(Registry(), config.node.id),
            peer=MemoryPeer({}),
            index=RedisSentIndex(self._calls, config.limits.dedupe_window, now_ms),
        )

    def start(self) -> None:
        self._calls.start()

    def stop(self) -> Deferred[None]:
        return self._calls.stop()
