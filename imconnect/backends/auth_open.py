"""Identity as the client claims it, for development and closed networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, fail, succeed

from imconnect.errors import CommandError
from imconnect.model import MAX_ID, Identity

#: Characters of a device id.
DEVICE = 128


class OpenAuthenticator:
    """Believes header `uid`, else query `userId`. Implements `core.ports.Authenticator`."""

    def authenticate(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> Deferred[Identity]:
        """Errback: CommandError(401, why)."""
        try:
            return succeed(_identity(headers, query))
        except CommandError as error:
            return fail(error)


def _identity(headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> Identity:
    claimed = headers.get("uid") or _first(query, "userId")
    if not claimed:
        raise CommandError(401, "who are you? header uid or query userId is missing")
    # The length first: int() of a very long number is slow, and raises of its own.
    if len(claimed) > 19 or not (claimed.isascii() and claimed.isdecimal()) or not 1 <= int(claimed) <= MAX_ID:
        raise CommandError(401, "the user id must be a decimal number from 1 to 2^63-1")
    device = headers.get("deviceid") or _first(query, "deviceId")
    if len(device) > DEVICE:
        raise CommandError(401, f"deviceId is longer than {DEVICE} characters")
    return Identity(int(claimed), device)


def _first(query: Mapping[str, Sequence[str]], name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""
