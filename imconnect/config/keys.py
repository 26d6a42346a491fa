"""How one configuration key is declared: default, unit, one line of documentation, and what values it takes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

import attrs

from imconnect.errors import ConfigError

#: Says what was expected when the value will not do, else None.
Check = Callable[[Any], str | None]

HOST_PORT = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")


def option(default: Any, doc: str, *, unit: str = "", check: Check | None = None, secret: bool = False) -> Any:
    """A field of a section. `secret` values are masked in print-outs and never quoted in errors.

    Whoever declares a field that may be nothing (None) is not asked to check that.
    """

    def validate(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        expected = check(value) if check and value is not None else None
        if expected:
            got = "" if secret else f", got {value!r}"
            raise ConfigError(attribute.name, f"expected {expected}{got}")

    limits = getattr(check, "says", "")
    return attrs.field(
        default=default, validator=validate, metadata={"doc": doc, "unit": unit, "limits": limits, "secret": secret}
    )


def section(kind: type[Any], doc: str) -> Any:
    """A field that holds further keys."""
    return attrs.field(factory=kind, metadata={"doc": doc, "unit": "", "limits": "", "secret": False})


def _says(text: str, good: Callable[[Any], bool]) -> Check:
    def check(value: Any) -> str | None:
        return None if good(value) else text

    check.says = text  # type: ignore[attr-defined]
    return check


def between(low: float, high: float) -> Check:
    """Both ends are allowed."""
    return _says(f"{low} to {high}", lambda value: low <= value <= high)


def one_of(*values: int) -> Check:
    """A few numbers."""
    return _says(" or ".join(map(str, values)), lambda value: value in values)


def at_least(low: float) -> Check:
    """No upper end."""
    return _says(f"{low} or more", lambda value: value >= low)


def above(low: float) -> Check:
    """For durations and rates that must not be zero."""
    return _says(f"more than {low}", lambda value: value > low)


def each_above(low: float) -> Check:
    """A list of durations."""
    return _says(f"numbers above {low}", lambda values: all(value > low for value in values))


def _is_host_port(text: str) -> bool:
    match = HOST_PORT.fullmatch(text)
    return match is not None and 0 < int(match[1]) <= 65535


def _is_url(text: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9+.]*://\S*", text) is not None


PORT = between(0, 65535)
NOT_EMPTY = _says("a text that is not empty", bool)
HOST = _says("a host name or address", lambda text: re.fullmatch(r"[\w.:-]+", text) is not None)
URL_PATH = _says("a path that starts with /", lambda text: re.fullmatch(r"/[^\s?#]*", text) is not None)
OPTIONAL_HOST_PORT = _says("host:port", lambda text: not text or _is_host_port(text))
HOST_PORTS = _says(
    "host:port[;host:port...] or nothing",
    lambda text: text == "" or all(_is_host_port(part) for part in text.split(";")),
)
HOST_PORTS_BY_COMMA = _says(
    "host:port[,host:port...] or nothing",
    lambda text: text == "" or all(_is_host_port(part) for part in text.split(",")),
)
HOST_PORT_LIST = _says("a list of host:port", lambda items: all(_is_host_port(item) for item in items))
OPTIONAL_URL = _says("a URL (scheme://...) or nothing", lambda text: text == "" or _is_url(text))
MQ_NAME = _says(
    "letters, digits, %, | , _ and -, at most 255", lambda text: re.fullmatch(r"[\w%|-]{1,255}", text) is not None
)
OPTIONAL_NACOS_NAME = _says(
    "letters, digits, ., :, _ and -, at most 128, or nothing",
    lambda text: re.fullmatch(r"[A-Za-z0-9_.:-]{0,128}", text) is not None,
)
OPTIONAL_TOPIC = _says(
    "letters, digits, %, | , _ and -, at most 127, or nothing",
    lambda text: re.fullmatch(r"[A-Za-z0-9_%|-]{0,127}", text) is not None,
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
