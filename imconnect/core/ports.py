"""What the core needs from the world. One suite per port in tests/contracts.py runs on every implementation.

Every method that returns a Deferred fires on the reactor thread. `Unavailable` is the errback for "away or too slow".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from imconnect.events.values import Event
from imconnect.model import (
    Applied,
    Claim,
    Claimed,
    Entered,
    Identity,
    Overdue,
    Owed,
    Parcel,
    Stored,
    Withdrawal,
)

Entry = tuple[int, Event]  # (sequence number in the log, event)


class Link(Protocol):
    """The connection of a session, as the core sees it. None of these raises, also after the connection is gone."""

    def write(self, payloads: Sequence[bytes]) -> bool:
        """Send these messages with one write. False: over `limits.outgoing_bytes`, nothing was written."""

    def congested(self) -> bool:
        """Whether what was written before is still waiting for the peer."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the connection is dropped if the peer does not answer in time."""

    def pause(self) -> None:
        """Stop reading (what was already read may still arrive)."""

    def resume(self) -> None: ...


class Recovered(NamedTuple):
    """What was found in the log when it was opened."""

    entries: Sequence[Entry]  # everything the log still holds, in order
    last: int  # the highest sequence number ever given out; 0 in a new log
    reserved_ms: int  # no id of a later millisecond was ever given out


class Outbox(Protocol):
    """The durable log: the only thing a gateway must not lose. Sequence numbers start at 1 and never repeat.

    A *lane* is a queue of the topic; `done` is kept per lane, because a dead queue stalls only its own.
    """

    def open(self) -> Deferred[Recovered]:
        """Open or create the log. Errback: Damaged (names the file; the file is left as it is)."""

    def append(self, events: Sequence[Event]) -> Deferred[int]:
        """One batch, one durable write. Fires with the sequence number of the first event once it is on disk.

        Errback: Unavailable; then none of the batch is in the log, now or after a restart.
        Batches become durable, and their Deferreds fire, in the order of the calls.
        """

    def read(self, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        """About `limit` durable events (whole batches, so it may be more) with a number above `after`, in order."""

    def done(self, positions: Mapping[int, int]) -> None:
        """Lane -> everything up to this number is relayed. Written with the next commit, or soon by itself."""

    def positions(self) -> Mapping[int, int]:
        """The relay positions as last set by `done`."""

    def park(self, parked: Iterable[tuple[int, Event, str]]) -> Deferred[None]:
        """Move events that the broker refuses for good (number, event, reason) to outbox_parked."""

    def parked(self) -> Deferred[Sequence[tuple[int, Event, str]]]:
        """What lies there."""

    def forget(self, below: int) -> None:
        """Everything with a number below this may leave the log (whole batches only). Best effort."""

    def reserve(self, until_ms: int) -> Deferred[None]:
        """Durable: ids up to this millisecond may be given out. What was reserved before stays reserved."""

    def size(self) -> int:
        """Bytes on disk (the log and its WAL), or in memory. Cheap."""

    def close(self) -> Deferred[None]:
        """Everything asked for so far is finished first."""


class Answer(NamedTuple):
    """How a producer answers for one entry: stored, refused for good (why), or neither: send it again."""

    number: int
    stored: bool
    refused: str = ""


class Producer(Protocol):
    """The way to the business side: RocketMQ, or in process."""

    def open(self) -> Deferred[None]:
        """Fires when `lane` can be asked. Errback: Unavailable (the queue is away: ask again)."""

    def lane(self, event: Event) -> int:
        """Which queue this event belongs to. Never changes for an event while the process lives."""

    def send(self, lane: int, entries: Sequence[Entry]) -> Deferred[Sequence[Answer]]:
        """One answer per entry, in order. At most one call per lane is in flight. Errback: Unavailable (all retry)."""

    def close(self) -> Deferred[None]: ...


class PendingStore(Protocol):
    """What the gateway reads of the database that business keeps."""

    def owed(self, user: int, after: int, limit: int) -> Deferred[Sequence[Owed]]:
        """What this user has not acknowledged, msg_id above `after`, in the order of msg_id, never withdrawn ones."""

    def known(self, msg_ids: Collection[int]) -> Deferred[set[int]]:
        """Which of these messages the store has at all, whatever their state."""

    def overdue(self, users: Collection[int], before: int, per_user: int) -> Deferred[Sequence[Overdue]]:
        """What is owed to these users and was created before this time, oldest first, at most `per_user` rows each."""

    def find(self, msg_id: int) -> Deferred[Stored | None]:
        """One message, or None where the store does not know it."""

    def states(self, user: int, client_msg_ids: Collection[bytes]) -> Deferred[Sequence[Stored]]:
        """What the store has of what this user sent under these clientMsgIds, in no order."""

    def notices(self, user: int, since: int, limit: int) -> Deferred[Sequence[Withdrawal]]:
        """Withdrawals this user is to be told of at login: not older than `since`, the newest `limit`, oldest first."""

    def close(self) -> Deferred[None]: ...


class Authenticator(Protocol):
    """Who is this? Asked before the upgrade."""

    def authenticate(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> Deferred[Identity]:
        """Header names in lower case. Errback: CommandError(401, why)."""


class Business(Protocol):
    """The consumer's rules over a database, as the embedded queue sees them. Called on a thread of its own."""

    def apply(self, events: Sequence[Event]) -> Applied:
        """One batch, one transaction (event by event where the data of one is at fault; the culprit is parked).

        Returns after the commit. Raises Unavailable when nothing was committed: the same batch comes again.
        """


class Pushback(Protocol):
    """Where business tells people things. On the reactor thread; best effort, the watch is the safety net."""

    def tell(self, applied: Applied) -> None: ...


class Presence(Protocol):
    """On which nodes a user is signed in. Nodes are known by their `node.id`.

    A route counts only while its node's lease lives, and only for the life (boot) of the node that wrote it: a late
    logout or the clean-up of a dead node never takes a newer login away. The implementation keeps the leases of
    whoever entered here, and writes their routes again after the server was away.
    """

    def open(self) -> Deferred[None]:
        """Errback: ConfigError where another live node has this `node.id`. A server that is away is no error."""

    def enter(self, user: int, device: str) -> Deferred[Entered]:
        """A session begins here. One round trip. Errback: Unavailable; the route is written when the server is back."""

    def leave(self, user: int) -> None:
        """The user's last session here has ended. Best effort."""

    def routes(self, users: Collection[int]) -> Deferred[Mapping[int, frozenset[int]]]:
        """The live nodes of each of these users, this node never among them. Errback: Unavailable."""

    def watch(self, changed: Callable[[int], None], lost: Callable[[], None]) -> None:
        """Call `changed` soon after a user came or went on another node; `lost` when some of that may have been
        missed (the connection was cut, a node died): whatever was remembered of routes is worth nothing then."""

    def away(self) -> bool:
        """Whether the server did not answer last time."""

    def close(self) -> Deferred[None]:
        """Every route of this life is gone afterwards, as far as the server answers."""


class Peer(Protocol):
    """The way to the other nodes."""

    def hand(self, node: int, parcel: Parcel) -> Deferred[Sequence[bool]]:
        """Deliver; -> for each message whether somebody was there who took it (then that node pushes it again and
        turns it offline, as if it were its own). Errback: Unavailable: no such node, no answer within the deadline, or
        one that does not understand us; whether anything was taken is not known then."""

    def close(self) -> Deferred[None]: ...


class SentIndex(Protocol):
    """Whose is a clientMsgId, across the nodes; and which messages have ended. Each call is one round trip.

    Errback of all: Unavailable. The caller then goes on without: nothing is lost by that, a double may happen.
    """

    def claim(self, claims: Sequence[Claim]) -> Deferred[Sequence[Claimed | None]]:
        """For each in order: None, it is the caller's now, provisionally; or what was there before."""

    def settle(self, claims: Sequence[Claim], ended: Sequence[tuple[int, int]]) -> Deferred[None]:
        """These messages are durable under these ids: written whatever was there. And (user, msgId): these have ended
        for their receivers; remembered for 10 to 20 minutes."""

    def release(self, claims: Sequence[Claim]) -> Deferred[None]:
        """These were not committed: deleted where they are still provisional and still the caller's."""

    def ended(self, user: int, msg_ids: Collection[int]) -> Deferred[set[int]]:
        """Which of these have ended for this user."""
