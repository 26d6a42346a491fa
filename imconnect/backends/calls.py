"""What a blocking backend needs of its threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

_T = TypeVar("_T")


class Calls(Protocol):
    """Runs what blocks: `backends.threads.Pool`; in tests something that calls at once."""

    def run(self, function: Callable[..., _T], /, *args: Any) -> Deferred[_T]:
        """Call it elsewhere; fires on the reactor thread with what it returns or raises."""
