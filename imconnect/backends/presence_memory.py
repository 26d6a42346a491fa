"""Presence of nodes that live in one process: the twin of the Redis one, for tests and the simulation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from twisted.internet.defer import Deferred, fail, succeed

from imconnect.errors import ConfigError, Unavailable
from imconnect.model import Entered


class Registry:
    """What the server would hold: who lives, and where whoever is signed in is."""

    def __init__(self) -> None:
        self.turn = 0
        #: node -> boot of the life whose lease runs.
        self.alive: dict[int, int] = {}
        #: user -> node -> boot that wrote the route.
        self.routes: dict[int, dict[int, int]] = {}
        self.watchers: dict[int, tuple[Callable[[int], None], Callable[[], None]]] = {}
        self.boots = 0
        self.reachable = True

    def nodes(self, user: int) -> frozenset[int]:
        routes = self.routes.get(user, {})
        return frozenset(node for node, boot in routes.items() if self.alive.get(node) == boot)

    def changed(self, user: int, by: int) -> None:
        """Tell the other nodes that this user came or went."""
        for node, (changed, _) in tuple(self.watchers.items()):
            if node != by:
                changed(user)

    def expire(self, node: int) -> None:
        """The lease of a node that died has run out."""
        self.alive.pop(node, None)
        self.watchers.pop(node, None)
        for _, lost in tuple(self.watchers.values()):
            lost()


class MemoryPresence:
    """`core.ports.Presence` over a shared Registry."""

    def __init__(self, registry: Registry, node: int) -> None:
        self._registry = registry
        self.number = node
        self._boot = 0
        self._here: dict[int, None] = {}
        self._watcher: tuple[Callable[[int], None], Callable[[], None]] | None = None

    def open(self) -> Deferred[None]:
        registry = self._registry
        if self.number in registry.alive:
            return fail(ConfigError("node.id", f"expected another one: {self.number} is in use"))
        registry.boots += 1
        self._boot = registry.alive[self.number] = registry.boots
        if self._watcher is not None:
            registry.watchers[self.number] = self._watcher
        return succeed(None)

    def enter(self, user: int, device: str) -> Deferred[Entered]:
        self._here[user] = None
        if self.away():
            return fail(Unavailable("presence is away"))
        registry = self._registry
        registry.turn += 1
        others = registry.nodes(user) - {self.number}
        registry.routes.setdefault(user, {})[self.number] = self._boot
        registry.changed(user, self.number)
        return succeed(Entered(registry.turn, others))

    def leave(self, user: int) -> None:
        self._here.pop(user, None)
        routes = self._registry.routes.get(user, {})
        if not self.away() and routes.get(self.number) == self._boot:
            del routes[self.number]
            self._registry.changed(user, self.number)

    def routes(self, users: Collection[int]) -> Deferred[Mapping[int, frozenset[int]]]:
        if self.away():
            return fail(Unavailable("presence is away"))
        return succeed({user: self._registry.nodes(user) - {self.number} for user in users})

    def watch(self, changed: Callable[[int], None], lost: Callable[[], None]) -> None:
        self._watcher = (changed, lost)
        if self._registry.alive.get(self.number) == self._boot:
            self._registry.watchers[self.number] = self._watcher

    def renew(self) -> None:
        """The server is back, or a period has passed: this node's lease and routes are written again."""
        registry = self._registry
        registry.alive[self.number] = self._boot
        for user in self._here:
            if registry.routes.setdefault(user, {}).get(self.number) != self._boot:
                registry.routes[user][self.number] = self._boot
                registry.changed(user, self.number)
        if self._watcher is not None:
            registry.watchers[self.number] = self._watcher
            self._watcher[1]()

    def away(self) -> bool:
        return not self._registry.reachable

    def close(self) -> Deferred[None]:
        for user in tuple(self._here):
            self.leave(user)
        self._registry.watchers.pop(self.number, None)
        if self._registry.alive.get(self.number) == self._boot:
            self._registry.expire(self.number)
        return succeed(None)
