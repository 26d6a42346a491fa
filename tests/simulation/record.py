"""What the disks and the queue hold, beside the product's own word: the truth that the judge compares with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import Message, Status

#: Above every status of an ACK.
WITHDRAWN = 5


class Judging(Protocol):
    """`judge.Judge`, as far as it is told what a node learns about its own log."""

    def durable(self, node: int, events: Sequence[Event]) -> None:
        """A batch is on a node's disk."""

    def acts_soon(self, node: int, events: Sequence[Event], news: Sequence[Acknowledged]) -> Callable[[], None]:
        """The same where the index of what was sent is told before the node acts; `news` are the ACKs that are."""

    def receipts_due(self, node: int, events: Sequence[Acknowledged]) -> Callable[[], None]:
        """These ACKs are news to this node. -> to be called when it has acted on them."""


class Record:
    """Every node's log over all its lives, and what went wrong with any of them."""

    def __init__(self, lane: Callable[[Event], int], acts_later: bool, linked: bool) -> None:
        #: What was broken, in words. Not raised: the node is in the middle of a turn.
        self.broken: list[str] = []
        #: Every message that was ever durable anywhere.
        self.messages: dict[int, Message] = {}
        self.nodes: dict[int, NodeRecord] = {}
        #: What is durable under a clientMsgId: msgId -> message.
        self.sends: defaultdict[tuple[int, bytes], dict[int, Message]] = defaultdict(dict)
        self.lane = lane
        #: Nodes act on what is durable when the queue has it (`outbox.ack_after: broker`).
        self.acts_later = acts_later
        #: The nodes know of each other.
        self.linked = linked
        #: What the queue has heard: (msgId, 0 for the message itself, a status, or WITHDRAWN).
        self.queued: set[tuple[int, int]] = set()
        self._committed: dict[int, set[int]] = {}

    def of(self, node: int) -> NodeRecord:
        return self.nodes[node]

    def known_to(self, node: int) -> Sequence[NodeRecord]:
        """The logs of which this node may tell."""
        return list(self.nodes.values()) if self.linked else [self.nodes[node]]

    def committed(self, queue: int, offset: int) -> None:
        """The database has what this place of a queue holds."""
        self._committed.setdefault(queue, set()).add(offset)

    def consumed(self, queue: int, offset: int) -> None:
        """Business tells the queue that it is done with everything below this offset."""
        committed = self._committed.get(queue, set())
        missing = [at for at in range(offset) if at not in committed]
        if missing:
            self.broken.append(f"queue {queue} was told {offset}, and {missing[0]} is not in the database")

    def check_ends(self, excused: set[int]) -> None:
        """Everybody has left: each message has been acknowledged, withdrawn or turned offline by who accepted it, or
        took it over; `excused`: died with who took it over."""
        ended: set[int] = set().union(*(node.ended for node in self.nodes.values())) if self.linked else set()
        for node in self.nodes.values():
            names = [self.messages[msg_id].content for msg_id in node.open if msg_id not in ended | excused]
            if names:
                self.broken.append(f"{names} were accepted by node {node.number} and never ended")


class NodeRecord:
    """The log of one node, as it should be."""

    def __init__(self, world: Record, number: int, judge: Judging) -> None:
        self.number = number
        #: (sender, clientMsgId) -> the message that is durable under it.
        self.sends: dict[tuple[int, bytes], Message] = {}
        #: Accepted here and not ended yet: msgId -> number of its event.
        self.open: dict[int, int] = {}
        #: Ends that are durable here and need nobody's consent.
        self.acked: dict[int, int] = {}
        self.withdrawn: set[int] = set()
        self.offline: set[int] = set()
        #: ACKs and withdrawals that business has to judge: (msgId, user, status or 0).
        self.claimed: set[tuple[int, int, int]] = set()
        #: Ends of which the node has been told that they are durable.
        self.known_ends: set[int] = set()
        self._world = world
        self._judge = judge
        #: Durable and not in the queue yet, in order: lane -> number -> event.
        self._waiting: dict[int, dict[int, Event]] = {}
        self._news: list[Acknowledged] = []
        #: What business has told this life of the node: msgId -> status.
        self._heard: dict[int, int] = {}

    def durable(self, first: int, events: Sequence[Event]) -> None:
        """A batch is on the disk."""
        for number, event in enumerate(events, first):
            self._waiting.setdefault(self._world.lane(event), {})[number] = event
            self._keep(number, event)
        self._judge.durable(self.number, events)

    def _keep(self, number: int, event: Event) -> None:
        if isinstance(event, Sent):
            self._sent(number, event.message)
        elif isinstance(event, Offlined):
            self.open.pop(event.message.msg_id, None)
            self.offline.add(event.message.msg_id)
        elif isinstance(event, Acknowledged):
            self._acknowledged(event)
        elif event.by_business:
            self.claimed.add((event.msg_id, event.sender, 0))
        else:
            self.open.pop(event.msg_id, None)
            self.withdrawn.add(event.msg_id)

    def _sent(self, number: int, message: Message) -> None:
        known = self._world.messages.setdefault(message.msg_id, message)
        if known is not message and not (self._world.linked and is_same(known, message)):
            self._world.broken.append(f"the id of {message.content!r} was given out twice")
        before = self.sends.setdefault((message.sender, message.client_msg_id), message)
        if before is not message and not self._world.linked:
            self._world.broken.append(f"{message.content!r} was accepted twice")
        self._world.sends[message.sender, message.client_msg_id].setdefault(message.msg_id, message)
        if message.msg_id not in self.ended:
            self.open[message.msg_id] = number

    @property
    def ended(self) -> set[int]:
        """Acknowledged, withdrawn or turned offline, durably here."""
        return self.offline | self.withdrawn | self.acked.keys()

    def is_news(self, msg_id: int, status: int) -> bool:
        """Whether this node has not heard of such an end, nor of a later one."""
        known = max(self._heard.get(msg_id, 0), self.acked.get(msg_id, 0))
        return known < status and msg_id not in self.withdrawn

    def _acknowledged(self, event: Acknowledged) -> None:
        if event.by_business:
            self.claimed.add((event.msg_id, event.receiver, event.status))
            return
        message = self._world.messages.get(event.msg_id)
        if message is None or message.receiver != event.receiver or message.sender != event.sender:
            self._world.broken.append(f"an ACK of {event.msg_id} by {event.receiver} was taken for good")
        self.open.pop(event.msg_id, None)
        if event.msg_id not in self.withdrawn and self.acked.get(event.msg_id, 0) < event.status:
            self.acked[event.msg_id] = event.status
            self._news.append(event)

    def told(self, events: Sequence[Event]) -> Callable[[], None]:
        """The node is about to hear that this batch is durable. -> to be called when it has acted."""
        if self._world.acts_later:
            self._news.clear()
        for event in events:
            at_once = not self._world.acts_later and not self._world.linked
            if isinstance(event, Acknowledged | Withdrawn) and not event.by_business and at_once:
                self.known_ends.add(event.msg_id)
        mine = [event for event in self._news if event in events]
        self._news = [event for event in self._news if event not in mine]
        if self._world.linked:
            return self._judge.acts_soon(self.number, events, mine)
        return self._judge.receipts_due(self.number, self.unheard(mine))

    def unheard(self, news: Sequence[Acknowledged]) -> Sequence[Acknowledged]:
        """Of which nobody else has told this node meanwhile."""
        return [event for event in news if event.status > self._heard.get(event.msg_id, 0)]

    def heard(self, ended: Mapping[int, int]) -> None:
        """Business tells the node what it has ended: it owes these messages no end of its own, and no news of them."""
        for msg_id, status in ended.items():
            self.open.pop(msg_id, None)
            self._heard[msg_id] = max(status, self._heard.get(msg_id, 0))

    def restarted(self) -> None:
        """A new life has read the log: it knows every end in it."""
        self._news.clear()
        self._heard.clear()
        self.known_ends = {*self.acked, *self.withdrawn}

    def queued(self, lane: int, number: int) -> None:
        """The queue has stored this event; perhaps not for the first time."""
        waiting = self._waiting.get(lane, {})
        if number in waiting:
            if next(iter(waiting)) != number:
                self._world.broken.append(f"event {number} of node {self.number} passed an earlier one of its queue")
            self._world.queued.add(told_by(waiting.pop(number)))

    def done(self, positions: Mapping[int, int]) -> None:
        """The relay marks what the queue has."""
        for lane, position in positions.items():
            oldest = next(iter(self._waiting.get(lane, ())), None)
            if oldest is not None and oldest <= position:
                self._world.broken.append(f"event {oldest} of node {self.number} was marked done and is not queued")

    def forgets(self, below: int) -> None:
        """The log lets go of everything with a number below this one."""
        lost = [number for waiting in self._waiting.values() for number in list(waiting)[:1] if number < below]
        lost += [number for number in list(self.open.values())[:1] if number < below]
        if lost:
            self._world.broken.append(f"event {min(lost)} of node {self.number} was forgotten while it was needed")

    def is_claimed(self, msg_id: int, status: int) -> bool:
        """Whether the receiver's ACK is durable here, although only business can tell whether it is right."""
        message = self._world.messages.get(msg_id)
        return message is not None and any(
            (msg_id, message.receiver, higher) in self.claimed
            for higher in (Status.DELIVERED, Status.READ)
            if higher >= status
        )


def is_same(one: Message, other: Message) -> bool:
    """One message, perhaps accepted by two nodes."""
    return one._replace(created=0, time=0) == other._replace(created=0, time=0)


def told_by(event: Event) -> tuple[int, int]:
    """Which message, and what of it."""
    if isinstance(event, Acknowledged):
        return event.msg_id, int(event.status)
    if isinstance(event, Withdrawn):
        return event.msg_id, WITHDRAWN
    return event.message.msg_id, 0
