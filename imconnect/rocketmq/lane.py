"""One queue that this consumer holds: pulls ahead, hands over in order, commits what was handled."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger

from imconnect.rocketmq.admin import PULL_ANSWERS, Admin, Pulled, parse_pulled
from imconnect.rocketmq.bell import Bell
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Request, Response
from imconnect.rocketmq.connection import Connection
from imconnect.rocketmq.errors import ClientClosed, RocketMQError
from imconnect.rocketmq.frames import Frame
from imconnect.rocketmq.lost_end import before_the_loss, has_lost
from imconnect.rocketmq.messages import StoredMessage
from imconnect.rocketmq.routes import Queue
from imconnect.rocketmq.window import UNKNOWN, Mark, Window

_log = Logger()
_T = TypeVar("_T")
_SUSPEND, _SUBSCRIPTION = 2, 4  # bits of a pull's sysFlag: wait for messages; the subscription comes along

# (queue, messages in order, attempt counted from 1) -> None, a Deferred or a coroutine. The messages count as handled
# when it has fired; when it fails the same ones come again, later, and nothing of this queue comes before that.
Handler = Callable[[Queue, Sequence[StoredMessage], int], Any]


@attrs.frozen(kw_only=True)
class Settings:
    """How a consumer works. Times in seconds."""

    start: str = "first"  # where a group begins that has no offset yet: "first" or "last"; "last" may miss messages
    batch: int = 256  # messages per call of the handler, at most
    buffered: int = 1024  # messages per queue that are fetched ahead
    buffered_bytes: int = 8 << 20  # of their bodies, likewise
    pull: int = 32  # messages per pull; brokers give no more by default
    suspend: float = 15.0  # how long a broker holds a pull that finds nothing
    pull_timeout: float = 30.0  # longer than `suspend`
    timeout: float = 5.0  # for every other request
    retry_first: float = 0.1  # until a failed handler call or pull is tried again; doubles
    retry_last: float = 10.0  # and stays at this
    rebalance: float = 20.0  # between two looks at who has which queue
    retry_rebalance: float = 1.0  # when the last one was not complete
    lock_valid: float = 30.0  # a lock not renewed for so long is not relied upon; brokers keep it for 60


class Lane:
    """Two loops, one that pulls and one that hands over, until `release` or `drop`."""

    def __init__(
        self,
        client: Client,
        group: str,
        subscription: str,
        version: int,
        queue: Queue,
        handler: Handler,
        settings: Settings,
        newest: Mark | None = None,  # the last message of this queue that we had before
    ) -> None:
        self.queue = queue
        self.dropped = False
        self.window = Window(subscription, settings.buffered, settings.buffered_bytes)
        self.window.newest = newest
        self._client, self._admin = client, Admin(client, settings.timeout)
        self._group, self._subscription, self._version = group, subscription, version
        self._handler, self._settings = handler, settings
        self._sure = False  # the stored offset was read since the last trouble, and the queue has what it had
        self._seen_on: Connection | None = None  # the connection on which that was seen
        self._locked_until = 0.0
        self._stopping = False
        self._asking: Deferred[Any] | None = None
        self._changed, self._ended, self._stopped = Bell(client.clock), Bell(client.clock), Bell(client.clock)
        self._loops = 2
        self._trouble = False

    def start(self, locked_until: float) -> None:
        self._locked_until = locked_until
        for loop in (self._pulling(), self._working()):
            Deferred.fromCoroutine(loop).addErrback(self._broke).addCallback(lambda _: self._loop_ended())

    def renew(self, until: float) -> None:
        """The lock is ours until then (clock seconds)."""
        self._locked_until = until
        self._changed.ring()

    async def release(self) -> None:
        """What is in hand is finished, its offset committed, the pull stopped. In that order. Idempotent."""
        self._stopping = True
        self._stopped.ring()
        self._changed.ring()
        while self._loops:
            await self._ended.wait()

    def drop(self) -> None:
        """The lock is lost: somebody else may be ahead of us, so nothing more is committed."""
        self.dropped = self._stopping = True
        self._stopped.ring()
        self._changed.ring()
        self._cancel_asking()

    def _broke(self, failure: Any) -> None:
        _log.failure("a bug ended the consumption of {queue}", failure, queue=self.queue)

    def _loop_ended(self) -> None:
        self._loops -= 1
        self._ended.ring()

    def _cancel_asking(self) -> None:
        """The flag ends the loop, whatever a cancel meets: a reply that is just here swallows it."""
        if self._asking is not None:
            self._asking.cancel()

    @property
    def _locked(self) -> bool:
        now: float = self._client.clock.seconds()
        return now < self._locked_until

    @property
    def _ready(self) -> bool:
        return self._locked and not self.window.empty

    # -- handing over

    async def _working(self) -> None:
        try:
            while not self._stopping:
                if not self._ready:
                    await self._rest()
                elif await self._handled(self.window.take(self._settings.batch)):
                    await self._commit()
            await self._commit()
        finally:
            self._stopping = True
            self._changed.ring()
            self._cancel_asking()

    async def _rest(self) -> None:
        """Nothing to hand over, or not allowed to; that may be otherwise by the time the commit is through."""
        await self._commit()
        if not self._stopping and not self._ready:
            behind = self.window.done != self.window.committed
            await self._changed.wait(self._settings.retry_rebalance if behind else None)

    async def _handled(self, batch: Sequence[StoredMessage]) -> bool:
        self._changed.ring()  # there is room again
        attempt = 1
        while not await self._try(batch, attempt):
            await self._stopped.wait(self._delay(attempt))
            while not self._stopping and not self._locked:
                await self._changed.wait()
            if self._stopping:
                self.window.give_up()
                return False
            attempt += 1
        if attempt > 1:
            _log.info("{queue}: handled after {attempt} attempts", queue=self.queue, attempt=attempt)
        self.window.finish(batch)
        return True

    async def _try(self, batch: Sequence[StoredMessage], attempt: int) -> bool:
        try:
            await maybeDeferred(self._handler, self.queue, batch, attempt)
        except Exception as error:  # whatever the handler's trouble is, the queue waits for it
            if attempt == 1:
                _log.warn("{queue}: the handler failed: {kind}", queue=self.queue, kind=type(error).__name__)
            return False
        return True

    async def _commit(self) -> None:
        """A commit that fails is made up for by the next one."""
        offset = self.window.done
        if self.dropped or offset == self.window.committed:
            return
        try:
            await self._call(Request.UPDATE_OFFSET, {"commitOffset": str(offset)})
        except RocketMQError as error:
            self._in_trouble(error)
        else:
            self.window.committed = offset

    # -- pulling

    async def _pulling(self) -> None:
        failures = 0
        while not self._stopping:
            try:
                if not self._sure:
                    await self._look()
                elif self.window.has_room:
                    pulled = await self._cancellable(self._pull())
                    failures, self._trouble = 0, False
                    self._sure = self._connection is self._seen_on  # else the broker was away, and may have lost some
                    if self._sure:
                        await self._take(pulled)
                else:
                    await self._changed.wait()
            except CancelledError:
                continue
            except RocketMQError as error:
                self._in_trouble(error)
                self._sure = False
                failures += 1
                if not self._stopping:
                    await self._stopped.wait(self._delay(failures))

    async def _cancellable(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        asking: Deferred[_T] = Deferred.fromCoroutine(coroutine)
        self._asking = asking
        try:
            return await asking
        finally:
            self._asking = None

    @property
    def _connection(self) -> Connection | None:
        return self._client.channel(self._client.broker(self.queue)).connection

    async def _look(self) -> None:
        """Where the group stands; and whether the broker still has the last message that we had."""
        await self._cancellable(self._find_offset())
        if await self._cancellable(self._lost()):
            await self._go_to(self._before_the_loss)
        self._sure = True

    async def _find_offset(self) -> None:
        stored = await self._admin.consumer_offset(self._group, self.queue)
        begin = UNKNOWN
        if stored is None and self.window.fetch == UNKNOWN:
            first = self._settings.start == "first"
            begin = await (self._admin.min_offset(self.queue) if first else self._admin.max_offset(self.queue))
        self.window.found(stored, begin)

    async def _lost(self) -> bool:
        self._seen_on = self._connection
        if self.window.newest is None or self._settings.start == "last":
            return False
        return await has_lost(self._admin, self._group, self.queue, self.window.newest)

    async def _before_the_loss(self) -> int:
        return min(self.window.fetch, await before_the_loss(self._admin, self.queue, self.window.newest))

    async def _pull(self) -> Pulled:
        fields = {
            "queueOffset": str(self.window.fetch),
            "maxMsgNums": str(self._settings.pull),
            "sysFlag": str(_SUSPEND | _SUBSCRIPTION),
            "commitOffset": "0",
            "suspendTimeoutMillis": str(int(self._settings.suspend * 1000)),
            "subscription": self._subscription,
            "subVersion": str(self._version),
            "expressionType": "TAG",
        }
        return parse_pulled(await self._call(Request.PULL, fields, self._settings.pull_timeout, PULL_ANSWERS))

    async def _take(self, pulled: Pulled) -> None:
        if pulled.code != Response.PULL_OFFSET_MOVED:
            self.window.add(pulled)
        else:  # expired, or lost with the broker's disk
            await self._go_to(lambda: self._moved(pulled))
        self._changed.ring()

    async def _go_to(self, where: Callable[[], Coroutine[Any, Any, int]]) -> None:
        """Once all that we have is handled."""
        while not self._stopping and (self.window.in_hand or not self.window.empty):
            await self._changed.wait(self._settings.retry_rebalance)
        if not self._stopping:
            offset = await self._cancellable(where())
            _log.warn("{queue}: offset moved to {offset}", queue=self.queue, offset=offset)
            self.window.move(offset)
            self._changed.ring()

    async def _moved(self, pulled: Pulled) -> int:
        """Where it points, but for a queue that lost its end: what was written since has numbers that we have passed.

        It is found by its time; some that was handled before comes again with it.
        """
        end = pulled.next_offset
        if end >= self.window.fetch or self._settings.start == "last":
            return end
        return min(end, await self._before_the_loss())

    async def _call(
        self, code: int, fields: Mapping[str, str], timeout: float = 0.0, good: Sequence[int] = (Response.SUCCESS,)
    ) -> Frame:
        queue = self.queue
        where = {"consumerGroup": self._group, "topic": queue.topic, "queueId": str(queue.number)}
        timeout = timeout or self._settings.timeout
        return await self._client.call(
            self._client.broker(queue), code, {**where, **fields}, timeout=timeout, good=good
        )

    def _delay(self, failures: int) -> float:
        return min(self._settings.retry_last, self._settings.retry_first * 2.0 ** min(failures - 1, 10))

    def _in_trouble(self, error: RocketMQError) -> None:
        if not self._trouble and not self._stopping and not isinstance(error, ClientClosed):
            self._trouble = True
            _log.warn("{queue}: {kind}: {error}", queue=self.queue, kind=type(error).__name__, error=error)
        self._client.routes.suspect(self.queue.topic)
