"""The queue over our own RocketMQ client: batches per queue, in order, on the reactor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from imconnect.backends.mq_producer import MqProducer
from imconnect.backends.mq_topic import Topic
from imconnect.errors import Unavailable
from imconnect.events.dialect import Dialect
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.errors import ClientClosed, RocketMQError
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Producer, Receipt
from imconnect.rocketmq.routes import Queue


class RocketmqProducer(MqProducer):
    """`core.ports.Producer`. `timeout` in seconds per request; the rest as in MqProducer."""

    def __init__(
        self,
        reactor: Any,
        connect: Callable[[], Client],
        topic: Topic,
        dialect: Dialect,
        *,
        group: str,
        timeout: float,
        **common: Any,
    ) -> None:
        super().__init__(reactor, connect, topic, dialect, **common)
        self._group = group
        self._timeout = timeout
        self._producer: Producer | None = None

    def close(self) -> Deferred[None]:
        """What is under way gets a few seconds for its answer."""
        self._attempts.closing = True
        if self._client is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._close(self._client))

    def _opened(self) -> bool:
        return self._producer is not None

    async def _open(self, client: Client) -> None:
        try:
            if self._producer is None:
                self._producer = Producer(client, self._group, timeout=self._timeout, max_message=self._max_bytes)
                await self._producer.start()
            await self._topic.open(client)
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
