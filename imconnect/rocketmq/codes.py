"""The numbers of the protocol, and what each answer to a send means."""

from __future__ import annotations

from enum import Enum, IntEnum


class Request(IntEnum):
    """What is asked for."""

    PULL = 11
    QUERY_OFFSET = 14
    UPDATE_OFFSET = 15
    CREATE_TOPIC = 17
    OFFSET_AT = 29
    MAX_OFFSET = 30
    MIN_OFFSET = 31
    HEARTBEAT = 34
    UNREGISTER = 35
    CONSUMER_LIST = 38
    NOTIFY_CONSUMERS = 40  # the broker asks this of us
    LOCK = 41
    UNLOCK = 42
    ROUTE = 105
    CLUSTER = 106
    SEND = 310
    SEND_BATCH = 320


class Response(IntEnum):
    """What is answered. Brokers may send numbers that are not listed here."""

    SUCCESS = 0
    SYSTEM_ERROR = 1
    SYSTEM_BUSY = 2
    NOT_SUPPORTED = 3
    FLUSH_DISK_TIMEOUT = 10
    SLAVE_NOT_AVAILABLE = 11
    FLUSH_SLAVE_TIMEOUT = 12
    MESSAGE_ILLEGAL = 13
    SERVICE_NOT_AVAILABLE = 14
    NO_PERMISSION = 16
    TOPIC_NOT_EXIST = 17
    PULL_NOT_FOUND = 19
    PULL_RETRY_IMMEDIATELY = 20
    PULL_OFFSET_MOVED = 21
    QUERY_NOT_FOUND = 22
    NO_BUYER_ID = 204
    NOT_IN_CURRENT_UNIT = 205
    FLOW_CONTROL = 215
    GO_AWAY = 1500


class Outcome(Enum):
    """What a broker's answer says about a message that was sent."""

    STORED = "stored"
    UNPROVEN = "unproven"  # stored, but the flush or the replica that makes it durable was not confirmed
    RETRY = "retry"  # not stored, or nobody knows: send it again with the same unique id
    PERMANENT = "permanent"  # this message will never be taken
    RECONNECT = "reconnect"  # as RETRY, on another connection


_OUTCOMES = {
    Response.SUCCESS: Outcome.STORED,
    Response.FLUSH_DISK_TIMEOUT: Outcome.UNPROVEN,
    Response.SLAVE_NOT_AVAILABLE: Outcome.UNPROVEN,
    Response.FLUSH_SLAVE_TIMEOUT: Outcome.UNPROVEN,
    Response.MESSAGE_ILLEGAL: Outcome.PERMANENT,
    Response.GO_AWAY: Outcome.RECONNECT,
}

# After these the route may be another one than we think.
ROUTE_IN_DOUBT = frozenset(
    {Response.SERVICE_NOT_AVAILABLE, Response.NO_PERMISSION, Response.TOPIC_NOT_EXIST, Response.GO_AWAY}
)


def outcome_of(code: int) -> Outcome:
    """What this answer to a send means. An unknown code is a RETRY: losing nothing comes before sending once."""
    try:
        return _OUTCOMES.get(Response(code), Outcome.RETRY)
    except ValueError:
        return Outcome.RETRY
