"""What both producers on RocketMQ are: the port `core.ports.Producer` around `Attempts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail

from imconnect.backends.mq_attempts import Attempts
from imconnect.backends.mq_outgoing import outgoing
from imconnect.backends.mq_topic import Topic
from imconnect.core.ports import Answer, Entry
from imconnect.errors import Unavailable
from imconnect.events.dialect import Dialect
from imconnect.events.values import Event
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Receipt
from imconnect.rocketmq.routes import Queue


class MqProducer:
    """`connect()` makes the client, at the first `open`: nothing may run before twistd forks.

    `max_bytes` of a body, `attempts` at each entry per call. A subclass says how to open, to offer and to close.
    """

    def __init__(
        self,
        reactor: Any,
        connect: Callable[[], Client],
        topic: Topic,
        dialect: Dialect,
        *,
        node_id: int,
        max_bytes: int,
        attempts: int,
        accept_unproven: bool = False,
    ) -> None:
        self._connect = connect
        self._topic = topic
        self._dialect = dialect
        self._node_id = node_id
        self._max_bytes = max_bytes
        self._client: Client | None = None
        self._attempts = Attempts(reactor, self._offer, attempts, accept_unproven=accept_unproven)
        self.codes = self._attempts.codes
        self.unproven = self._attempts.unproven

    def gauges(self) -> dict[str, Callable[[], float]]:
        """What can be asked at any time."""
        return {"mq_in_flight": lambda: self._attempts.in_flight}

    def open(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._open_once())

    def lane(self, event: Event) -> int:
        return self._topic.lane(self._dialect.queue_key(event))

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        if not self._opened() or self._attempts.closing:
            return fail(Unavailable("the queue is closed"))
        ready = [outgoing(entry, self._dialect, self._node_id, self._max_bytes) for entry in entries]
        return Deferred.fromCoroutine(self._attempts.send(self._topic.queue(lane), ready))

    async def _open_once(self) -> None:
        if self._attempts.closing:
            raise Unavailable("the queue is closed")
        if self._client is None:
            self._client = self._connect()
        await self._open(self._client)

    def _opened(self) -> bool:
        """Whether there is something to send through."""
        return self._client is not None

    async def _open(self, client: Client) -> None:
        """Ready to send, the topic's queues known. Raises Unavailable."""
        raise NotImplementedError

    def _offer(self, queue: Queue, messages: Sequence[Message]) -> Deferred[list[Receipt]]:
        """One try; a receipt per message. Errback: Unavailable."""
        raise NotImplementedError
