"""The member of the consumer group that business is, as a part of the service tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred

from imconnect.core.background import Background
from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.consumer import GroupConsumer
from imconnect.rocketmq.errors import RocketMQError
from imconnect.rocketmq.lane import Handler, Settings
from imconnect.rocketmq.routes import Queue

MEASURE = 10.0  # seconds between two looks at how far behind we are
STOP = 8.0  # seconds in which what is in hand may finish
_CLOSE = 1.0  # seconds


class RocketmqConsumer:
    """`connect()` makes the client at the start: nothing may run before twistd forks. Its client id has to be the
    same after a restart and no other living process's, so that the broker gives the queues back at once.

    `handler` is as `rocketmq.lane.Handler`. A broker that is away, or a topic that is not there yet, is waited for.
    """

    def __init__(
        self, connect: Callable[[], Client], handler: Handler, *, group: str, topic: str, settings: Settings | None = None
    ) -> None:
        self._connect, self._handler, self._settings = connect, handler, settings
        self._group, self._topic = group, topic
        self._client: Client | None = None
        self._consumer: GroupConsumer | None = None
        self._background: Background | None = None
        self._lag: dict[Queue, int] = {}
        self._silent = False  # the last time that it was asked for the lag

    async def start(self) -> None:
        client = self._client = self._connect()
        self._consumer = GroupConsumer(client, self._group, self._topic, self._handler, settings=self._settings)
        await self._consumer.start()
        self._background = Background(client.clock)
        self._background.every(MEASURE, lambda: Deferred.fromCoroutine(self._measure()), "the lag of the consumer")

    async def stop(self) -> None:
        """What is in hand is finished and committed, the queues are given back, the connections end."""
        if self._background is not None:
            await self._background.stop()
        if self._consumer is not None:
            await self._consumer.stop(STOP)
        if self._client is not None:
            await self._client.close(_CLOSE)

    @property
    def queues(self) -> list[str]:
        """Those that are ours now."""
        return [str(queue) for queue in self._consumer.queues] if self._consumer is not None else []

    @property
    def away(self) -> bool:
        """No broker of the topic is connected, or one that has queues of ours does not answer."""
        return self._client is None or not self._client.connected() or self._silent

    def lag(self) -> Mapping[str, int]:
        """Events per queue of ours whose offset is not committed, as last measured; fresher where it is known."""
        if self._consumer is None:
            return {}
        return {str(queue): max(lag, self._lag.get(queue, 0)) for queue, lag in self._consumer.lag().items()}

    async def _measure(self) -> None:
        """Asked of the broker: while the database is away nothing is pulled, and pulls would not tell."""
        assert self._client is not None and self._consumer is not None
        admin, measured = Admin(self._client), dict[Queue, int]()
        try:
            for queue in self._consumer.queues:
                end = await admin.max_offset(queue)
                at = await admin.consumer_offset(self._group, queue)
                measured[queue] = end - (await admin.min_offset(queue) if at is None else at)
        except RocketMQError:
            self._silent = True  # the last figures stand
        else:
            self._silent, self._lag = False, measured
