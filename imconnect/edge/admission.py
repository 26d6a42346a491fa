"""Who may come in: counts of connections, and what a refused handshake is told."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from enum import IntEnum
from http import HTTPStatus

#: So many refused connections at a time are waited for, to tell them why; more are dropped unheard.
SURPLUS = 1000


class Admitted(IntEnum):
    """What became of a new connection; a number above 100 is the HTTP code it will be refused with."""

    YES = 0
    DROPPED = 1
    TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS
    OVERLOADED = HTTPStatus.SERVICE_UNAVAILABLE


class Admission:
    """Counts from the moment a connection is made: half-open ones take a place too."""

    def __init__(self, connections: int, connections_per_ip: int) -> None:
        self.limit(connections, connections_per_ip)
        self._per_ip: dict[str, int] = {}
        self._surplus = 0
        #: Connections that have a place.
        self.count = 0

    def limit(self, connections: int, connections_per_ip: int) -> None:
        """Other limits, for those who come from now on; whoever is here stays."""
        self._limit = connections
        self._limit_per_ip = connections_per_ip

    def enter(self, ip: str) -> Admitted:
        """A connection from this address (empty: none, such as a UNIX socket; no limit per address then)."""
        held = self._per_ip.get(ip, 0)
        if ip and held >= self._limit_per_ip:
            return self._refuse(Admitted.TOO_MANY)
        if self.count >= self._limit:
            return self._refuse(Admitted.OVERLOADED)
        self.count += 1
        if ip:
            self._per_ip[ip] = held + 1
        return Admitted.YES

    def leave(self, ip: str, admitted: Admitted) -> None:
        """The connection is gone; give what `enter` said."""
        if admitted is Admitted.DROPPED:
            return
        if admitted is not Admitted.YES:
            self._surplus -= 1
            return
        self.count -= 1
        if ip:
            held = self._per_ip[ip] - 1
            if held:
                self._per_ip[ip] = held
            else:
                del self._per_ip[ip]

    def _refuse(self, admitted: Admitted) -> Admitted:
        # Refused ones take no place, or silent ones of one address could lock everybody else out.
        if self._surplus >= SURPLUS:
            return Admitted.DROPPED
        self._surplus += 1
        return admitted


def refusal(code: int, reason: str, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The HTTP answer to a handshake that is not accepted. 429 and 503 say when to come again (1 to 5 s, jittered)."""
    body = json.dumps({"code": code, "reason": reason}, separators=(",", ":")).encode("ascii")
    lines = [
        f"HTTP/1.1 {code} {HTTPStatus(code).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        lines.append(f"Retry-After: {random.randint(1, 5)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
