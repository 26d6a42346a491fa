"""What a member of a consumer group says to the brokers: who it is, what it locks, when it leaves."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Request
from imconnect.rocketmq.errors import FrameError, Refused, RocketMQError, Unreachable
from imconnect.rocketmq.frames import Frame
from imconnect.rocketmq.hashing import java_hash
from imconnect.rocketmq.lane import Settings
from imconnect.rocketmq.routes import Queue, Route, parse_json

GOODBYE_TIMEOUT = 2.0  # seconds


class Membership:
    """The requests of one group. `version` tells brokers which of two subscriptions is the newer one."""

    def __init__(self, client: Client, group: str, topic: str, tags: str, settings: Settings) -> None:
        self._client, self._group, self._topic, self._tags = client, group, topic, tags
        self._settings = settings
        self.version = int(client.clock.seconds() * 1000)

    def heartbeat(self) -> dict[str, Any]:
        """Our part of the client's heartbeat, as Java's push consumer words it."""
        first = self._settings.start == "first"
        return {
            "groupName": self._group,
            "consumeType": "CONSUME_PASSIVELY",
            "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET" if first else "CONSUME_FROM_LAST_OFFSET",
            "unitMode": False,
            "subscriptionDataSet": [
                self._subscription(self._topic, self._tags),
                self._subscription(f"%RETRY%{self._group}", "*"),  # all members have to subscribe alike
            ],
        }

    async def members(self, route: Route) -> list[str]:
        """Client ids, sorted. Any broker of the topic knows them, because every member greets every one."""
        failure: RocketMQError = Unreachable(f"topic {self._topic} has no broker")
        for address in route.masters.values():
            try:
                reply = await self._client.call(
                    address, Request.CONSUMER_LIST, {"consumerGroup": self._group}, timeout=self._settings.timeout
                )
                return sorted(str(member) for member in _listed(reply, "consumerIdList"))
            except RocketMQError as error:
                failure = error
        if isinstance(failure, Refused):  # so a broker answers that knows no member of this group
            return []
        self._client.routes.suspect(self._topic)
        raise failure

    async def lock(self, queues: Collection[Queue]) -> set[Queue]:
        """Lock queues of one broker, or renew their locks. Those that are ours now."""
        address = self._client.broker(min(queues))
        reply = await self._client.call(
            address, Request.LOCK, {}, self._lock_body(queues), timeout=self._settings.timeout
        )
        return {_queue(item) for item in _listed(reply, "lockOKMQSet")}

    async def unlock(self, queue: Queue) -> None:
        address = self._client.broker(queue)
        await self._client.call(address, Request.UNLOCK, {}, self._lock_body([queue]), timeout=GOODBYE_TIMEOUT)

    async def say_goodbye(self) -> None:
        """To every connected broker. One that does not hear it notices when the connection ends."""
        fields = {"clientID": self._client.client_id, "consumerGroup": self._group}
        calls = [
            self._client.call(address, Request.UNREGISTER, fields, timeout=GOODBYE_TIMEOUT)
            for address in self._client.connected()
        ]
        await DeferredList([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)

    def _subscription(self, topic: str, tags: str) -> dict[str, Any]:
        named = [] if tags == "*" else [tag.strip() for tag in tags.split("||")]
        return {
            "topic": topic,
            "subString": tags,
            "tagsSet": named,
            "codeSet": [java_hash(tag) for tag in named],
            "subVersion": self.version,
            "expressionType": "TAG",
            "classFilterMode": False,
        }

    def _lock_body(self, queues: Iterable[Queue]) -> bytes:
        listed = [{"topic": q.topic, "brokerName": q.broker, "queueId": q.number} for q in sorted(queues)]
        body = {"consumerGroup": self._group, "clientId": self._client.client_id, "mqSet": listed}
        return json.dumps(body, separators=(",", ":")).encode()


def _listed(reply: Frame, name: str) -> list[Any]:
    """A list in a reply's body. Raises FrameError."""
    data = parse_json(reply.body)
    found = data.get(name) if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise FrameError(f"a reply without {name}")
    return found


def _queue(item: Any) -> Queue:
    try:
        return Queue(item["topic"], item["brokerName"], item["queueId"])
    except (KeyError, TypeError):
        raise FrameError("a queue that lacks what a queue has") from None
