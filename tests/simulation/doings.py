"""What may happen in one step: what people do, what the world does to them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from random import Random
from typing import ClassVar

from imconnect.model import Status
from imconnect.wire import client_codec as wire
from tests.simulation.people import Link, Person, Sending
from tests.simulation.server import Server
from tests.simulation.weights import WEIGHTS
from tests.simulation.world import World


class Doings:
    """Each method is one thing that happens to somebody, chosen at random. `weights` says how often."""

    weights: ClassVar[Mapping[str, float]] = WEIGHTS

    def __init__(self, random: Random, world: World) -> None:
        self.random = random
        self.world = world
        #: How many messages were written so far.
        self.count = 0
        self._names = list(self.weights)
        self._cumulated = list(accumulate(self.weights.values()))

    def happen(self) -> None:
        """One of them."""
        getattr(self, self.random.choices(self._names, cum_weights=self._cumulated)[0])()

    def note(self, what: str) -> None:
        self.world.note(what)

    # -- who

    def server(self) -> Server:
        return self.random.choice(self.world.servers)

    def link(self) -> Link | None:
        links = [link for person in self.world.people for link in person.links]
        return self.random.choice(links) if links else None

    def friend(self) -> Person:
        return self.random.choice(self.world.people)

    # -- what people do

    def sign_in(self) -> None:
        person, server, device = self.friend(), self.server(), self.random.choice(("", "", "phone"))
        if self.world.sign_in(person, server, device) is not None:
            self.note(f"{person.user} signs in on {server.number} {device}")

    def move(self) -> None:
        """From one node to another."""
        link = self.link()
        if link is not None:
            person = link.person
            self.note(f"{person.user} leaves {link.server.number}")
            link.leave()
            server = self.server()
            if self.world.sign_in(person, server, "") is not None:
                self.note(f"{person.user} comes back on {server.number}")

    def leave(self) -> None:
        link = self.link()
        if link is not None:
            self.note(f"{link.user} leaves {link.server.number}")
            link.leave()

    def send(self) -> None:
        link = self.link()
        if link is not None:
            sendings = [self.new(link) for _ in range(self.random.choice((1, 1, 1, 3)))]
            link.person.send(link, *sendings)

    def new(self, link: Link, client_msg_id: bytes = b"") -> Sending:
        self.count += 1
        text = f"m{self.count}"
        to = self.friend().user
        sending = Sending(link.user, to, text, client_msg_id or self.count.to_bytes(16), link.server.number)
        link.person.sent.append(sending)
        self.note(f"{link.user} sends {text} to {to} on {link.server.number}")
        return sending

    def repeat(self) -> None:
        """The same again; sometimes twice in one read, sometimes something else under the same clientMsgId."""
        link = self.link()
        mine = link.person.sent[-20:] if link is not None else []
        if link is not None and not self.world.record.linked:
            # Nobody promises anything for a repeat through another node.
            mine = [one for one in mine if one.server == link.server.number]
        if link is not None and mine:
            sending = self.random.choice(mine)
            if self.random.random() < 0.15:
                link.person.send(link, self.new(link, sending.client_msg_id))
            else:
                self.note(f"{link.user} repeats {sending.text} on {sending.server}")
                link.person.send(link, *[sending] * self.random.choice((1, 1, 2)))

    def send_and_repeat(self) -> None:
        """Impatient: the repeat follows at once."""
        link = self.link()
        if link is not None:
            sending = self.new(link)
            link.person.send(link, sending, sending)

    def acknowledge(self) -> None:
        """What he has not acknowledged yet, mostly; from any connection, which need not be the one that showed it."""
        link = self.link()
        if link is not None:
            person = link.person
            new = person.not_acknowledged()
            known = new if new and self.random.random() < 0.8 else list(person.seen)
            chosen = self.random.sample(known, min(len(known), self.random.choice((1, 1, 5))))
            status = self.random.choice((Status.DELIVERED, Status.DELIVERED, Status.READ))
            if chosen:
                texts = [person.seen[msg_id].content for msg_id in chosen]
                self.note(f"{link.user} acknowledges {texts} with {int(status)} on {link.server.number}")
                person.acknowledge(link, chosen, status)

    def acknowledge_foreign(self) -> None:
        """What is not his to acknowledge."""
        link = self.link()
        messages = [
            one for one in self.world.record.messages.values() if link is not None and one.receiver != link.user
        ]
        if link is not None and messages:
            message = self.random.choice(messages)
            self.note(f"{link.user} acknowledges {message.content}, which is not his, on {link.server.number}")
            link.ask(wire.encode_ack(b"", message.msg_id, message.sender, Status.READ))

    def withdraw(self) -> None:
        link = self.link()
        mine = [one for one in link.person.sent[-20:] if one.msg_id] if link is not None else []
        if link is not None and mine:
            sending = self.random.choice(mine)
            self.note(f"{link.user} withdraws {sending.text} on {link.server.number}")
            link.ask(wire.encode_withdraw(sending.msg_id, sending.receiver))

    def stop_reading(self) -> None:
        link = self.link()
        if link is not None:
            self.note(f"{link.user} stops reading on {link.server.number}")
            link.reading = False

    def read_on(self) -> None:
        link = self.link()
        if link is not None and not link.reading:
            self.note(f"{link.user} reads on on {link.server.number}")
            link.read_on()

    # -- what the world does

    def wait(self) -> None:
        seconds = self.random.choice((0.01, 0.1, 0.3, 0.3, 1.0, 1.0, 3.0))
        self.note(f"{seconds} s pass")
        self.world.advance(seconds)

    def wait_long(self) -> None:
        self.note("9 s pass")
        self.world.advance(9)

    def crash(self) -> None:
        server = self.server()
        self.note(f"node {server.number} is killed")
        server.crash()

    def stop(self) -> None:
        server = self.server()
        self.note(f"node {server.number} is stopped")
        server.stop()

    def crash_business(self) -> None:
        self.note("business is killed")
        self.world.crash_business()

    def rebalance(self) -> None:
        if self.world.consumer is not None and self.world.broker is not None:
            queue = self.random.randrange(len(self.world.broker.queues))
            self.note(f"queue {queue} changes hands")
            self.world.consumer.rebalance(queue)

    def hold_business(self) -> None:
        self.note("business lags")
        for pool in self.world.pools:
            pool.held = True

    def free_business(self) -> None:
        self.note("business goes on")
        for pool in self.world.pools:
            pool.release()

    def kill_queue(self) -> None:
        if self.world.broker is not None:
            queue = self.random.randrange(len(self.world.broker.queues))
            self.note(f"queue {queue} is dead")
            self.world.broker.dead.add(queue)

    def revive_queues(self) -> None:
        if self.world.broker is not None:
            self.note("every queue works")
            self.world.broker.dead.clear()

    def fill_disk(self) -> None:
        server = self.server()
        self.note(f"the disk of {server.number} is full")
        server.disk.full = True

    def clear_disks(self) -> None:
        self.note("every disk has room")
        for server in self.world.servers:
            server.disk.full = False

    def take_store_away(self) -> None:
        self.note("the store is away")
        self.world.store.away = "gone"

    def bring_store_back(self) -> None:
        self.note("the store is back")
        self.world.store.away = ""

    def skew(self) -> None:
        server = self.server()
        server.skew_ms = self.random.choice((-400, 0, 400))
        self.note(f"the clock of {server.number} is {server.skew_ms} ms ahead")
