"""The queue over our own RocketMQ client: batches per queue, in order, on the reactor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from imconnect.backends.mq_attempts import Attempts
from imconnect.backends.mq_outgoing import outgoing
from imconnect.backends.mq_topic import Topic
from imconnect.core.ports import Answer, Entry
from imconnect.errors import Unavailable
from imconnect.events.dialect import Dialect
from imconnect.events.values import Event
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.errors import ClientClosed, RocketMQError
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Producer, Receipt
from imconnect.rocketmq.routes import Queue


class RocketmqProducer:
    """`core.ports.Producer`. `connect()` makes the client, at the first `open`: nothing may run before twistd forks.

    `timeout` in seconds per request, `max_bytes` of a body, `attempts` at each entry per call.
    """

    def __init__(
        self,
        reactor: Any,
        connect: Callable[[], Client],
        topic: Topic,
        dialect: Dialect,
        *,
        node_id: int,
        group: str,
        timeout: float,
        max_bytes: int,
        attempts: int,
        accept_unproven: bool = False,
    ) -> None:
        self._connect = connect
        self._topic = topic
        self._dialect = dialect
        self._node_id = node_id
        self._group = group
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._client: Client | None = None
        self._producer: Producer | None = None
        self._attempts = Attempts(reactor, self._offer, attempts, accept_unproven=accept_unproven)
        self.codes = self._attempts.codes
        self.unproven = self._attempts.unproven

    def gauges(self) -> dict[str, Callable[[], float]]:
        """What can be asked at any time."""
        return {"mq_in_flight": lambda: self._attempts.in_flight}

    def open(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._open())

    def lane(self, event: Event) -> int:
        return self._topic.lane(self._dialect.queue_key(event))

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        if self._producer is None or self._attempts.closing:
            return fail(Unavailable("the queue is closed"))
        ready = [outgoing(entry, self._dialect, self._node_id, self._max_bytes) for entry in entries]
        return Deferred.fromCoroutine(self._attempts.send(self._topic.queue(lane), ready))

    def close(self) -> Deferred[None]:
        """What is under way gets a few seconds for its answer."""
        self._attempts.closing = True
        if self._client is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._close(self._client))

    async def _open(self) -> None:
        if self._attempts.closing:
            raise Unavailable("the queue is closed")
        if self._client is None:
            self._client = self._connect()
        try:
            if self._producer is None:
                self._producer = Producer(self._client, self._group, timeout=self._timeout, max_message=self._max_bytes)
                await self._producer.start()
            await self._topic.open(self._client)
        except RocketMQError as error:
            raise Unavailable(f"RocketMQ: {error}") from None

    def _offer(self, queue: Queue, messages: Sequence[Message]) -> Deferred[list[Receipt]]:
        assert self._producer is not None
        return self._producer.send(queue, messages).addErrback(_closed)

    async def _close(self, client: Client) -> None:
        if self._producer is not None:
            await self._producer.close()
        await client.close()


def _closed(failure: Failure) -> NoReturn:
    failure.trap(ClientClosed)
    raise Unavailable("the queue is closed")
