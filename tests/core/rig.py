"""One node and the people on it, in fake time.

Everything around the node is the product's own memory twin: outbox, store, business and embedded queue. A life of the
node has a clock of its own, and a crash simply stops winding it: whatever the dead node had planned never happens.
A message's text is also its clientMsgId, so that every answer, push and event can be told by the text it is about.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from imconnect.backends.outbox_memory import MemoryOutbox
from imconnect.backends.producer_embedded import EmbeddedProducer
from imconnect.backends.store_memory import MemoryPendingStore, MemoryStore
from imconnect.business.rules import Terms
from imconnect.business.service import BusinessRules
from imconnect.core.node import Node
from imconnect.core.others import Between
from imconnect.core.ports import Producer
from imconnect.core.session import Stage
from imconnect.core.settings import Settings
from imconnect.events.seed import SEED
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.handlers import HANDLERS
from imconnect.handlers.refuse import refuse
from imconnect.model import Applied, Identity, Message, Status
from imconnect.observe.metrics import Metrics
from imconnect.wire import client_codec as wire
from imconnect.wire.client_codec import Pushed, ReceiptReply, SendReply, WithdrawNotice, WithdrawReply

_T = TypeVar("_T")

ALICE, BOB, CAROL, DAVE = 1001, 1002, 1003, 1004
#: When the world begins, ms since 1970; and what the node's own clock shows then, in seconds.
BEGIN_MS, BEGIN = 1_800_000_000_000, 1000.0
#: `rocketmq.producer.max_message_size`.
MESSAGE_SIZE = 4096


def client_id(text: str) -> bytes:
    """The clientMsgId of a text: its first 16 bytes, as far as they go."""
    return text.encode()[:16].ljust(16, b"\0")


def text_of(client_msg_id: bytes) -> str:
    return client_msg_id.rstrip(b"\0").decode()


class RecordingLink:
    """A connection that keeps what it was given: `core.ports.Link`."""

    def __init__(self) -> None:
        #: One list per write.
        self.writes: list[list[wire.Response]] = []
        self.closed: int | None = None
        self.reason = ""
        self.paused = False
        #: The client does not read: what was written waits; nothing more fits.
        self.slow = False
        self.stuck = False

    def write(self, payloads: Sequence[bytes]) -> bool:
        if self.stuck:
            return False
        self.writes.append([wire.decode_response(payload) for payload in payloads])
        return True

    def congested(self) -> bool:
        return self.slow

    def close(self, code: int, reason: str) -> None:
        self.closed, self.reason = code, reason

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


class Choking(RecordingLink):
    """Each write fills it."""

    def write(self, payloads: Sequence[bytes]) -> bool:
        self.slow = True
        return super().write(payloads)


class Client:
    """Somebody on one connection: what he asks for, and what he was told."""

    def __init__(self, rig: Rig, user: int, device: str, link: RecordingLink | None = None) -> None:
        self.rig = rig
        self.user = user
        self.link = link or RecordingLink()
        self.session = rig.node.sign_in(Identity(user, device), self.link)

    # -- what he does

    def read(self, *frames: bytes) -> None:
        """These frames arrive in one read."""
        self.session.receive(list(frames))

    def send(self, to: int, text: str, client_msg_id: bytes | None = None) -> None:
        self.read(send_frame(to, text, client_msg_id))

    def ack(self, which: str | int, status: int = Status.DELIVERED) -> None:
        self.read(self.ack_frame(which, status))

    def ack_frame(self, which: str | int, status: int = Status.DELIVERED) -> bytes:
        msg_id = self.rig.id_of(which) if isinstance(which, str) else which
        return wire.encode_ack(client_id(str(which)), msg_id, ALICE, status, self.user)

    def withdraw(self, which: str | int, to: int = BOB) -> None:
        self.read(wire.encode_withdraw(self.rig.id_of(which) if isinstance(which, str) else which, to))

    def leave(self) -> None:
        """The connection is gone."""
        self.session.closed()

    # -- what he was told

    @property
    def got(self) -> list[wire.Response]:
        return [response for write in self.link.writes for response in write]

    @property
    def shown(self) -> list[str]:
        """Texts of the messages pushed to him, in order."""
        return [push.content for push in self.got if isinstance(push, Pushed)]

    @property
    def accepted(self) -> list[str]:
        """Texts of his sends that were answered with success."""
        return [text_of(reply.client_msg_id) for reply in self.replies if reply.status == Status.STORED]

    @property
    def refused(self) -> list[tuple[str, int]]:
        """Text and code of his sends that were refused."""
        return [(text_of(reply.client_msg_id), reply.code) for reply in self.replies if reply.status == Status.FAILED]

    @property
    def replies(self) -> list[SendReply]:
        return [reply for reply in self.got if isinstance(reply, SendReply)]

    @property
    def receipts(self) -> list[tuple[str, int]]:
        """Text and status of the receipts for what he sent."""
        return [(self.rig.name(one.msg_id), one.status) for one in self.got if isinstance(one, ReceiptReply)]

    @property
    def notices(self) -> list[str]:
        """Texts of what he was told to have been withdrawn."""
        return [self.rig.name(notice.msg_id) for notice in self.got if isinstance(notice, WithdrawNotice)]

    @property
    def withdrawals(self) -> list[tuple[str, int]]:
        """Text and code of the answers to his withdrawals (0 is success)."""
        return [(self.rig.name(reply.msg_id), reply.code) for reply in self.got if isinstance(reply, WithdrawReply)]

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self.link.writes.clear()

    @property
    def live(self) -> bool:
        return self.session.stage is Stage.LIVE


class Business:
    """The business side's one thread (`backends.calls.Calls`). Works at once unless it is held back or slow."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        #: Batches that it was given and has not begun.
        self._waiting: deque[Callable[[], object]] = deque()
        self.held = False
        #: Seconds that a batch takes.
        self.delay = 0.0

    def run(self, function: Callable[..., _T], /, *args: Any) -> Deferred[_T]:
        result: Deferred[_T] = Deferred()
        self._waiting.append(lambda: execute(function, *args).chainDeferred(result))
        self._rig.clock.callLater(self.delay, self._work)
        return result

    def _work(self) -> None:
        if not self.held and self._waiting:
            self._waiting.popleft()()

    def go_on(self) -> None:
        """No longer held back: everything that waits is applied."""
        self.held = False
        while self._waiting:
            self._waiting.popleft()()
            self._rig.turn()
        self._rig.turn()

    def crash(self) -> None:
        self._waiting.clear()


class _Timers:
    """`callLater` on the clock of the node's present life: the outbox lives on when the node has died."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall:
        return self._rig.clock.callLater(delay, callable, *args, **kwargs)


class Rig:
    """The world of one node. `settings` are those of `core.settings.Settings`."""

    def __init__(
        self,
        *,
        commit_delay: float = 0.0,
        store_delay: float = 0.0,
        outbox: Callable[[Rig], MemoryOutbox] | None = None,
        producer: Callable[[Rig], Producer] | None = None,
        fits: Callable[[Message], bool] = lambda message: SEED.fits(message, MESSAGE_SIZE),
        node_id: int = 1,
        neighbour: Rig | None = None,
        between: Callable[[Rig], Between] | None = None,
        **settings: Any,
    ) -> None:
        """`neighbour`: another node of the same world, with the same clock and store."""
        self.settings = Settings(**settings)
        self.node_id = node_id
        self._between = between
        self.clock = neighbour.clock if neighbour else Clock()
        if not neighbour:
            self.clock.rightNow = BEGIN
        #: How far the wall clock is ahead of where it should be, ms.
        self.skew_ms = 0
        self.names: dict[int, str] = {}
        self.store = neighbour.store if neighbour else MemoryStore()
        self.store_delay = store_delay
        self.business = Business(self)
        self._producer = producer or Rig._embedded
        self._fits = fits
        self.outbox = outbox(self) if outbox else MemoryOutbox(_Timers(self), commit_delay)
        self._begin()

    # -- lives

    def _begin(self) -> None:
        self.metrics = Metrics()
        self.pending = MemoryPendingStore(self.store, self.clock, self.store_delay)
        self.node = Node(
            clock=self.clock,
            now_ms=self.now_ms,
            settings=self.settings,
            node_id=self.node_id,
            outbox=self.outbox,
            store=self.pending,
            producer=self._producer(self),
            metrics=self.metrics,
            handlers=HANDLERS,
            refuse=refuse,
            fits=self._fits,
            between=self._between(self) if self._between else None,
        )
        self.recovery = Deferred.fromCoroutine(self.node.recover())
        self.recovery.addCallback(lambda _: self.node.start())
        self.turn()

    def _embedded(self) -> Producer:
        profile = self.settings.profile
        terms = Terms(always_tell=not profile.receipts_by_gateway, tell_stored=not profile.stored_by_gateway)
        return EmbeddedProducer(BusinessRules(self.store, self.now_ms, terms), self.business, self)

    def crash(self) -> None:
        """kill -9 and a new start: what was durable is there again, what waited for the disk is not."""
        seconds = self.clock.seconds()
        self.business.crash()
        self.outbox = self.outbox.restart()
        self.clock = Clock()
        self.clock.rightNow = seconds
        self._begin()
        while not self.recovery.called:
            self.advance(0.1)

    # -- time

    def now_ms(self) -> int:
        """The wall clock."""
        return BEGIN_MS + round((self.clock.seconds() - BEGIN) * 1000) + self.skew_ms

    def turn(self) -> None:
        """Everything that needs no time."""
        self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass; each thing happens when it is due."""
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= end:
            self.clock.rightNow = max(self.clock.rightNow, calls[0].getTime())
            self.clock.advance(0)
        self.clock.rightNow = end

    # -- people

    def sign_in(self, user: int, device: str = "", link: RecordingLink | None = None) -> Client:
        """Somebody connects and has been brought up to date, as far as that needs no time."""
        client = Client(self, user, device, link)
        self.turn()
        return client

    def tell(self, applied: Applied) -> None:
        """The port Pushback: whatever node lives now."""
        self.node.tell_everywhere(applied)

    def elsewhere(self, text: str, user: int = BOB, created: int = 0) -> None:
        """Another node of the same database has accepted this message and turned it offline; nobody tells this one."""
        created = created or self.now_ms()
        msg_id = (created - self.settings.profile.epoch) << 22 | 7 << 12
        message = Message(msg_id, client_id(text), CAROL, user, 1, text, created, created)
        BusinessRules(self.store, self.now_ms).apply([Offlined(message)])

    # -- what the world knows

    def name(self, msg_id: int) -> str:
        """The text of a message that is or was in the log."""
        if msg_id not in self.names:
            self._learn()
        return self.names.get(msg_id, str(msg_id))

    def id_of(self, text: str) -> int:
        """The msgId of the newest message with this text."""
        self._learn()
        return next(msg_id for msg_id, name in reversed(self.names.items()) if name == text)

    def _learn(self) -> None:
        for event in self.events:
            if isinstance(event, Sent | Offlined):
                self.names[event.message.msg_id] = event.message.content
        for row in self.store.tables.messages.values():
            self.names[row.msg_id] = row.content

    @property
    def events(self) -> list[Event]:
        """What the log holds, in order."""
        found: list[Event] = []
        self.outbox.read(0, 1_000_000).addCallback(lambda entries: found.extend(event for _, event in entries))
        return found

    @property
    def log(self) -> list[str]:
        """The same, to be read: "sent hello", "offline hello", "ack 3 hello", "withdrawn hello"."""
        return [self._said(event) for event in self.events]

    def _said(self, event: Event) -> str:
        if isinstance(event, Sent):
            return f"sent {event.message.content}"
        if isinstance(event, Offlined):
            return f"offline {event.message.content}"
        doubt = " by business" if event.by_business else ""
        if isinstance(event, Acknowledged):
            return f"ack {event.status} {self.name(event.msg_id)}{doubt}"
        assert isinstance(event, Withdrawn)
        return f"withdrawn {self.name(event.msg_id)}{doubt}"

    @property
    def stored(self) -> dict[str, int]:
        """Text -> status of everything in the store."""
        return {row.content: row.msg_status for row in self.store.tables.messages.values()}

    def owed(self, user: int) -> list[str]:
        """What the store says that this user is owed, oldest first."""
        rows = self.store.tables.messages
        ids = sorted(msg_id for owner, msg_id in self.store.tables.owed if owner == user)
        return [rows[msg_id].content for msg_id in ids]


def send_frame(to: int, text: str, client_msg_id: bytes | None = None, format: int = 1, time: int = 0) -> bytes:
    """C2C_SEND; the text is also the clientMsgId unless another one is given."""
    return wire.encode_send(client_id(text) if client_msg_id is None else client_msg_id, to, text, format, time)


def recorded(function: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    """The same function, and each call is noted."""

    def call(*args: Any) -> Any:
        note(*args)
        return function(*args)

    return call
