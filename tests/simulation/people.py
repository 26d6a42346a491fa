"""The people: what they do, what they were told, and the connections between them and the nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imconnect.core.others import REPLACED
from imconnect.core.session import Session, Stage
from imconnect.model import Identity
from imconnect.wire import client_codec as wire
from imconnect.wire.client_codec import Pushed

if TYPE_CHECKING:
    from tests.simulation.judge import Judge
    from tests.simulation.server import Server


class Sending:
    """Something that somebody wants to say, however often he says it."""

    __slots__ = ("client_msg_id", "msg_id", "receiver", "sender", "server", "text", "times")

    def __init__(self, sender: int, receiver: int, text: str, client_msg_id: bytes, server: int) -> None:
        self.sender = sender
        self.receiver = receiver
        self.text = text
        self.client_msg_id = client_msg_id
        #: The node that he sent it to; a repeat goes there too.
        self.server = server
        #: Of how often he sent it, and the id under which it was accepted; 0 where he does not know that it was.
        self.times = 0
        self.msg_id = 0


class Person:
    """One user with all his connections. What one of them has seen, he has seen."""

    def __init__(self, user: int) -> None:
        self.user = user
        self.links: list[Link] = []
        #: Every connection that he ever had, in order.
        self.logins: list[Link] = []
        self.sent: list[Sending] = []
        #: Every message that he was shown, and the highest status with which he has acknowledged it.
        self.seen: dict[int, Pushed] = {}
        self.acked: dict[int, int] = {}

    def read(self, responses: Sequence[wire.Response]) -> None:
        for response in responses:
            if isinstance(response, Pushed):
                self.seen[response.msg_id] = response
                # Shown again: the ACK was not taken in, so it is due again.
                self.acked.pop(response.msg_id, None)

    def send(self, link: Link, *sendings: Sending) -> None:
        """In one read of the node's."""
        for sending in sendings:
            sending.times += 1
            link.asked.append(sending)
        link.ask(*(wire.encode_send(one.client_msg_id, one.receiver, one.text) for one in sendings))

    def acknowledge(self, link: Link, msg_ids: Sequence[int], status: int) -> None:
        frames = []
        for msg_id in msg_ids:
            push = self.seen[msg_id]
            self.acked[msg_id] = max(status, self.acked.get(msg_id, 0))
            frames.append(wire.encode_ack(push.client_msg_id, msg_id, push.sender, status))
        link.ask(*frames)

    def not_acknowledged(self) -> list[int]:
        return [msg_id for msg_id in self.seen if msg_id not in self.acked]


class Link:
    """One connection of a person to a node: `core.ports.Link`. The client reads it, or not."""

    def __init__(self, server: Server, person: Person, device: str, judge: Judge, bound: int) -> None:
        self.server = server
        self.person = person
        self.user = person.user
        self.device = device
        self.closed: int | None = None
        self.reading = True
        #: What was written and not read yet.
        self._unread: list[wire.Response] = []
        self._unread_bytes = 0
        self._bound = bound
        self._judge = judge
        #: What the judge remembers of this connection: when each message was shown last, how often since a connection
        #: was new, the newest of each sender and accepting node, receipts (by business or not), notices, open requests.
        self.shown: dict[int, float] = {}
        self.times: dict[int, int] = {}
        self.newest: dict[tuple[int, int], int] = {}
        self.receipts: set[tuple[int, int, bool]] = set()
        self.notices: set[int] = set()
        self.asked: deque[Sending] = deque()
        #: False once the store has failed this connection: what it is owed may come late.
        self.in_order = True
        person.links.append(self)
        person.logins.append(self)
        judge.links.append(self)
        self.session: Session = server.node.sign_in(Identity(person.user, device), self)

    @property
    def turn(self) -> int:
        """Which login it is, over all nodes; 0 while that is not known."""
        session = getattr(self, "session", None)  # not yet, where the login itself ends another one
        return (session.turn if session is not None else None) or 0

    def write(self, payloads: Sequence[bytes]) -> bool:
        if self.closed is not None:
            return True
        size = sum(map(len, payloads))
        if not self.reading and self._unread_bytes + size > self._bound:
            return False
        responses = [wire.decode_response(payload) for payload in payloads]
        for response in responses:
            self.server.note(f"  {self.user} is told on {self.server.number}: {told(response)}")
            self._judge.saw(self, response)
        if self.reading:
            self.person.read(responses)
        else:
            self._unread += responses
            self._unread_bytes += size
        self.server.wrote()
        return True

    def congested(self) -> bool:
        return bool(self._unread)

    def close(self, code: int, reason: str) -> None:
        if code == REPLACED and self.closed is None:
            self._judge.across.replaced(self)
        self.lost(code)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    # -- the client's side

    def ask(self, *frames: bytes) -> None:
        """These frames arrive in one read."""
        if frames and self.closed is None:
            self.session.receive(list(frames))

    def read_on(self) -> None:
        """He reads again: what has been written meanwhile, too."""
        self.reading = True
        self.person.read(self._unread)
        self._unread = []
        self._unread_bytes = 0

    def leave(self) -> None:
        """He hangs up."""
        self.lost(1000)
        self.session.closed()

    def lost(self, code: int) -> None:
        """The connection is gone; what he had not read is too."""
        if self.closed is None:
            self.server.note(f"  {self.user} is cut off {self.server.number} with {code}")
            self.closed = code
            self.person.links.remove(self)

    def full(self, owed: set[int], bound: int) -> bool:
        """Whether it has so much open that he must acknowledge first. What has ended elsewhere does not count."""
        return self.session.stage is Stage.FULL and len(self.session.open & owed) > bound // 2


def told(response: wire.Response) -> str:
    """For the trace: what and which, without what everybody knows."""
    what = response.content if isinstance(response, Pushed) else ""
    return f"{type(response).__name__} {what} {getattr(response, 'msg_id', '')} {getattr(response, 'status', '')}"
