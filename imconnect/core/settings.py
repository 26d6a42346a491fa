"""What the core is told at start. Plain numbers; `tap.py` fills them from the configuration."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from imconnect.wire.ids import SEED_EPOCH, XZLL_EPOCH


@attrs.frozen(kw_only=True)
class Profile:
    """The rows of the profile table that the core and the handlers need (architecture.md 6)."""

    #: `ImProtoResponse.code` of a success.
    success: int = 0
    #: Codes of refusals that differ from the seed's (contract/gateway.md 2.3).
    codes: Mapping[int, int] = {}
    #: Milliseconds since 1970 at which message ids start counting.
    epoch: int = SEED_EPOCH
    #: Who tells the sender that his message is stored: this gateway when it is durable here, else business.
    stored_by_gateway: bool = True
    #: Who tells the sender that his message was delivered or read: this gateway where it can, else always business.
    receipts_by_gateway: bool = True
    #: Whether every turning offline is an event; else only an absent receiver, exhausted retries and a restart are.
    offline_always: bool = True

    def code(self, code: int) -> int:
        """A refusal's code in this profile."""
        return self.codes.get(code, code)


SEED = Profile()
XZLL = Profile(
    success=1,
    codes={400: -1, 401: -1, 403: -1, 404: -1, 409: -1, 413: -1, 429: 0, 500: -2, 503: -2},
    epoch=XZLL_EPOCH,
    stored_by_gateway=False,
    receipts_by_gateway=False,
    offline_always=False,
)
#: Reasons for turning offline that are events in every profile.
ALWAYS_EVENTS = frozenset({"absent", "unacknowledged", "restart", "due"})


@attrs.frozen(kw_only=True)
class Settings:
    """Limits and times of a node: seconds where nothing else is said (interface.md section 2)."""

    profile: Profile = SEED
    delays: tuple[float, ...] = (5.0, 30.0, 300.0)
    give_up: float = 30.0
    commands_per_second: float = 2000
    burst: int = 10000
    pending_commands: int = 1024
    outgoing_bytes: int = 1048576
    connections_per_user: int = 10
    unacknowledged: int = 1000
    unacknowledged_total: int = 100000
    recent_rows: int = 500000
    dedupe_window: float = 3600.0
    business_lag: float = 300.0
    withdraw_window: float = 120.0
    backfill_timeout: float = 5.0
    outbox_max_events: int = 1000000
    #: A commit may take this long; meanwhile sends are refused.
    commit_timeout: float = 5.0
    #: Replies, pushes and receipts wait until the broker has what they are about; once it has taken nothing for
    #: `broker_timeout`, sends are refused.
    ack_after_broker: bool = False
    broker_timeout: float = 10.0
    #: Events of this time go to the queue together.
    relay_gather: float = 0.0
    #: Look-ups in the store per second and session, for messages that this node does not know.
    lookups_per_second: int = 10
    #: Messages per page of a backfill.
    page: int = 100
    #: Seconds between two rounds of the watch, and how long a message is owed before it looks.
    watch_interval: float = 5.0
    #: Clients told to leave per second, and the seconds by which everybody has been told.
    drain_rate: float = 200.0
    drain_deadline: float = 30.0
