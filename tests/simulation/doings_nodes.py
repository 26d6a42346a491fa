"""What may happen beside that where the nodes know of each other."""

from __future__ import annotations

from tests.simulation.doings import Doings
from tests.simulation.people import Link
from tests.simulation.weights import NODE_WEIGHTS


class NodeDoings(Doings):
    """Logins and repeats on several nodes at once; ways are cut; what the nodes share is away or forgets."""

    weights = NODE_WEIGHTS

    def elsewhere(self, link: Link) -> Link | None:
        """The same person, on another node: where he has no connection there, now he has."""
        others = [server for server in self.world.servers if server is not link.server]
        server = self.random.choice(others)
        there = [one for one in link.person.links if one.server is server]
        return there[0] if there else self.world.sign_in(link.person, server, "")

    def repeat_elsewhere(self) -> None:
        """At once, or when he knows that it was accepted, or that it was not; sometimes with another content."""
        link = self.link()
        other = self.elsewhere(link) if link is not None else None
        if link is None or other is None or link.closed is not None:
            return
        sending = self.new(link)
        link.person.send(link, sending)
        self.world.advance(self.random.choice((0.0, 0.0, 0.01, 0.1, 1.0)))
        if self.random.random() < 0.1:
            link.server.crash()
        again = sending if self.random.random() < 0.85 else self.new(other, sending.client_msg_id)
        self.note(f"{link.user} repeats {sending.text} as {again.text} on {other.server.number}")
        if other.closed is None:
            link.person.send(other, again)

    def sign_in_everywhere(self) -> None:
        """One device, on all nodes in the same moment."""
        person = self.friend()
        for server in self.random.sample(self.world.servers, len(self.world.servers)):
            if self.world.sign_in(person, server, "phone") is not None:
                self.note(f"{person.user} signs in on {server.number} phone")

    def cut_way(self) -> None:
        one, other = self.random.sample(self.world.servers, 2)
        self.note(f"nothing passes from {one.number} to {other.number}")
        self.world.ways.cut.add((one.number, other.number))

    def mend_ways(self) -> None:
        self.note("all nodes reach each other")
        self.world.ways.cut.clear()

    def take_shared_away(self) -> None:
        assert self.world.shared is not None
        forget = self.random.random() < 0.4
        self.note("presence and index are away" + " and forget everything" * forget)
        self.world.shared.take_away(forget)

    def bring_shared_back(self) -> None:
        assert self.world.shared is not None
        self.note("presence and index are back")
        self.world.shared.bring_back()
