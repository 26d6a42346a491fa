"""Requests that nobody can serve: a payload that does not parse, a type without a handler."""

from __future__ import annotations

from imconnect.core.context import Context, NotAsked
from imconnect.core.outcome import Outcome
from imconnect.core.session import Session
from imconnect.errors import CommandError
from imconnect.model import Stored
from imconnect.wire.requests import Malformed, Unknown


def malformed(_: Context, __: Session, ___: Malformed, ____: Stored | type[NotAsked] | None = NotAsked) -> Outcome:
    """The frame is fine, its payload is not."""
    raise CommandError(400, "the payload does not parse", "bad_request")


def unknown(_: Context, __: Session, ___: Unknown, ____: Stored | type[NotAsked] | None = NotAsked) -> Outcome:
    """Not a request of ours."""
    raise CommandError(404, "unknown type")
