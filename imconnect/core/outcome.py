"""What a handler decides: the answer, the events that must be durable first, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from imconnect.events.values import Event
from imconnect.model import Message

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from imconnect.core.ports import PendingStore
    from imconnect.core.recent import Row
    from imconnect.core.session import Session


class Outcome:
    """The decision about one request. Nothing of it happens before its events are durable."""

    __slots__ = ("deliveries", "events", "late", "refusal", "repeats", "reply", "reserve", "session")

    def __init__(
        self,
        *,
        reply: bytes = b"",
        refusal: bytes = b"",
        events: Sequence[Event] = (),
        deliveries: Sequence[Message] = (),
        repeats: Row | None = None,
        reserve: int = 0,
        late: Callable[[], bytes] | None = None,
    ) -> None:
        #: Whose request it was; set by the dispatcher, None for what the node itself wants written.
        self.session: Session | None = None
        #: Sent once the events are durable; empty where the request has no answer.
        self.reply = reply
        #: Sent instead when the commit failed; empty where nobody was promised anything.
        self.refusal = refusal
        self.events = events
        self.deliveries = deliveries
        #: The message of which this request is a repeat: its fate, refusal included, is this one's.
        self.repeats = repeats
        #: Ids up to this millisecond are handed out with the reply and must be reserved before.
        self.reserve = reserve
        #: Makes the reply when it is sent, where it depends on the fate of what was decided before.
        self.late = late

    @property
    def alone(self) -> bool:
        """Whether this answer depends on nothing that must be written, neither its own nor decided before."""
        return not (self.events or self.reserve or self.late) and self.repeats is None


class AskStore(Exception):
    """Raised by a handler that needs to know a message this node has never seen: decided again with the answer."""

    def __init__(self, msg_id: int) -> None:
        super().__init__(msg_id)
        self.msg_id = msg_id

    def ask(self, store: PendingStore) -> Deferred[Any]:
        """The question. Its answer is what the handler gets; None where the store is away."""
        return store.find(self.msg_id)


class AskStates(AskStore):
    """The same for what a user has sent under these clientMsgIds."""

    def __init__(self, user: int, client_msg_ids: Sequence[bytes]) -> None:
        Exception.__init__(self, user)
        self.user = user
        self.client_msg_ids = client_msg_ids

    def ask(self, store: PendingStore) -> Deferred[Any]:
        return store.states(self.user, self.client_msg_ids)
