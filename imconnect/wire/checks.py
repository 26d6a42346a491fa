"""What every message of our own gRPC services is checked for before anybody believes it."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message as ProtobufMessage

from imconnect.model import MAX_ID

_M = TypeVar("_M", bound=ProtobufMessage)


class Unreadable(ValueError):
    """A peer sent what is not a message of this service."""


class OtherVersion(ValueError):
    """A peer speaks a version that is not ours. `str()` says which."""


def parse(message: _M, data: bytes) -> _M:
    """Raises Unreadable."""
    try:
        message.ParseFromString(data)
    except ProtobufError:
        raise Unreadable("not a message of this service") from None
    return message


def check_version(version: int, ours: int, service: str) -> None:
    """Raises OtherVersion."""
    if version != ours:
        raise OtherVersion(f"version {version} of {service}; this imconnect speaks {ours}")


def check_ids(*ids: int) -> None:
    """Raises Unreadable for one that cannot be an id."""
    if not all(0 < value <= MAX_ID for value in ids):
        raise Unreadable("an id out of range")
