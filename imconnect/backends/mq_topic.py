"""The topic that a producer writes to: there, or created, or a clear word why not; and its frozen queues."""

from __future__ import annotations

from twisted.logger import Logger

from imconnect.backends.mq_queues import FrozenQueues, Lanes
from imconnect.errors import Unavailable
from imconnect.events.dialect import java_queue
from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.errors import RocketMQError, TopicMissing
from imconnect.rocketmq.routes import Queue, Route

_log = Logger()

#: Seconds that a new topic may take to get its route. The relay asks again after that.
CREATE_DEADLINE = 30.0


class Topic:
    """`create`: whether a missing topic may be created, with `queues` queues on each broker."""

    def __init__(self, name: str, frozen: FrozenQueues, *, create: bool, queues: int) -> None:
        self.name = name
        self._frozen = frozen
        self._create = create
        self._queues = queues
        self._lanes: Lanes | None = frozen.get(name)
        self._compared = False

    async def open(self, client: Client) -> None:
        """The topic has a route, its queues are frozen. Raises Unavailable, in words for an operator."""
        try:
            route = await client.routes.refresh(self.name)
        except TopicMissing:
            route = await self._created(client)
        except RocketMQError as error:
            raise Unavailable(f"no name server tells where topic {self.name} is: {error}") from None
        if self._lanes is None:
            self._lanes = self._freeze(route)
        elif not self._compared:
            self._compare(self._lanes, route)
        self._compared = True

    def lane(self, key: str) -> int:
        """After `open`: where everything with this key goes."""
        lanes = self._known()
        return lanes.first + java_queue(key, len(lanes.queues))

    def queue(self, lane: int) -> Queue:
        """The queue that a lane stands for."""
        lanes = self._known()
        return lanes.queues[lane - lanes.first]

    def _known(self) -> Lanes:
        if self._lanes is None:
            raise Unavailable(f"the queues of topic {self.name} are not known yet")
        return self._lanes

    async def _created(self, client: Client) -> Route:
        if not self._create:
            raise Unavailable(
                f"topic {self.name} does not exist: create it (mqadmin updateTopic), or set rocketmq.create_topic: true"
            )
        try:
            route = await Admin(client).create_topic(self.name, self._queues, deadline=CREATE_DEADLINE)
        except RocketMQError as error:
            raise Unavailable(f"topic {self.name} does not exist and could not be created: {error}") from None
        _log.info("topic {topic} was created, with {count} queues", topic=self.name, count=len(route.writable))
        return route

    def _freeze(self, route: Route) -> Lanes:
        if not route.writable:
            raise Unavailable(f"topic {self.name} has no queue that takes messages: is its broker up, its perm 6?")
        try:
            lanes = self._frozen.freeze(self.name, route.writable)
        except OSError as error:
            raise Unavailable(f"{self._frozen.path} cannot be written: {error.strerror}") from None
        _log.info("topic {topic}: {count} queues from now on", topic=self.name, count=len(lanes.queues))
        return lanes

    def _compare(self, lanes: Lanes, route: Route) -> None:
        added = len(set(route.writable) - set(lanes.queues))
        away = len(set(lanes.queues) - set(route.writable))
        if added or away:
            _log.warn(
                "topic {topic}: {path} holds to {count} queues, of which {away} are away now; {added} new ones are not "
                "used. To use them: stop when the outbox is empty, delete the file, start",
                topic=self.name,
                path=self._frozen.path,
                count=len(lanes.queues),
                away=away,
                added=added,
            )
