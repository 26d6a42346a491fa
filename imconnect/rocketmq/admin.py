"""Asking brokers about topics, offsets and messages, and creating topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twisted.internet.task import deferLater

from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Request, Response
from imconnect.rocketmq.errors import FrameError, RequestTimeout, TopicMissing
from imconnect.rocketmq.frames import Frame
from imconnect.rocketmq.messages import StoredMessage, decode_stored
from imconnect.rocketmq.routes import Queue, Route, parse_json, parse_masters

_PERM_READ_WRITE = 6
_ROUTE_STEP = 0.2  # seconds between two looks for the route of a new topic
PULL_ANSWERS = (
    Response.SUCCESS,
    Response.PULL_NOT_FOUND,
    Response.PULL_RETRY_IMMEDIATELY,
    Response.PULL_OFFSET_MOVED,
)


class Pulled(NamedTuple):
    """An answer to a pull: what was found, and from where to go on."""

    code: int
    messages: Sequence[StoredMessage]
    next_offset: int
    min_offset: int
    max_offset: int  # the next one to be written


def number(frame: Frame, name: str) -> int:
    """A field of a reply that has to be a number. Raises FrameError."""
    try:
        return int(frame.fields[name])
    except (KeyError, ValueError):
        raise FrameError(f"a reply without {name}") from None


def parse_pulled(reply: Frame) -> Pulled:
    """The reply to a pull. Raises FrameError."""
    messages = tuple(decode_stored(reply.body)) if reply.code == Response.SUCCESS else ()
    offsets = [number(reply, name) for name in ("nextBeginOffset", "minOffset", "maxOffset")]
    return Pulled(reply.code, messages, *offsets)


class Admin:
    """Every call raises Refused for an answer that is no success, and the errors of an absent or silent peer."""

    def __init__(self, client: Client, timeout: float = 5.0) -> None:
        self._client, self._timeout = client, timeout
        self.clock = client.clock

    async def cluster(self) -> dict[str, str]:
        """Broker name -> address of its master, of all that the name servers know."""
        return await self._client.name_servers.ask(Request.CLUSTER, {}, _parse_cluster)

    async def create_topic(
        self,
        topic: str,
        queues: int = 8,
        *,
        perm: int = _PERM_READ_WRITE,
        order: bool = False,
        attributes: Mapping[str, str] | None = None,
        deadline: float = 60.0,
    ) -> Route:
        """Create or change it on every master, and wait until it has a route (seconds, else RequestTimeout)."""
        fields = {
            "topic": topic,
            "defaultTopic": "TBW102",
            "readQueueNums": str(queues),
            "writeQueueNums": str(queues),
            "perm": str(perm),
            "topicFilterType": "SINGLE_TAG",
            "topicSysFlag": "0",
            "order": "true" if order else "false",
        }
        if attributes:
            fields["attributes"] = ",".join(f"+{key}={value}" for key, value in attributes.items())
        until = self._client.clock.seconds() + deadline
        while not (masters := await self.cluster()):  # a broker that has just started is not registered yet
            await self._pause(until, "no broker is registered")
        for address in masters.values():
            await self._client.call(address, Request.CREATE_TOPIC, fields, timeout=self._timeout)
        return await self._wait_for_route(topic, set(masters), until)

    async def ensure_topic(self, topic: str, queues: int = 8, *, deadline: float = 60.0) -> Route:
        """Its route; it is created where there is none."""
        try:
            return await self._client.routes.refresh(topic)
        except TopicMissing:
            return await self.create_topic(topic, queues, deadline=deadline)

    async def _wait_for_route(self, topic: str, brokers: set[str], until: float) -> Route:
        while True:
            try:
                route = await self._client.routes.refresh(topic)
                if brokers <= set(route.masters):
                    return route
            except TopicMissing:
                pass  # the brokers have not told the name server yet
            await self._pause(until, f"topic {topic} has no route yet")

    async def _pause(self, until: float, why: str) -> None:
        if self._client.clock.seconds() >= until:
            raise RequestTimeout(why)
        await deferLater(self._client.clock, _ROUTE_STEP)

    async def min_offset(self, queue: Queue) -> int:
        """The oldest message that is still there."""
        return await self._offset(Request.MIN_OFFSET, queue)

    async def max_offset(self, queue: Queue) -> int:
        """One above the newest message."""
        return await self._offset(Request.MAX_OFFSET, queue)

    async def offset_at(self, queue: Queue, when: int) -> int:
        """The first message that was stored then (ms since the epoch) or later; one above the newest where none was."""
        return await self._offset(Request.OFFSET_AT, queue, timestamp=str(when))

    async def consumer_offset(self, group: str, queue: Queue) -> int | None:
        """Where the group goes on in this queue; None before its first commit."""
        fields = {
            "consumerGroup": group,
            "topic": queue.topic,
            "queueId": str(queue.number),
            "setZeroIfNotFound": "false",
        }
        good = (Response.SUCCESS, Response.QUERY_NOT_FOUND)
        address = await self._master(queue)
        reply = await self._client.call(address, Request.QUERY_OFFSET, fields, timeout=self._timeout, good=good)
        return number(reply, "offset") if reply.code == Response.SUCCESS else None

    async def pull(self, queue: Queue, offset: int, limit: int = 32, *, group: str = "imconnect-admin") -> Pulled:
        """What lies at this offset, without waiting, without belonging to the group, without moving anybody."""
        fields = {
            "consumerGroup": group,
            "topic": queue.topic,
            "queueId": str(queue.number),
            "queueOffset": str(offset),
            "maxMsgNums": str(limit),
            "sysFlag": "4",
            "commitOffset": "0",
            "suspendTimeoutMillis": "0",
            "subscription": "*",
            "subVersion": "0",
            "expressionType": "TAG",
        }
        address = await self._master(queue)
        return parse_pulled(
            await self._client.call(address, Request.PULL, fields, timeout=self._timeout, good=PULL_ANSWERS)
        )

    async def read_all(self, queue: Queue) -> list[StoredMessage]:
        """Everything that lies in the queue, from the oldest to what was newest when the call began.

        A broker shows a message some milliseconds after it has said that it is stored.
        """
        offset, end = await self.min_offset(queue), await self.max_offset(queue)
        found: list[StoredMessage] = []
        while offset < end:
            pulled = await self.pull(queue, offset)
            found += pulled.messages
            if pulled.next_offset <= offset:
                break
            offset = pulled.next_offset
        return found

    async def _offset(self, code: int, queue: Queue, **more: str) -> int:
        fields = {"topic": queue.topic, "queueId": str(queue.number), **more}
        address = await self._master(queue)
        return number(await self._client.call(address, code, fields, timeout=self._timeout), "offset")

    async def _master(self, queue: Queue) -> str:
        await self._client.route(queue.topic)
        return self._client.broker(queue)


def _parse_cluster(body: bytes) -> dict[str, str]:
    data = parse_json(body)
    try:
        return parse_masters(list(data["brokerAddrTable"].values()))
    except (KeyError, TypeError, AttributeError):
        raise FrameError("a cluster that lacks what a cluster has") from None
