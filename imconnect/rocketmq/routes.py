"""Where the queues of a topic are: asked of the name servers, kept, and asked again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.rocketmq.channel import Channel
from imconnect.rocketmq.codes import Request, Response
from imconnect.rocketmq.errors import ClientClosed, FrameError, Refused, RocketMQError, TopicMissing, Unreachable

_log = Logger()
_T = TypeVar("_T")
REFRESH = 30.0  # seconds between two looks at every known route
IN_DOUBT = 1.0  # seconds that lie between two looks at a route that seems wrong
ASK_TIMEOUT = 3.0  # seconds per name server
_WRITE, _READ = 2, 4  # bits of perm
_NUMERIC_KEY = re.compile(rb"([{,])(\d+):")


class Queue(NamedTuple):
    """One queue of a topic; sorts as Java sorts them."""

    topic: str
    broker: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.broker}/{self.number}"


class Route(NamedTuple):
    """The queues of one topic, sorted, and the address of each broker that has a master."""

    topic: str
    writable: tuple[Queue, ...]
    readable: tuple[Queue, ...]
    masters: Mapping[str, str]


def parse_json(body: bytes) -> Any:
    """A JSON body. Older servers write numeric keys without quotes. Raises FrameError."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(_NUMERIC_KEY.sub(rb'\1"\2":', body))
    except (ValueError, RecursionError):
        raise FrameError("a body that is not JSON") from None


def parse_route(topic: str, body: bytes) -> Route:
    """The body of a reply to request 105. Raises FrameError. Only masters (id 0) count: a slave takes no sends."""
    data = parse_json(body)
    try:
        masters = parse_masters(data["brokerDatas"])
        queues = [
            (item["brokerName"], item["perm"], item) for item in data["queueDatas"] if item["brokerName"] in masters
        ]
        writable = [
            Queue(topic, name, i) for name, perm, q in queues if perm & _WRITE for i in range(q["writeQueueNums"])
        ]
        readable = [
            Queue(topic, name, i) for name, perm, q in queues if perm & _READ for i in range(q["readQueueNums"])
        ]
    except (KeyError, TypeError, AttributeError):
        raise FrameError("a route that lacks what a route has") from None
    return Route(topic, tuple(sorted(writable)), tuple(sorted(readable)), masters)


def parse_masters(brokers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """brokerDatas of a route or a cluster -> broker name to the address of its master."""
    named = ((item["brokerName"], item["brokerAddrs"].get("0")) for item in brokers)
    return {name: address for name, address in named if isinstance(name, str) and isinstance(address, str)}


class NameServers:
    """Several name servers, any of which will do. Stays with the one that answered last."""

    def __init__(self, channels: Sequence[Channel], timeout: float = ASK_TIMEOUT) -> None:
        self._channels, self._timeout = channels, timeout
        self._first = 0

    async def ask(self, code: int, fields: Mapping[str, str], parse: Callable[[bytes], _T]) -> _T:
        """The parsed body of the first good answer. Raises what the last server's failure was.

        A refusal is believed only when no server says better: one that has just started knows no routes yet.
        """
        refusal: Refused | None = None
        failure: RocketMQError = Unreachable("no name server is known")
        for index in self._in_turn():
            try:
                reply = await self._channels[index].request(code, fields, b"", self._timeout)
                if reply.code != Response.SUCCESS:
                    refusal = Refused(reply.code, reply.remark)
                    continue
                answer = parse(reply.body)
            except ClientClosed:
                raise
            except RocketMQError as error:
                failure = error
                continue
            self._first = index
            return answer
        raise refusal or failure

    def _in_turn(self) -> list[int]:
        count = len(self._channels)
        return [(self._first + step) % count for step in range(count)]


class Routes:
    """The routes of all topics that were asked for, refreshed every 30 s. A known route outlives its name servers."""

    def __init__(self, name_servers: NameServers, clock: IReactorTime, refreshed: Callable[[], None]) -> None:
        self._name_servers, self._clock = name_servers, clock
        self._refreshed = refreshed  # called after every round
        self._routes: dict[str, Route] = {}
        self._asked: dict[str, float] = {}
        self._asking: dict[str, list[Deferred[Route]]] = {}
        self._timer: IDelayedCall | None = None
        self._trouble = False

    def known(self, topic: str) -> Route | None:
        """As last heard; None before the first answer."""
        return self._routes.get(topic)

    def addresses(self) -> set[str]:
        """Of all masters of all known routes."""
        return {address for route in self._routes.values() for address in route.masters.values()}

    def start(self) -> None:
        """Begin the rounds."""
        self._timer = self._clock.callLater(REFRESH, self._round)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def get(self, topic: str) -> Route:
        """The known route, else asked for. Raises TopicMissing, or what the name servers' failure was."""
        return self._routes.get(topic) or await self.refresh(topic)

    async def refresh(self, topic: str) -> Route:
        """Ask now; those who ask meanwhile share the answer."""
        answer: Deferred[Route] = Deferred()
        first = topic not in self._asking
        self._asking.setdefault(topic, []).append(answer)
        if first:
            Deferred.fromCoroutine(self._ask(topic)).addBoth(self._answered, topic)
        return await answer

    def suspect(self, topic: str) -> None:
        """Something says that this route is wrong: look again, but not more than once a second."""
        if topic in self._asking or self._clock.seconds() - self._asked.get(topic, -IN_DOUBT) < IN_DOUBT:
            return
        Deferred.fromCoroutine(self._refresh_quietly(topic))

    def _answered(self, result: Route | Failure, topic: str) -> None:
        for answer in self._asking.pop(topic):
            if isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(result)

    async def _ask(self, topic: str) -> Route:
        self._asked[topic] = self._clock.seconds()
        fields = {"topic": topic, "acceptStandardJsonOnly": "true"}
        try:
            route = await self._name_servers.ask(Request.ROUTE, fields, lambda body: parse_route(topic, body))
        except Refused as error:
            if error.code == Response.TOPIC_NOT_EXIST:
                raise TopicMissing(topic) from None
            raise
        if self._trouble:
            self._trouble = False
            _log.info("RocketMQ routes are known again")
        before = self._routes.get(topic)
        if before is not None and before.writable != route.writable:
            _log.info("topic {topic} now has {count} queues", topic=topic, count=len(route.writable))
        self._routes[topic] = route
        return route

    def _round(self) -> None:
        self._timer = self._clock.callLater(REFRESH, self._round)
        Deferred.fromCoroutine(self._refresh_all())

    async def _refresh_all(self) -> None:
        for topic in list(self._routes):
            await self._refresh_quietly(topic)
        self._refreshed()

    async def _refresh_quietly(self, topic: str) -> None:
        """A known route stays as it is when nobody answers: brokers outlive their name servers."""
        try:
            await self.refresh(topic)
        except ClientClosed:
            return
        except RocketMQError as error:
            if not self._trouble:
                self._trouble = True
                _log.warn("the route of {topic} cannot be refreshed: {error}", topic=topic, error=error)
