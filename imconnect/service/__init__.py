"""The life of the process: parts started one after another, stopped in reverse, and a process that really ends."""

from __future__ import annotations

from imconnect.service.ending import ProcessEnd, end_now
from imconnect.service.ordered import OrderedService, Part

__all__ = ["OrderedService", "Part", "ProcessEnd", "end_now"]
