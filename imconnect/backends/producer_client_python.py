"""The queue over rocketmq-client-python: blocking sends, deferred onto a pool of one thread of their own.

One message at a time, because the library cannot choose the queue of a batch. Its faults that shape this module:
overlapping sends and sends after the shutdown crash the process, so there is one thread and one producer per process
life; a failed send says nothing about its cause, so all but two are tried again; a name server that hangs holds a
send for up to a minute, so there is a circuit breaker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from imconnect.backends.librocketmq_sender import Sender
from imconnect.backends.mq_producer import MqProducer
from imconnect.backends.mq_topic import Topic
from imconnect.backends.threads import Pool
from imconnect.core.background import within
from imconnect.errors import Unavailable
from imconnect.events.dialect import Dialect
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Outcome
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Receipt
from imconnect.rocketmq.routes import Queue

_log = Logger()

#: Failed sends in a row after which none is made for a while; seconds of the first while, and of the longest.
BREAKER, BREAK, LONGEST_BREAK = 3, 1.0, 30.0
#: Seconds that the stop waits for the library.
CLOSE_DEADLINE = 5.0


class ClientPythonProducer(MqProducer):
    """`core.ports.Producer`. `pool` has one thread and belongs to this producer.

    The client of our own only asks name servers and creates the topic.
    """

    def __init__(
        self,
        reactor: Any,
        connect: Callable[[], Client],
        topic: Topic,
        dialect: Dialect,
        sender: Sender,
        pool: Pool,
        **common: Any,
    ) -> None:
        super().__init__(reactor, connect, topic, dialect, **common)
        self._reactor = reactor
        self._pool = pool
        self._sender = sender
        self._closed = False
        self._failures = 0
        self._not_before = 0.0

    def close(self) -> Deferred[None]:
        """The send under way is finished, the library shut down behind it. Once: it cannot be started again.

        A library that hangs is left behind with a line in the log; the process ends itself hard at its own deadline.
        """
        return Deferred.fromCoroutine(self._close())

    async def _open(self, client: Client) -> None:
        await self._topic.open(client)
        self._pool.start()
        await self._pool.run(self._sender.start)

    async def _close(self) -> None:
        self._attempts.closing = self._sender.stopping = True
        if self._client is None or self._closed:
            return
        self._closed = True
        try:
            await within(self._pool.run(self._sender.shutdown), CLOSE_DEADLINE, self._reactor)
            await within(self._pool.stop(), CLOSE_DEADLINE, self._reactor)
        except Unavailable as error:
            _log.error("librocketmq did not stop: {why}", why=str(error))
        await self._client.close()

    def _offer(self, queue: Queue, messages: Sequence[Message]) -> Deferred[list[Receipt]]:
        assert self._client is not None
        wait = self._not_before - self._reactor.seconds()
        if wait > 0:
            return fail(Unavailable(f"too many sends failed, no more for {wait:.1f} s"))
        route = self._client.routes.known(queue.topic)
        if route is None or queue not in route.writable:
            self._client.routes.suspect(queue.topic)
            return fail(Unavailable(f"no route names a master of {queue.broker}"))
        place = route.writable.index(queue)
        sent = self._pool.run(self._sender.send, queue.topic, place, messages)
        return sent.addCallback(self._sent, queue.topic, len(route.writable))

    def _sent(self, result: tuple[list[Receipt], int], topic: str, expected: int) -> list[Receipt]:
        receipts, count = result
        failed = [receipt for receipt in receipts if receipt.outcome is Outcome.RETRY]
        if failed and self._client is not None:
            self._client.routes.suspect(topic)
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= BREAKER:
            pause = min(LONGEST_BREAK, BREAK * 2.0 ** min(self._failures - BREAKER, 10))
            self._not_before = self._reactor.seconds() + pause
        if count not in (0, expected):
            _log.warn(
                "librocketmq sees {count} queues of {topic} where the name server tells of {expected}: order across "
                "this change is not certain",
                count=count,
                topic=topic,
                expected=expected,
            )
        return receipts
