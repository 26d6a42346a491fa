"""The client: connections, routes and heartbeats, shared by its producers, consumers and admin calls."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IDelayedCall, IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from imconnect.rocketmq.channel import Channel
from imconnect.rocketmq.codes import Request, Response
from imconnect.rocketmq.connection import Connection, Counters, Credentials
from imconnect.rocketmq.errors import Refused, RequestTimeout, RocketMQError, Unreachable
from imconnect.rocketmq.frames import Frame
from imconnect.rocketmq.routes import NameServers, Queue, Route, Routes

_log = Logger()
HEARTBEAT = 30.0  # seconds; brokers end a connection that is idle for 120
HEARTBEAT_TIMEOUT = 5.0  # seconds
DEAD_AFTER = 90.0  # seconds without a byte, while heartbeats get no answer: the connection is given up
CLOSE_DEADLINE = 5.0  # seconds
_CLOSE_STEP = 0.05  # seconds between two looks whether everything in flight has ended

Tls = Callable[[str], IOpenSSLClientConnectionCreator]
Endpoint = Callable[[str, int], IStreamClientEndpoint]


class _Quiet(Factory):
    """No log line for every connection."""

    noisy = False


class Member(Protocol):
    """What takes part in a group over this client, and so in its heartbeats."""

    def producer_data(self) -> list[dict[str, Any]]: ...

    def consumer_data(self) -> list[dict[str, Any]]: ...

    def on_request(self, frame: Frame) -> bool:
        """A request from a broker. True: known here."""


class Client:
    """`reactor` gives time and connections. `name_servers`: "host:port;host:port" or a sequence of them.

    `client_id` names this process among the members of its groups: stable over restarts, unique among the living.
    `tls(host)` makes every connection a TLS one. `endpoint(host, port)` replaces how connections are made.
    Nothing is connected before it is needed.
    """

    def __init__(
        self,
        reactor: Any,
        name_servers: str | Sequence[str],
        *,
        client_id: str = "",
        credentials: Credentials | None = None,
        tls: Tls | None = None,
        endpoint: Endpoint | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.clock = reactor
        self.client_id = client_id or f"{socket.gethostname()}@{os.getpid()}#{os.urandom(4).hex()}"
        self.counters = Counters()
        self._credentials, self._tls, self._jitter = credentials, tls, jitter
        self._endpoint = endpoint or self._tcp
        self._members: list[Member] = []
        self._brokers: dict[str, Channel] = {}
        addresses = split_addresses(name_servers)
        self._name_servers = [self._channel(address, lambda _: _done()) for address in addresses]
        self.name_servers = NameServers(self._name_servers)
        self.routes = Routes(self.name_servers, reactor, self._prune)
        self._timer: IDelayedCall | None = reactor.callLater(HEARTBEAT, self._beat)
        self.routes.start()
        self.closing = False

    async def route(self, topic: str) -> Route:
        """Its queues and brokers. Raises TopicMissing, or another RocketMQError when no name server answers well."""
        return await self.routes.get(topic)

    def broker(self, queue: Queue) -> str:
        """The address of the queue's master, as last heard. Raises Unreachable where no route names one."""
        route = self.routes.known(queue.topic)
        address = route.masters.get(queue.broker) if route is not None else None
        if address is None:
            raise Unreachable(f"no route names a master of {queue.broker}")
        return address

    def channel(self, address: str) -> Channel:
        """The way to this broker."""
        channel = self._brokers.get(address)
        if channel is None:
            channel = self._brokers[address] = self._channel(address, self._greet)
            if self.closing:
                channel.close()
        return channel

    async def call(
        self,
        address: str,
        code: int,
        fields: Mapping[str, str],
        body: bytes = b"",
        *,
        timeout: float = 5.0,
        good: Sequence[int] = (Response.SUCCESS,),
    ) -> Frame:
        """Ask a broker. Raises Refused for any other code than the good ones."""
        reply = await self.channel(address).request(code, fields, body, timeout)
        if reply.code not in good:
            raise Refused(reply.code, reply.remark)
        return reply

    async def join(self, member: Member) -> None:
        """Take part in heartbeats, and say so to every broker that is connected."""
        self._members.append(member)
        await self.heartbeat()

    def leave(self, member: Member) -> None:
        if member in self._members:
            self._members.remove(member)

    def connected(self) -> list[str]:
        """Addresses of the brokers with a live connection."""
        return [address for address, channel in self._brokers.items() if channel.connection is not None]

    async def heartbeat(self) -> None:
        """To every connected broker, now. Failures are left to the next one."""
        await DeferredList([Deferred.fromCoroutine(self._beat_one(self._brokers[a])) for a in self.connected()])

    async def close(self, deadline: float = CLOSE_DEADLINE) -> None:
        """Let what is in flight finish for `deadline` seconds, then end every connection; the rest fails. Idempotent."""
        self.closing = True
        self.routes.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        until = self.clock.seconds() + deadline
        while self.in_flight() and self.clock.seconds() < until:
            await deferLater(self.clock, _CLOSE_STEP)
        for channel in (*self._brokers.values(), *self._name_servers):
            channel.close()

    def in_flight(self) -> int:
        """Requests without an answer, over all connections."""
        return sum(channel.in_flight for channel in (*self._brokers.values(), *self._name_servers))

    def _channel(self, address: str, greet: Callable[[Connection], Deferred[Any]]) -> Channel:
        return Channel(address, self._dial, greet, self.clock, self.counters, self._jitter)

    def _dial(self, address: str) -> Deferred[Connection]:
        host, port = split_address(address)
        endpoint = self._endpoint(host, port)
        if self._tls is not None:
            endpoint = wrapClientTLS(self._tls(host), endpoint)
        connection = Connection(self.clock, self.counters, self._on_request, self._credentials)
        return cast("Deferred[Connection]", endpoint.connect(_Quiet.forProtocol(lambda: connection)))

    def _tcp(self, host: str, port: int) -> IStreamClientEndpoint:
        if ":" in host:
            return TCP6ClientEndpoint(self.clock, host, port)
        if host.replace(".", "").isdigit():
            return TCP4ClientEndpoint(self.clock, host, port)
        return HostnameEndpoint(self.clock, host, port)

    def _greet(self, connection: Connection) -> Deferred[Frame]:
        return connection.request(Request.HEARTBEAT, {}, self._heartbeat_body(), HEARTBEAT_TIMEOUT)

    def _heartbeat_body(self) -> bytes:
        data = {
            "clientID": self.client_id,
            "producerDataSet": [item for member in self._members for item in member.producer_data()],
            "consumerDataSet": [item for member in self._members for item in member.consumer_data()],
        }
        return json.dumps(data, separators=(",", ":")).encode()

    def _beat(self) -> None:
        self._timer = self.clock.callLater(HEARTBEAT, self._beat)
        Deferred.fromCoroutine(self.heartbeat())

    async def _beat_one(self, channel: Channel) -> None:
        connection = channel.connection
        if connection is None:
            return
        try:
            await self._greet(connection)
        except RequestTimeout:
            if self.clock.seconds() - connection.heard > DEAD_AFTER:
                _log.warn("nothing heard from {address}: connection given up", address=channel.address)
                connection.abort()
        except RocketMQError as error:
            _log.debug("no heartbeat to {address}: {error}", address=channel.address, error=error)

    def _on_request(self, frame: Frame) -> bool:
        return sum(member.on_request(frame) for member in list(self._members)) > 0  # every member hears it

    def _prune(self) -> None:
        """Brokers that no route names any more."""
        named = self.routes.addresses()
        for address in [a for a, channel in self._brokers.items() if a not in named and not channel.in_flight]:
            self._brokers.pop(address).close()


def _done() -> Deferred[Any]:
    done: Deferred[Any] = Deferred()
    done.callback(None)
    return done


def split_addresses(text: str | Sequence[str]) -> list[str]:
    """ "a:1;b:2" -> ["a:1", "b:2"]. Raises ValueError for what is no address."""
    addresses = text.replace(",", ";").split(";") if isinstance(text, str) else text
    found = [address.strip() for address in addresses if address.strip()]
    if not found:
        raise ValueError("at least one name server is needed: host:port[;host:port...]")
    for address in found:
        split_address(address)
    return found


def split_address(address: str) -> tuple[str, int]:
    """ "host:port" or "[v6]:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)
