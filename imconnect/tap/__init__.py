"""The composition root: what `twistd imconnect` runs. The only place that knows all the others."""

from __future__ import annotations

from imconnect.tap.gateway import makeService
from imconnect.tap.options import Options

__all__ = ["Options", "makeService"]
