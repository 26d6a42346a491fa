"""What the log's last batches say about each message: in memory, bounded, rebuilt from the log at start.

It answers without I/O, so a handler may ask it: is this send a repeat and of the same content, whose message is
this, what must not be shown any more, what may the store not know yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum

from imconnect.core.ports import Entry
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import End, Message, Status

#: What ended on other nodes and is remembered here: messages.
ELSEWHERE = 100_000


class State(IntEnum):
    """Where a message stands. It only climbs; from DELIVERED on nobody is owed it any more."""

    FAILED = -1
    PENDING = 0
    OPEN = 1
    OFFLINE = 2
    DELIVERED = 3
    READ = 4
    WITHDRAWN = 5


class Row:
    """One message. `content` of what nobody needs any more is dropped, the row stays for repeats."""

    __slots__ = (
        "answer", "client_msg_id", "created", "digest", "message", "msg_id", "number", "passed", "receiver", "sender",
        "state",
    )  # fmt: skip

    def __init__(
        self, msg_id: int, client_msg_id: bytes, sender: int, receiver: int, created: int, message: Message | None
    ) -> None:
        self.msg_id = msg_id
        self.client_msg_id = client_msg_id
        self.sender = sender
        self.receiver = receiver
        self.created = created
        self.message = message
        self.digest = digest(message) if message else 0
        self.state = State.PENDING
        self.number = 0
        #: Another node took it over: it ends there, perhaps without our hearing of it.
        self.passed = False
        #: What the sender is told instead of what was decided, because another node had his clientMsgId before.
        self.answer = b""

    @property
    def ended(self) -> bool:
        """Must not be shown (again) to anybody."""
        return self.state >= State.DELIVERED

    @property
    def waits(self) -> bool:
        """This node still has to bring it to an end."""
        return self.state is State.OPEN and not self.passed


def digest(message: Message) -> int:
    """Tells whether a repeat has the same content. Lives in this process only, so Python's own hash will do."""
    return hash((message.receiver, message.format, message.content))


class Recent:
    """The rows, by msgId and by (sender, clientMsgId), oldest first."""

    def __init__(self, max_rows: int, window_ms: float, owed_ms: float, now_ms: Callable[[], int]) -> None:
        self._max_rows = max_rows
        self._window_ms = window_ms
        self._owed_ms = owed_ms
        self._now_ms = now_ms
        self._by_id: dict[int, Row] = {}
        self._by_client: dict[tuple[int, bytes], Row] = {}
        #: receiver -> msgId -> rows that he may still be owed and that the store may not know.
        self._owed: dict[int, dict[int, Row]] = {}
        #: The last event that is settled here.
        self._settled = 0
        #: Durable rows in the order of the log.
        self._order: deque[Row] = deque()
        #: Rows with content, oldest first: what `shed` looks at.
        self._contents: deque[Row] = deque()
        #: What ended on other nodes, by msgId, oldest first. Not in our log, so gone after a restart.
        self._elsewhere: dict[int, End] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, msg_id: int) -> Row | None:
        return self._by_id.get(msg_id)

    def repeat_of(self, sender: int, client_msg_id: bytes) -> Row | None:
        """The message that this user sent under this clientMsgId, durable or not yet."""
        return self._by_client.get((sender, client_msg_id))

    def ended(self, msg_id: int) -> bool:
        """Whether this message must not be shown any more."""
        row = self._by_id.get(msg_id)
        return (row is not None and row.ended) or msg_id in self._elsewhere

    def ended_elsewhere(self, msg_id: int) -> End | None:
        """How a message ended on another node, if this node was told."""
        return self._elsewhere.get(msg_id)

    def owed(self, user: int) -> list[Row]:
        """What this user may be owed and the store may not know yet, oldest first."""
        rows = self._owed.get(user)
        return [row for row in rows.values() if row.message is not None] if rows else []

    def open_rows(self) -> list[Row]:
        """Every message that has not ended yet, in the order of the log."""
        return [row for row in self._order if row.state is State.OPEN]

    def accept(self, message: Message) -> Row:
        """A message is about to be committed: repeats of it are found from now on."""
        row = Row(message.msg_id, message.client_msg_id, message.sender, message.receiver, message.created, message)
        self._by_id[row.msg_id] = row
        self._by_client[row.sender, row.client_msg_id] = row
        return row

    def fail(self, message: Message) -> None:
        """Its commit failed: it was never accepted."""
        row = self._by_id.get(message.msg_id)
        if row is not None and row.state is State.PENDING:
            row.state = State.FAILED
            self._drop(row)

    def renumber(self, row: Row, message: Message) -> None:
        """Another node had claimed this send before ours was committed: it goes under that one's id."""
        if message.msg_id in self._by_id:
            self._drop(row)
            return
        del self._by_id[row.msg_id]
        row.msg_id = message.msg_id
        row.message = message
        self._by_id[row.msg_id] = row

    def disown(self, row: Row) -> None:
        """Another node has accepted this send before, or another one under the same clientMsgId."""
        self._drop(row)

    def end_elsewhere(self, end: End) -> bool:
        """Another node says that a message has ended; -> whether that is news."""
        there = self._elsewhere.get(end.msg_id)
        row = self._by_id.get(end.msg_id)
        state = State(end.status)
        if (there is not None and there.status >= state) or (row is not None and row.state >= state):
            return False
        if len(self._elsewhere) >= ELSEWHERE:
            del self._elsewhere[next(iter(self._elsewhere))]
        self._elsewhere[end.msg_id] = end
        if row is not None and row.state is not State.PENDING:
            row.state = state
            self._not_owed(row)
        return True

    def settle(self, number: int, event: Event) -> bool:
        """An event is durable; -> whether it changed anything (a repeat does not)."""
        self._settled = number
        if isinstance(event, Sent):
            self._open(number, event.message)
            return True
        if isinstance(event, Offlined):
            return self._offline(number, event.message)
        if isinstance(event, Acknowledged):
            state = State.READ if event.status == Status.READ else State.DELIVERED
        else:
            state = State.WITHDRAWN
        # Rights that nobody here could check: business decides, so it must not hide anything here.
        return event.by_business or self._end(number, event, state)

    def replay(self, entries: Iterable[Entry]) -> None:
        """Rebuild from what the log still holds."""
        for number, event in entries:
            if type(event) is Sent:
                self.accept(event.message)
            self.settle(number, event)
        self.shed()

    def shed(self) -> None:
        """Let go of what is over the bounds; call it now and then."""
        now = self._now_ms()
        while self._contents and (self._contents[0].message is None or self._contents[0].created < now - self._owed_ms):
            row = self._contents[0]
            if row.waits:
                break
            self._contents.popleft()
            self._not_owed(row)
        while self._order:
            row = self._order[0]
            if row.waits or (len(self._order) <= self._max_rows and row.created >= now - self._window_ms):
                return
            self._order.popleft()
            self._drop(row)

    def oldest_number(self) -> int:
        """The log must keep everything from this number on: also what is durable already and not settled here yet."""
        return self._order[0].number if self._order else self._settled + 1

    def window_seconds(self) -> float:
        """How far back repeats are really found."""
        return (self._now_ms() - self._order[0].created) / 1000 if self._order else 0.0

    def __iter__(self) -> Iterator[Row]:
        return iter(self._order)

    def _open(self, number: int, message: Message) -> None:
        row = self._by_id.get(message.msg_id) or self.accept(message)
        if row.state is State.PENDING:
            row.state = State.OPEN
            self._keep(number, row)

    def _offline(self, number: int, message: Message) -> bool:
        row = self._by_id.get(message.msg_id)
        if row is None:
            row = self.accept(message)
            row.state = State.OFFLINE
            self._keep(number, row)
            return True
        if row.state is not State.OPEN:
            return False
        row.state = State.OFFLINE
        return True

    def _end(self, number: int, event: Acknowledged | Withdrawn, state: State) -> bool:
        row = self._by_id.get(event.msg_id)
        there = self._elsewhere.get(event.msg_id)
        if there is not None and there.status >= state:
            return False
        if row is None:
            row = Row(event.msg_id, event.client_msg_id, event.sender, event.receiver, event.time, None)
            self._by_id[row.msg_id] = row
            row.state = state
            row.number = number
            self._order.append(row)
            return True
        if row.state >= state or row.state is State.PENDING:
            return False
        row.state = state
        self._not_owed(row)
        return True

    def _keep(self, number: int, row: Row) -> None:
        row.number = number
        self._order.append(row)
        self._contents.append(row)
        self._owed.setdefault(row.receiver, {})[row.msg_id] = row

    def _not_owed(self, row: Row) -> None:
        row.message = None
        rows = self._owed.get(row.receiver)
        if rows is not None and rows.pop(row.msg_id, None) is not None and not rows:
            del self._owed[row.receiver]

    def _drop(self, row: Row) -> None:
        self._not_owed(row)
        if self._by_id.get(row.msg_id) is row:
            del self._by_id[row.msg_id]
        if self._by_client.get((row.sender, row.client_msg_id)) is row:
            del self._by_client[row.sender, row.client_msg_id]
