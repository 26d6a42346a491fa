"""Log lines for people (text) and for machines (JSON), from the first line on."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    textFileLogObserver,
)
from twisted.python.components import Componentized

FORMATS = ("text", "json")
LEVELS = tuple(level.name for level in LogLevel.iterconstants())


def json_line(event: LogEvent) -> str | None:
    """One event as one line: time (ISO 8601, UTC), level, logger, message, and the traceback of a failure."""
    level = event.get("log_level", LogLevel.info)
    line: dict[str, Any] = {
        "time": _iso(event.get("log_time")),
        "level": level.name,
        "logger": event.get("log_namespace", "-"),
        "message": formatEvent(event),
    }
    failure = event.get("log_failure")
    if failure is not None:
        line["failure"] = _traceback(failure)
    return json.dumps(line) + "\n"


def observer(format: str, level: str, stream: TextIO) -> ILogObserver:
    """Writes events of at least this level. `format` is one of FORMATS, `level` one of LEVELS; else ValueError."""
    return _filtered(format, threshold(level), stream)


def threshold(level: str) -> LogLevelFilterPredicate:
    """The lowest level that is written; `change` moves it. ValueError."""
    return LogLevelFilterPredicate(_level(level))


def change(predicate: LogLevelFilterPredicate, level: str) -> None:
    """From the next event on. ValueError."""
    predicate.setLogLevelForNamespace("", _level(level))


def install(
    application: Componentized, format: str, level: str | LogLevelFilterPredicate, stream: TextIO | None = None
) -> None:
    """Make `twistd` log so, its own first lines included. Call it where the application is known and not started.

    Without a stream it is the process's standard output: not `sys.stdout`, which Twisted replaces by a file that
    writes to this very log.
    """
    target = sys.__stdout__ if stream is None else stream
    if target is None:
        raise ValueError("there is no standard output to log to")
    predicate = threshold(level) if isinstance(level, str) else level
    application.setComponent(ILogObserver, _filtered(format, predicate, target))


def _level(name: str) -> Any:
    if name not in LEVELS:
        raise ValueError(f"log level {name!r} is none of {', '.join(LEVELS)}")
    return LogLevel.levelWithName(name)


def _filtered(format: str, predicate: LogLevelFilterPredicate, stream: TextIO) -> ILogObserver:
    if format not in FORMATS:
        raise ValueError(f"log format {format!r} is none of {', '.join(FORMATS)}")
    lines = FileLogObserver(stream, json_line) if format == "json" else textFileLogObserver(stream)
    return FilteringLogObserver(lines, [predicate])


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(failure: Any) -> str:
    try:
        return str(failure.getTraceback())
    except Exception as error:
        return f"(a traceback that cannot be shown: {type(error).__name__})"
