"""Presence in Redis, the part that blocks: what is asked, on which keys. Runs on the thread of `RedisCalls`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import attrs
import redis

from imconnect.backends.presence_scripts import ENTER, LEAVE, REGISTER, ROUTES, UNREGISTER
from imconnect.model import Entered
from imconnect.wire import kryo

#: Seconds for which the routes of a user are kept without being written again.
ROUTE_SECONDS = 3600
#: Where changes of routes are published: "<user> <node>", or "* <node>" for more than one can say.
CHANNEL = "imconnect:routes"
_LIVES = "imconnect:lives"
#: contract/gateway.md 6.2.
_SERVERS, _STATUSES, _ONLINE = "userLogin:server:", "userLogin:status:", kryo.encode("5")
#: Users per round trip where there are many.
CHUNK = 500


@attrs.frozen(kw_only=True)
class Card:
    """What a node says of itself."""

    node: int
    name: str
    #: host:port of its gRPC port, as others reach it.
    address: str
    version: str
    #: Which life of the node this is.
    boot: str
    #: `ip:port` for the hashes of the Java services; empty outside profile xzll.
    java: str = ""


class Round(NamedTuple):
    """What a renewal found."""

    #: Who has this node id; empty: this node.
    taken_by: str
    #: The lease was not there: the server has lost what it held, or it is the first time.
    new: bool
    #: The lives whose lease runs, by node.
    alive: Mapping[int, Card]
    #: Lives that ended without tidying up.
    dead: list[Card]


class Directory:
    """Who lives, and where whoever is signed in is: for those who only read. Raises redis.RedisError."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._routes = client.register_script(ROUTES)

    def routes(self, users: Collection[int]) -> Mapping[int, frozenset[int]]:
        """The live nodes of each of these users."""
        users = list(users)
        found: dict[int, frozenset[int]] = {}
        for start in range(0, len(users), CHUNK):
            part = users[start : start + CHUNK]
            answers = self._routes(keys=[_routes(user) for user in part], args=[])
            found.update((user, frozenset(nodes)) for user, nodes in zip(part, answers, strict=True))
        return found

    def lives(self) -> tuple[Mapping[int, Card], list[Card]]:
        """The lives whose lease runs, by node; and those that ended without tidying up."""
        cards = [Card(**json.loads(text)) for text in self._client.hvals(_LIVES)]
        if not cards:
            return {}, []
        boots = self._client.mget([f"imconnect:boot:{card.node}" for card in cards])
        alive: dict[int, Card] = {}
        dead: list[Card] = []
        for card, boot in zip(cards, boots, strict=True):
            if boot == card.boot.encode():
                alive[card.node] = card
            else:
                dead.append(card)
        return alive, dead


class PresenceStore(Directory):
    """One node's view. Raises redis.RedisError."""

    def __init__(self, client: redis.Redis, card: Card, owner: str, lease: float) -> None:
        """`owner` tells whose node id it is over restarts; `lease` in seconds."""
        super().__init__(client)
        self._card = card
        self._owner = owner
        self._lease_ms = int(lease * 1000)
        self._enter = client.register_script(ENTER)
        self._leave = client.register_script(LEAVE)
        self._register = client.register_script(REGISTER)
        self._unregister = client.register_script(UNREGISTER)

    def renew(self) -> Round:
        """The lease of this node, and who else lives."""
        card = self._card
        java = kryo.encode(card.java) if card.java else b""
        arguments: list[str | bytes | int] = [
            card.boot,
            self._owner,
            self._lease_ms,
            java,
            _member(card),
            json.dumps(attrs.asdict(card)),
        ]
        said = self._register(keys=self._lease_keys(), args=arguments)
        alive, dead = self.lives()
        if said[0] == b"taken":
            other = alive.get(card.node)
            return Round(f"{other.name} ({other.address})" if other else said[1].decode(), False, {}, [])
        return Round("", said[0] == b"new", alive, dead)

    def unregister(self) -> None:
        """This node is gone."""
        self._unregister(keys=self._lease_keys(), args=[self._card.boot, _member(self._card)])
        self.publish_all()

    def enter(self, user: int) -> Entered:
        keys = self._keys(user, self._card)
        try:
            turn, *nodes = self._enter(keys=keys, args=self._arguments(user, self._card))
        except redis.ResponseError as error:
            # Redis does not say which of them holds something else.
            raise redis.ResponseError(f"{error} (keys: {', '.join(keys)})") from None
        return Entered(turn, frozenset(nodes))

    def leave(self, users: Iterable[int], card: Card | None = None) -> None:
        """These users' routes to this node, or to that dead life, are gone."""
        card = card or self._card
        pipe = self._client.pipeline(transaction=False)
        for user in users:
            self._leave(keys=self._keys(user, card), args=self._arguments(user, card), client=pipe)
        pipe.execute()

    def write(self, users: Iterable[int]) -> None:
        """These users are here: written again without a word to the others."""
        card = self._card
        pipe = self._client.pipeline(transaction=False)
        for user in users:
            pipe.hset(_routes(user), str(card.node), card.boot)
            pipe.expire(_routes(user), ROUTE_SECONDS)
            pipe.sadd(_here(card), user)
            if card.java:
                uid = kryo.encode(str(user))
                pipe.hset(_SERVERS, uid, kryo.encode(card.java))
                pipe.hset(_STATUSES, uid, _ONLINE)
        pipe.execute()

    def publish_all(self) -> None:
        """Others must not believe any route they remember."""
        self._client.publish(CHANNEL, f"* {self._card.node}")

    def routes(self, users: Collection[int]) -> Mapping[int, frozenset[int]]:
        """The other live nodes of each of these users."""
        return {user: nodes - {self._card.node} for user, nodes in super().routes(users).items()}

    def tidy(self, dead: Card) -> None:
        """Remove what a dead life left: its routes, fenced by its boot, and then its name."""
        key = _here(dead)
        while users := self._client.srandmember(key, CHUNK):
            self.leave(map(int, users), dead)
        self._client.hdel(_LIVES, _member(dead))

    def _lease_keys(self) -> list[str]:
        return [f"imconnect:{what}:{self._card.node}" for what in ("boot", "owner", "java")]

    def _keys(self, user: int, card: Card) -> list[str]:
        return [_routes(user), _here(card), *((_SERVERS, _STATUSES) if card.java else ())]

    def _arguments(self, user: int, card: Card) -> list[str | bytes | int]:
        java = (kryo.encode(str(user)), kryo.encode(card.java), _ONLINE) if card.java else ()
        return [user, card.node, card.boot, ROUTE_SECONDS, *java]


def _routes(user: int) -> str:
    return f"imconnect:user:{user}"


def _here(card: Card) -> str:
    return f"imconnect:here:{_member(card)}"


def _member(card: Card) -> str:
    return f"{card.node}:{card.boot}"
