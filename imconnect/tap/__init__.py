"""The composition root: what `twistd imconnect` runs. The only place that knows all the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imconnect.tap.options import Options

if TYPE_CHECKING:
    from imconnect.service import OrderedService

__all__ = ["Options", "makeService"]


def makeService(options: Options, reactor: Any = None) -> OrderedService:
    """`imconnect.tap.gateway.makeService`, imported when it is called: a mistake in the options is said at once."""
    from imconnect.tap import gateway

    return gateway.makeService(options, reactor)
