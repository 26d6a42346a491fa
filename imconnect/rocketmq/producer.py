"""Sending: to a queue that the caller chose, in order, with an honest answer for each message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredLock, fail
from twisted.internet.task import deferLater

from imconnect.rocketmq.client import CLOSE_DEADLINE, Client
from imconnect.rocketmq.codes import ROUTE_IN_DOUBT, Outcome, Request, Response, outcome_of
from imconnect.rocketmq.errors import ClientClosed, Illegal, RocketMQError
from imconnect.rocketmq.frames import Frame
from imconnect.rocketmq.messages import Message, batched_size, encode_batch, encode_properties, properties_of
from imconnect.rocketmq.routes import Queue

SEND_TIMEOUT = 10.0  # seconds; a broker with SYNC_FLUSH takes up to 5 before it says that it is late
MAX_MESSAGE = 4 << 20  # bytes of a body, the broker's own default
MAX_BATCH = 1 << 20  # bytes in one request
_CLOSE_STEP = 0.05  # seconds
_AUTO_CREATE_TEMPLATE, _AUTO_CREATE_QUEUES = "TBW102", 4
# One message may be at fault, or only their sum (that is a SYSTEM_ERROR): sent one by one it shows.
_BATCH_AT_FAULT = frozenset({Response.MESSAGE_ILLEGAL, Response.SYSTEM_ERROR})
# The broker appends a batch's own properties to those of each message, where they win: nothing else may stand here.
_BATCH_PROPERTIES = encode_properties({"WAIT": "true"})


class Receipt(NamedTuple):
    """What became of one message. `code` is the broker's, None where it did not answer.

    RETRY: it may be stored all the same, so it is sent again with the same unique id.
    """

    outcome: Outcome
    code: int | None = None
    offset: int = -1  # in its queue, where it is stored
    message_id: str = ""
    reason: str = ""

    @property
    def stored(self) -> bool:
        """It is in the broker's store, proven durable or not."""
        return self.outcome in (Outcome.STORED, Outcome.UNPROVEN)


class _Prepared(NamedTuple):
    message: Message
    properties: str
    size: int


class Producer:
    """A member of a producer group. At most one request per queue is under way, so a queue keeps the order of calls.

    Sizes in bytes, times in seconds.
    """

    def __init__(
        self,
        client: Client,
        group: str,
        *,
        timeout: float = SEND_TIMEOUT,
        max_message: int = MAX_MESSAGE,
        max_batch: int = MAX_BATCH,
    ) -> None:
        self._client, self._group, self._timeout = client, group, timeout
        self._max_message, self._max_batch = max_message, max_batch
        self._lanes: dict[Queue, DeferredLock] = {}
        self._sending = 0
        self._closing = False
        self.last_code: int | None = None  # of the last answer that was not success

    async def start(self) -> None:
        """Say to connected brokers that we belong to the group; others hear it when they are connected."""
        await self._client.join(self)

    async def queues(self, topic: str) -> tuple[Queue, ...]:
        """The topic's writable queues, sorted. Raises TopicMissing, or why no name server answers."""
        return (await self._client.route(topic)).writable

    def send(self, queue: Queue, messages: Sequence[Message]) -> Deferred[list[Receipt]]:
        """One receipt per message, in order: trouble with the broker or the network is a receipt, not an errback.

        Several messages travel together. After the first that is neither stored nor refused for good nothing more
        is sent, so that sending the rest again keeps the order. Errback: ClientClosed.
        """
        if self._closing or self._client.closing:
            return fail(ClientClosed("the producer is closed"))
        lane = self._lanes.get(queue)
        if lane is None:
            lane = self._lanes[queue] = DeferredLock()
        self._sending += 1
        sent: Deferred[list[Receipt]] = lane.run(lambda: Deferred.fromCoroutine(self._send(queue, messages)))
        return sent.addBoth(self._sent)

    async def close(self, deadline: float = CLOSE_DEADLINE) -> None:
        """Take nothing more; what is under way gets `deadline` seconds. It ends with the client otherwise."""
        self._closing = True
        until = self._client.clock.seconds() + deadline
        while self._sending and self._client.clock.seconds() < until:
            await deferLater(self._client.clock, _CLOSE_STEP)
        self._client.leave(self)

    def producer_data(self) -> list[dict[str, Any]]:
        return [{"groupName": self._group}]

    def consumer_data(self) -> list[dict[str, Any]]:
        return []

    def on_request(self, frame: Frame) -> bool:
        """Brokers ask producers about transactions only, which this one has not."""
        return False

    def _sent(self, result: Any) -> Any:
        self._sending -= 1
        return result

    async def _send(self, queue: Queue, messages: Sequence[Message]) -> list[Receipt]:
        receipts: list[Receipt] = []
        waiting: list[_Prepared] = []
        size = 0
        for message in messages:
            prepared = self._prepare(message)
            if isinstance(prepared, _Prepared) and (not waiting or size + prepared.size <= self._max_batch):
                waiting.append(prepared)
                size += prepared.size
                continue
            if waiting and not await self._flush(queue, waiting, receipts):
                break
            waiting, size = [], 0
            if isinstance(prepared, Receipt):
                receipts.append(prepared)
            else:
                waiting, size = [prepared], prepared.size
        else:
            if waiting:
                await self._flush(queue, waiting, receipts)
        skipped = Receipt(Outcome.RETRY, reason="not sent: one before it was not stored")
        return receipts + [skipped] * (len(messages) - len(receipts))

    def _prepare(self, message: Message) -> _Prepared | Receipt:
        if not message.body:
            return Receipt(Outcome.PERMANENT, reason="an empty body")
        if len(message.body) > self._max_message:
            return Receipt(Outcome.PERMANENT, reason=f"a body of {len(message.body)} bytes is over {self._max_message}")
        try:
            properties = properties_of(message)
        except Illegal as error:
            return Receipt(Outcome.PERMANENT, reason=str(error))
        return _Prepared(message, properties, batched_size(len(message.body), len(properties.encode())))

    async def _flush(self, queue: Queue, batch: Sequence[_Prepared], receipts: list[Receipt]) -> bool:
        """Send these with one request; False: nothing after them may be sent."""
        answers = await self._request(queue, batch)
        if len(batch) > 1 and answers[0].code in _BATCH_AT_FAULT:
            answers = []
            for each in batch:
                answers += await self._request(queue, [each])
                if answers[-1].outcome is Outcome.RETRY:
                    break
        receipts += answers
        return answers[-1].outcome is not Outcome.RETRY

    async def _request(self, queue: Queue, batch: Sequence[_Prepared]) -> list[Receipt]:
        if self._client.closing:
            return [Receipt(Outcome.RETRY, reason="the client is closing")] * len(batch)
        try:
            channel = self._client.channel(self._client.broker(queue))
            if len(batch) == 1:
                only = batch[0]
                fields = self._fields(queue, only.properties, only.message.flag, batched=False)
                reply = await channel.request(Request.SEND, fields, only.message.body, self._timeout)
            else:
                fields = self._fields(queue, _BATCH_PROPERTIES, 0, batched=True)
                body = encode_batch([(each.message, each.properties) for each in batch])
                reply = await channel.request(Request.SEND_BATCH, fields, body, self._timeout)
        except RocketMQError as error:
            self._client.routes.suspect(queue.topic)
            return [Receipt(Outcome.RETRY, reason=f"{type(error).__name__}: {error}")] * len(batch)
        return self._read(queue, reply, len(batch), channel.retire)

    def _read(self, queue: Queue, reply: Frame, count: int, retire: Any) -> list[Receipt]:
        outcome = outcome_of(reply.code)
        if outcome is not Outcome.STORED:
            self.last_code = reply.code
        if reply.code in ROUTE_IN_DOUBT:
            self._client.routes.suspect(queue.topic)
        if outcome is Outcome.RECONNECT:
            retire()
            outcome = Outcome.RETRY
        if outcome not in (Outcome.STORED, Outcome.UNPROVEN):
            return [Receipt(outcome, reply.code, reason=reply.remark or f"code {reply.code}")] * count
        offset = reply.fields.get("queueOffset", "")
        first = int(offset) if offset.isascii() and offset.isdigit() else -1
        ids = reply.fields.get("msgId", "").split(",")
        ids = ids if len(ids) == count else [""] * count
        remark = reply.remark or ""
        return [Receipt(outcome, reply.code, first + i if first >= 0 else -1, ids[i], remark) for i in range(count)]

    def _queues_there(self, queue: Queue) -> int:
        """How many the topic gets if the broker creates it, or lost it and creates it again: as many as it had."""
        route = self._client.routes.known(queue.topic)
        there = sum(each.broker == queue.broker for each in route.writable) if route is not None else 0
        return max(there, _AUTO_CREATE_QUEUES)

    def _fields(self, queue: Queue, properties: str, flag: int, *, batched: bool) -> dict[str, str]:
        """The header of request 310 and 320: RocketMQ abbreviates its names to letters."""
        return {
            "a": self._group,
            "b": queue.topic,
            "c": _AUTO_CREATE_TEMPLATE,
            "d": str(self._queues_there(queue)),
            "e": str(queue.number),
            "f": "0",  # system flag: neither compressed nor transactional
            "g": str(int(self._client.clock.seconds() * 1000)),
            "h": str(flag),
            "i": properties,
            "j": "0",  # times consumed
            "k": "false",  # unit mode
            "m": "true" if batched else "false",
            "n": queue.broker,
        }
