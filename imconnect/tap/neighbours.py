"""Other nodes, wired: presence and the index of what was sent in Redis, the way to peers over gRPC."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from imconnect import __version__
from imconnect.backends.datadir import DataDir
from imconnect.backends.peer_grpc import GrpcPeer
from imconnect.backends.presence_feed import Feed
from imconnect.backends.presence_redis import RedisPresence
from imconnect.backends.presence_store import Card
from imconnect.backends.redis_calls import RedisCalls
from imconnect.backends.sent_redis import RedisSentIndex
from imconnect.config import Config
from imconnect.core.others import Between
from imconnect.tap.clock import now_ms
from imconnect.tap.credentials import credentials_of

#: Seconds that Redis may take to answer: about people, about what was sent.
PRESENCE, SENT = 0.5, 0.2


class Neighbours(NamedTuple):
    """What the wiring of the gateway needs to know of it."""

    between: Between
    presence: RedisPresence
    #: Before the outbox is recovered, which asks what has ended elsewhere; and before the first client.
    sent: IndexPart
    routes: RoutesPart


class IndexPart:
    """A part of the service tree: the calls to the index of what was sent."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    def start(self) -> None:
        self._calls.start()

    def stop(self) -> Deferred[None]:
        return self._calls.stop()


class RoutesPart:
    """A part of the service tree: this node is there for the others, until its last client has gone."""

    def __init__(self, presence: RedisPresence, peer: GrpcPeer) -> None:
        self._presence, self._peer = presence, peer

    def start(self) -> Deferred[None]:
        """Raises ConfigError where another live process has this node id."""
        return self._presence.open()

    async def stop(self) -> None:
        await self._presence.close()
        await self._peer.close()


def make_neighbours(
    reactor: Any,
    config: Config,
    folder: DataDir,
    *,
    name: str,
    websocket: tuple[str, int],
    grpc: tuple[str, int],
    abort: Callable[[str, str], None],
) -> Neighbours:
    """`websocket`, `grpc`: where this node's ports are. Nothing is connected yet. Raises ConfigError."""
    url, node = config.redis.url, config.node.id
    address = config.grpc.advertise or _address(*grpc)
    card = Card(
        node=node,
        name=name,
        address=address,
        version=__version__,
        boot=secrets.token_hex(8),
        java=f"{address.rpartition(':')[0]}:{websocket[1]}" if config.profile == "xzll" else "",
    )

    def taken(owner: str) -> None:
        abort("presence", f"node.id {node} is in use by {owner} too: their ids would collide")

    presence_calls, index_calls = RedisCalls(reactor, url, "presence", PRESENCE), RedisCalls(reactor, url, "sent", SENT)
    presence = RedisPresence(reactor, presence_calls, Feed(reactor, url), card, owner_of(folder), taken=taken)
    peer = GrpcPeer(reactor, node, presence.address, credentials_of(config))
    index = RedisSentIndex(index_calls, config.limits.dedupe_window, now_ms)
    return Neighbours(
        between=Between(presence=presence, peer=peer, index=index),
        presence=presence,
        sent=IndexPart(index_calls),
        routes=RoutesPart(presence, peer),
    )


def owner_of(folder: DataDir) -> str:
    """Whose node id it is: the same over restarts of this data_dir, so that they need not wait for a lease to end."""
    path = folder.file("owner")
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with open(file, "w") as stream:
            stream.write(secrets.token_hex(8))
    return Path(path).read_text().strip()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
