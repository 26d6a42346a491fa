"""A member of a consumer group: ordered, and a good neighbour to Java's DefaultMQPushConsumer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.logger import Logger

from imconnect.rocketmq.allocation import averagely
from imconnect.rocketmq.bell import Bell
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Request
from imconnect.rocketmq.errors import RocketMQError
from imconnect.rocketmq.frames import Frame
from imconnect.rocketmq.lane import Handler, Lane, Settings
from imconnect.rocketmq.membership import Membership
from imconnect.rocketmq.routes import Queue
from imconnect.rocketmq.window import Mark

_log = Logger()
STOP_DEADLINE = 10.0  # seconds


class GroupConsumer:
    """Consumes its share of one topic's queues, each in order.

    `handler(queue, messages, attempt)` gets messages of one queue at a time; queues are independent of each other.
    The offset moves only after it has fired without an error. `tags`: "*" or "A || B"; all members of a group have to
    subscribe the same topic and tags. The client's `client_id` is this member's name.
    """

    def __init__(
        self,
        client: Client,
        group: str,
        topic: str,
        handler: Handler,
        *,
        tags: str = "*",
        settings: Settings | None = None,
    ) -> None:
        self._client, self._group, self._topic, self._tags = client, group, topic, tags
        self._handler, self._settings = handler, settings or Settings()
        self._membership = Membership(client, group, topic, tags, self._settings)
        self._lanes: dict[Queue, Lane] = {}
        self._leaving: dict[Queue, Lane] = {}
        self._newest: dict[Queue, Mark] = {}  # of queues that went: the last message that we had
        self._locking = DeferredLock()  # a lock and an unlock under way together might swap at the broker
        self._wake = Bell(client.clock)
        self._again = False
        self._stopping = False
        self._balancing = False
        self._trouble = False

    async def start(self) -> None:
        """Join the group. Queues come as the other members let go of them; a broker that is away is waited for."""
        await self._client.join(self)
        self._balancing = True
        balancing = Deferred.fromCoroutine(self._balance_until_stopped())
        balancing.addErrback(lambda failure: _log.failure("a bug ended the rebalancing", failure))
        balancing.addCallback(self._balanced)

    async def stop(self, deadline: float = STOP_DEADLINE) -> None:
        """Finish what is in hand, commit, stop pulling, unlock, say goodbye. Idempotent.

        A handler that takes longer than the deadline (seconds) is left to itself: its offset is not committed and
        its lock not given back, so that nobody overtakes it before the broker lets the lock expire.
        """
        if self._stopping:
            return
        self._stopping = True
        self._wake.ring()
        winding = Deferred.fromCoroutine(self._wind_down())
        try:
            await winding.addTimeout(deadline, self._client.clock)
        except TimeoutError:
            _log.warn("group {group}: stopped with messages in hand", group=self._group)
        for lane in (*self._lanes.values(), *self._leaving.values()):
            lane.drop()
        self._client.leave(self)
        await self._membership.say_goodbye()

    @property
    def queues(self) -> list[Queue]:
        """Those that are ours now, sorted."""
        return sorted(self._lanes)

    def lag(self) -> Mapping[Queue, int]:
        """Messages that wait, per queue that is ours, as the broker last said."""
        return {queue: lane.window.lag for queue, lane in self._lanes.items()}

    def producer_data(self) -> list[dict[str, Any]]:
        return []

    def consumer_data(self) -> list[dict[str, Any]]:
        return [self._membership.heartbeat()]

    def on_request(self, frame: Frame) -> bool:
        """The broker says that the members of the group are others now."""
        if frame.code != Request.NOTIFY_CONSUMERS or frame.fields.get("consumerGroup", self._group) != self._group:
            return False
        self._balance_soon()
        return True

    def _balance_soon(self) -> None:
        self._again = True
        self._wake.ring()

    def _balanced(self, _: None) -> None:
        self._balancing = False
        self._wake.ring()

    async def _balance_until_stopped(self) -> None:
        while not self._stopping:
            self._again = False
            try:
                complete = await self._balance()
                self._trouble = False
            except RocketMQError as error:
                complete = False
                if not self._trouble and not self._stopping:
                    self._trouble = True
                    _log.warn("group {group}: {error}", group=self._group, error=error)
            if not self._stopping and not self._again:
                await self._wake.wait(self._settings.rebalance if complete else self._settings.retry_rebalance)

    async def _balance(self) -> bool:
        """Take, keep and let go so that every member has its share. False: look again soon."""
        route = await self._client.route(self._topic)
        members = await self._membership.members(route)
        if self._client.client_id not in members:
            await self._client.heartbeat()  # the broker has forgotten us, or never heard
            return False
        mine = set(averagely(route.readable, members, self._client.client_id))
        for queue in sorted(set(self._lanes) - mine):
            self._let_go(queue)
        complete = not self._leaving
        for broker in sorted({queue.broker for queue in mine | set(self._leaving)}):
            ours = {queue for queue in mine if queue.broker == broker}
            complete &= await self._locking.run(self._lock, broker, ours)
        return complete

    async def _lock(self, broker: str, mine: set[Queue]) -> bool:
        """Ask for our queues and for those that we still finish, which also renews what we have."""
        wanted = mine | {q for q, lane in self._leaving.items() if q.broker == broker and not lane.dropped}
        if not wanted or self._stopping:
            return True
        asked_at = self._client.clock.seconds()
        try:
            granted = await self._membership.lock(wanted)
        except RocketMQError:
            self._client.routes.suspect(self._topic)
            return False
        for queue in sorted(wanted):
            self._apply(queue, queue in granted, queue in mine, asked_at + self._settings.lock_valid)
        return mine <= granted and mine <= set(self._lanes)

    def _apply(self, queue: Queue, granted: bool, wanted: bool, until: float) -> None:
        lane = self._lanes.get(queue) or self._leaving.get(queue)
        if lane is not None:
            if granted:
                lane.renew(until)
            else:
                lane.drop()
                self._let_go(queue)
        elif granted and wanted and not self._stopping:
            _log.info("group {group}: gained {queue}", group=self._group, queue=queue)
            lane = Lane(
                self._client,
                self._group,
                self._tags,
                self._membership.version,
                queue,
                self._handler,
                self._settings,
                self._newest.get(queue),
            )
            self._lanes[queue] = lane
            lane.start(until)

    def _let_go(self, queue: Queue) -> Deferred[None] | None:
        lane = self._lanes.pop(queue, None)
        if lane is None:
            return None
        self._leaving[queue] = lane
        released = Deferred.fromCoroutine(self._release(queue, lane))
        return released.addErrback(lambda failure: _log.failure("a bug kept {queue}", failure, queue=queue))

    async def _release(self, queue: Queue, lane: Lane) -> None:
        await lane.release()
        _log.info("group {group}: let go of {queue}", group=self._group, queue=queue)
        await self._locking.run(self._unlock, queue, lane)
        self._balance_soon()

    async def _unlock(self, queue: Queue, lane: Lane) -> None:
        del self._leaving[queue]
        if lane.window.newest is not None:
            self._newest[queue] = lane.window.newest
        if lane.dropped:
            return
        try:
            await self._membership.unlock(queue)
        except RocketMQError as error:
            _log.warn("{queue} stays locked until it expires: {error}", queue=queue, error=error)

    async def _wind_down(self) -> None:
        while self._balancing:
            await self._wake.wait()
        for queue in sorted(self._lanes):
            self._let_go(queue)
        while self._leaving:
            await self._wake.wait()
