"""A document that was written for the Go gateway (`im-connect-go.yaml`), in our words.

Its `rocketmq` block and our keys have the same names. Of its other keys those that mean the same as one of ours become
that one, the rest is of no use here and only named; a key that is neither's is a mistake, as in a file of ours.
docs/operations.md has the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from imconnect.config.sources import parse
from imconnect.errors import ConfigError

Path = tuple[str, ...]


class Document(NamedTuple):
    """What was found. `name` is how errors and origins call it."""

    name: str
    text: str
    #: Our keys, nested.
    values: Mapping[str, Any]
    #: Of our keys that were called otherwise: where they come from.
    origins: Mapping[str, str]
    #: Keys of no use here.
    ignored: tuple[str, ...]


def _level(value: Any) -> Any:
    """Go writes levels in any case."""
    return value.lower() if isinstance(value, str) else value


def _mode(value: Any) -> Any:
    return {True: "jwt", False: "open"}[value] if isinstance(value, bool) else value


#: The Go gateway's key -> ours, and the value in our words. What is not understood stays, and our key refuses it.
SAME_AS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "server.max_connections": ("limits.connections", lambda value: value),
    "netty.heartbeat_timeout": ("limits.idle_timeout", lambda value: value),
    "auth.enabled": ("auth.mode", _mode),
    "logging.level": ("log.level", _level),
}
#: Together they are our redis.url.
REDIS = ("redis.addr", "redis.address", "redis.password", "redis.db")
#: The Go gateway's keys, and sections, that nothing here is like (most of them it does not read itself).
OF_NO_USE = (
    *("app", "debug", "flow_control", "logging", "msg", "nacos", "netty", "pprof", "security"),
    *(f"server.{name}" for name in ("prometheus_port", "read_timeout", "write_timeout", "graceful_timeout")),
    *(f"retry.{name}" for name in ("enabled", "max_retries", "batch_size", "scan_interval")),
    *(f"grpc.{name}" for name in ("max_recv_msg_size", "max_send_msg_size", "connection_timeout")),
    *(f"grpc.max_connection_{name}" for name in ("idle", "age", "age_grace")),
    *(f"redis.{name}" for name in ("max_retries", "pool_size", "min_idle_conns")),
    *(f"redis.{name}_timeout" for name in ("dial", "read", "write")),
    *(f"rocketmq.consumer.{name}" for name in ("thread_min", "thread_max", "max_reconsume_times", "batch_size")),
    "rocketmq.consumer.consume_timeout",
    *(f"auth.{name}" for name in ("token_expire_check", "max_auth_failures", "lockout_duration_minutes")),
    *(f"auth.{name}" for name in ("token_expiry", "stress_test_enabled", "stress_test_token")),
)


def read(text: str, name: str) -> Document:
    """Raises ConfigError."""
    found = parse(text, name)
    if not isinstance(found, dict):
        raise ConfigError(name, "expected keys at the top, such as `rocketmq:`")
    keys = dict(_leaves(found))
    foreign = [path for path in keys if _is_foreign(".".join(path))]
    given = {path: keys[path] for path in keys if path not in foreign}
    ours, origins, used = _translated({".".join(path): keys[path] for path in foreign}, given)
    for path, value in given.items():
        _refuse(path, value, name)
    for path, value in ours.items():
        _refuse(path, value, f"{name}, {origins['.'.join(path)]}")
    return Document(
        name,
        text,
        _nested({**given, **ours}),
        {key: f"{name}, {foreign_key}" for key, foreign_key in origins.items()},
        tuple(key for path in foreign if (key := ".".join(path)) not in used),
    )


def _translated(foreign: Mapping[str, Any], given: Mapping[Path, Any]) -> tuple[dict[Path, Any], dict[str, str], set[str]]:
    """Our keys, what they were called, and all foreign ones that went into them. A key of ours that is given wins."""
    ours: dict[Path, Any] = {}
    origins: dict[str, str] = {}
    used: set[str] = set()
    for key, (target, in_our_words) in SAME_AS.items():
        path = tuple(target.split("."))
        if key in foreign and path not in given:
            ours[path] = in_our_words(foreign[key])
            origins[target] = key
            used.add(key)
    address = foreign.get("redis.addr") or foreign.get("redis.address")
    if address and ("redis", "url") not in given:
        ours["redis", "url"] = _redis_url(address, foreign.get("redis.password"), foreign.get("redis.db"))
        origins["redis.url"] = "redis.addr" if foreign.get("redis.addr") else "redis.address"
        used.update(REDIS)
    return ours, origins, used


def _redis_url(address: Any, password: Any, number: Any) -> str:
    secret = f":{quote(str(password), safe='')}@" if password not in (None, "") else ""
    return f"redis://{secret}{address}/{number or 0}"


def _is_foreign(key: str) -> bool:
    return key in SAME_AS or key in REDIS or any(f"{key}.".startswith(f"{each}.") for each in OF_NO_USE)


def _refuse(path: Path, value: Any, origin: str) -> None:
    """What is ours but cannot be said here."""
    key = ".".join(path)
    if path[0] == "data_dir":
        raise ConfigError(
            key, f"expected in the file, the environment or --set: the copy of the document lies there ({origin})"
        )
    if isinstance(value, str) and re.search(r"\$\{[^}]*\}", value):
        raise ConfigError(
            key, f"expected a value: placeholders such as ${{a.b}} are not replaced here, unlike in the Go gateway ({origin})"
        )


def _leaves(values: Mapping[Any, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, value in values.items():
        path = (*above, str(name))
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def _nested(keys: Mapping[Path, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in keys.items():
        section = tree
        for name in path[:-1]:
            if section.get(name) is None:  # also `limits:` with nothing in it
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                break  # `limits: 5`: a mistake that is said later
        else:
            section[path[-1]] = value
    return tree
