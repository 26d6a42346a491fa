"""What the nodes promise together, and what they may be excused for: only what the world itself has cut.

Told by the twins of the ports between the nodes, by the logs and by the judge; says what is broken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from imconnect.core.routes import AWAY
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import Claim, Claimed, Message, Parcel, Status
from imconnect.wire.client_codec import Pushed
from tests.simulation.clock import Life

if TYPE_CHECKING:
    from tests.simulation.people import Link
    from tests.simulation.server import Server
    from tests.simulation.world import World

#: Seconds until an end must be everywhere: a route, a call that is under way, one that failed with its pause, one more.
SPREADS = 4.5
#: Seconds from a commit until the index has been told, or has not answered.
SETTLED = 0.25
#: Seconds within which presence has answered, or has not.
ASKED = 1.0
#: Seconds for which the index is not asked after it has failed, and what was asked before may be shown after.
BLIND = 3.0
#: Seconds for which a node remembers what it turned offline (`core.late`).
LATE = 60.0

Key = tuple[int, bytes]


class Telling(NamedTuple):
    """An end that this life of a node must bring to these nodes."""

    node: int
    life: Life
    at: float
    nodes: frozenset[int]


class Across:
    """The part of the judge that looks at more than one node. In a world of nodes that do not know each other it is
    told nothing."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: Messages of which the index said in time that nobody had sent them before, since it last forgot everything.
        self._claimed: set[int] = set()
        self._asked: set[int] = set()
        self._unclaimed: defaultdict[Life, int] = defaultdict(int)
        #: Messages that went under the claim of another node, or of an earlier life: offline at once.
        self._taken_over: set[int] = set()
        self._accepted_ids: set[int] = set()
        #: Of these clientMsgIds there may be two messages.
        self.doubled: set[Key] = set()
        #: Who has taken a message from another node: msgId -> node -> the life that did.
        self.taken: defaultdict[int, dict[int, Life]] = defaultdict(dict)
        self._telling: defaultdict[int, list[Telling]] = defaultdict(list)
        self._not_told: set[tuple[int, int]] = set()
        #: (from, to) -> when a call last failed.
        self._failed_at: dict[tuple[int, int], float] = {}
        #: When the index was told that a message has ended; when it last failed a node.
        self._ended: dict[int, float] = {}
        self._blind: dict[int, float] = {}
        #: When presence did not tell a life of a node where somebody is.
        self._lost_sight: defaultdict[Life, list[float]] = defaultdict(list)

    def _broken(self, what: str) -> None:
        self._world.record.broken.append(what)

    def _now(self) -> float:
        return self._world.timeline.now

    # -- one message per clientMsgId

    def claimed(self, node: int, claims: Sequence[Claim], there: Sequence[Claimed | None]) -> None:
        """The index answers a node that is about to commit these."""
        new = {claim.msg_id for claim, other in zip(claims, there, strict=True) if other is None}
        self._claimed |= new
        self._asked |= new

    def forgot(self) -> None:
        """The index holds nothing any more."""
        self._claimed.clear()
        self._ended.clear()

    def accepted(self, node: int, events: Sequence[Event]) -> None:
        """A batch is durable."""
        over = {event.message.msg_id for event in events if isinstance(event, Offlined)}
        for event in events:
            if isinstance(event, Sent):
                self._accepted(self._world.server(node), event.message, event.message.msg_id in over)

    def _accepted(self, server: Server, message: Message, taken_over: bool) -> None:
        """`taken_over`: under an id that somebody had claimed before."""
        key = message.sender, message.client_msg_id
        if taken_over:
            self._taken_over.add(message.msg_id)
        if message.msg_id in self._accepted_ids:
            return
        self._accepted_ids.add(message.msg_id)
        others = [one for one in self._world.record.sends[key].values() if one.msg_id != message.msg_id]
        if not taken_over and message.msg_id not in self._asked:
            self._unclaimed[server.life] += 1
            if server.node.metrics.sends_unclaimed < self._unclaimed[server.life]:
                self._broken(f"{message.content!r} was accepted without the index, and not counted")
        if others and taken_over:
            self._broken(f"{message.content!r} was taken over under a second id")
        if not all(self._may_double(message, other) for other in others):
            self._broken(f"{message.content!r} was accepted again under another id")
        if others:
            self.doubled.add(key)

    def _may_double(self, message: Message, other: Message) -> bool:
        """The index did not know one of the two."""
        return message.msg_id not in self._claimed or other.msg_id not in self._claimed

    # -- ends

    def parcel(self, node: int, parcel: Parcel, server: Server) -> Sequence[bool]:
        """A parcel arrives: a node is told what others have ended, then shown what they have."""
        here = self._world.record.of(node)
        ends = {end.msg_id: end.status for end in parcel.ends}
        news = [
            Acknowledged(end.msg_id, b"", end.sender, end.receiver, end.status, 0)
            for end in parcel.ends
            if end.status <= Status.READ and here.is_news(end.msg_id, end.status)
        ]
        check = self._world.judge.receipts_due(node, news)
        here.known_ends.update(ends)
        here.heard(ends)
        others = server.node.others
        assert others is not None
        taken = others.take(parcel)
        check()
        for handed, is_taken in zip(parcel.messages, taken, strict=True):
            if is_taken:
                self.taken[handed.message.msg_id][node] = server.life
        return taken

    def not_told(self, node: int, to: int, parcel: Parcel) -> None:
        """A parcel was lost, or its answer: who knows what has arrived."""
        self._not_told.update((to, end.msg_id) for end in parcel.ends)
        self._failed_at[node, to] = self._now()

    def acts_soon(self, node: int, events: Sequence[Event], news: Sequence[Acknowledged]) -> Callable[[], None]:
        """A node hears that these are durable. When the index has been told, it acts. -> what says so."""
        server = self._world.server(node)
        life = server.life
        here = self._world.record.of(node)
        due = [(one, self._world.judge.receipts_due(node, [one])) for one in news]
        ends = [event for event in events if isinstance(event, Acknowledged | Withdrawn) and not event.by_business]
        known = [self._heard_of(server, end.receiver) for end in ends]

        def acted() -> None:
            if life.alive:
                here.known_ends.update(end.msg_id for end in ends)
                for end, knew in zip(ends, known, strict=True):
                    nodes = knew & self._heard_of(server, end.receiver)
                    if nodes:
                        self._telling[end.msg_id].append(Telling(node, life, self._now(), nodes))
                for one, check in due:
                    if here.unheard([one]):
                        check()

        def soon() -> None:
            if ends and not self._world.record.acts_later:
                self._world.network.callLater(SETTLED, acted)

        return soon

    def _heard_of(self, server: Server, user: int) -> frozenset[int]:
        """The other nodes that this one cannot but know of."""
        shared = self._world.shared
        if shared is None or not shared.registry.reachable or not shared.feeds[server.number].perfect:
            return frozenset()
        return shared.registry.nodes(user) - {server.number}

    def index_has(self, ended: Sequence[tuple[int, int]]) -> None:
        for _, msg_id in ended:
            self._ended.setdefault(msg_id, self._now())

    def lost_sight(self, life: Life) -> None:
        self._lost_sight[life].append(self._now())

    def index_failed(self, node: int) -> None:
        self._blind[node] = self._now()

    def shown(self, link: Link, push: Pushed) -> None:
        """A message is shown: has it ended on another node, so long ago that this one cannot but know?"""
        msg_id, text = push.msg_id, push.content
        node, now = link.server.number, self._now()
        for telling in self._telling.get(msg_id, ()):
            late = now - telling.at > self._spreads(telling.node, node)
            due = node in telling.nodes and late and telling.life.alive
            if due and not self._saw_nobody(telling) and (node, msg_id) not in self._not_told:
                self._broken(f"{text!r} was shown on {node}, never told that it ended {now - telling.at:.1f} s ago")
        ended = self._ended.get(msg_id, now)
        if msg_id not in link.shown and now - ended > SPREADS and now - self._blind.get(node, 0.0) > BLIND:
            self._broken(f"{text!r} was shown, and the index knows for {now - ended:.1f} s that it has ended")

    def _spreads(self, node: int, to: int) -> float:
        """Seconds within which an end that one node takes in is known to another."""
        if self._now() - self._failed_at.get((node, to), 0.0) < 2 * SPREADS:
            return SPREADS
        # A route is asked for, behind other questions; a call is under way, this one arrives.
        return 1.5 + 3 * self._world.faults.speeds["peer"]

    def _saw_nobody(self, telling: Telling) -> bool:
        """Presence did not answer then, or shortly before."""
        return any(-AWAY < at - telling.at < ASKED for at in self._lost_sight[telling.life])

    def has_place(self, msg_id: int) -> bool:
        """Whether a message has its place among the others of its sender and node. Not what went offline at once under
        somebody's claim, nor a second one, which business does not keep, nor what no node remembers any more."""
        message = self._world.record.messages.get(msg_id)
        if message is None or msg_id in self._taken_over or (message.sender, message.client_msg_id) in self.doubled:
            return False
        return not self._world.record.linked or self._world.now_ms() - message.created <= LATE * 1000

    def died_with(self) -> set[int]:
        """What another node had that has died: it is neither acknowledged nor offline, and owed."""
        return {msg_id for msg_id, lives in self.taken.items() if not all(life.alive for life in lives.values())}

    # -- logins

    def replaced(self, link: Link) -> None:
        """A connection is closed because another one came: there must be one that is newer."""
        mine, logins = link.turn, link.person.logins
        here = [one for one in link.person.links if one.server is link.server]
        newer = [one for one in logins[logins.index(link) + 1 :] if one in here]
        too_many = len(here) > self._world.settings.connections_per_user and here[0] is link
        same = [one for one in logins if link.device and one.device == link.device and one is not link]
        # Whoever has left by himself meanwhile was there when it was sent.
        elsewhere = [one for one in same if mine and one.turn > mine]
        if not (too_many or elsewhere or any(one in newer for one in same)):
            self._broken(f"{link.user} was replaced on {link.server.number} by nobody")
