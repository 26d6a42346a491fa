"""Where users are signed in beside here: asked of presence once per user, remembered until it changes.

Staleness heals itself. A route too many: that node answers "not here", and the route is asked for afresh. A route too
few: the message goes offline, business hints at it, and the watch of the node where its receiver is finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from imconnect.core.background import within
from imconnect.core.ports import Presence
from imconnect.errors import Unavailable

_log = Logger()

#: Users whose routes are remembered; the oldest go.
REMEMBERED = 200_000
#: Seconds that presence may take to answer, and for which it is not asked again after it did not.
DEADLINE, AWAY = 0.5, 1.0
NOWHERE: Final[frozenset[int]] = frozenset()


class Routes:
    """A cache in front of the port Presence. No message costs a round trip, except a user's first."""

    def __init__(self, clock: IReactorTime, presence: Presence) -> None:
        self._clock = clock
        self._presence = presence
        self._known: dict[int, frozenset[int]] = {}
        #: Questions under way, each with the users that changed meanwhile: what it answers may be older than that.
        self._asking: list[set[int]] = []
        self._away_until = 0.0
        presence.watch(self.forget, self._lost)

    def known(self, user: int) -> frozenset[int] | None:
        """The nodes of a user; nowhere while presence is away; None: ask."""
        nodes = self._known.get(user)
        if nodes is None and self._clock.seconds() < self._away_until:
            return NOWHERE
        return nodes

    async def ask(self, users: Collection[int]) -> Mapping[int, frozenset[int]]:
        """The nodes of these users as presence has them; nowhere where it does not answer."""
        changed: set[int] = set()
        self._asking.append(changed)
        try:
            found = await within(self._presence.routes(users), DEADLINE, self._clock)
        except Unavailable as error:
            if self._clock.seconds() >= self._away_until + AWAY:
                _log.warn(
                    "presence does not answer, people on other nodes are shown what they miss later: {why}", why=error
                )
            self._away_until = self._clock.seconds() + AWAY
            return dict.fromkeys(users, NOWHERE)
        finally:
            self._asking = [other for other in self._asking if other is not changed]
        routes = {user: found.get(user, NOWHERE) for user in users}
        for user, nodes in routes.items():
            if user not in changed:
                self.learn(user, nodes)
        return routes

    def learn(self, user: int, nodes: frozenset[int]) -> None:
        """Presence has said where this user is."""
        if user not in self._known and len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[user] = nodes

    def forget(self, user: int) -> None:
        """It changed, or turned out to be wrong."""
        self._known.pop(user, None)
        for changed in self._asking:
            changed.add(user)

    def _lost(self) -> None:
        for changed in self._asking:
            changed.update(self._known)
        self._known.clear()
