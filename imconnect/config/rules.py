"""What no single key can know: rules between keys, and what this version cannot do yet."""

from __future__ import annotations

import time
from collections.abc import Callable

from imconnect.config.keys import is_loopback
from imconnect.config.profiles import profile_of, serves_java
from imconnect.config.tree import Config
from imconnect.errors import ConfigError

#: How long ids last from their epoch on: 41 bits of ms.
ID_SPAN_MS = 2**41


def check_rules(config: Config) -> None:
    """Raises ConfigError for the first rule between keys that is broken."""
    _check_access(config)
    _check_database(config)
    _check_profile(config)
    if config.outbox.ack_after == "broker" and not config.rocketmq.server_addr:
        raise ConfigError(
            "outbox.ack_after",
            "expected disk, or a rocketmq.server_addr: the embedded queue is on this machine like the outbox, so "
            "waiting for it makes nothing safer",
        )
    limits = config.limits
    if limits.ping_interval >= limits.idle_timeout:
        raise ConfigError("limits.ping_interval", f"expected less than limits.idle_timeout ({limits.idle_timeout} s)")
    if bool(config.server.tls.certificate) != bool(config.server.tls.key):
        missing = "key" if config.server.tls.certificate else "certificate"
        raise ConfigError(f"server.tls.{missing}", "expected a file: certificate and key go together")
    tls = config.grpc.tls
    for name, given in (("ca", tls.ca), ("certificate", tls.certificate), ("key", tls.key)):
        if not given and (tls.ca or tls.certificate or tls.key):
            raise ConfigError(f"grpc.tls.{name}", "expected a file: ca, certificate and key go together")
    if tls.ca and serves_java(config):
        raise ConfigError(
            "grpc.tls.ca", "expected nothing: the Java services, which call on the same port, speak plain text only"
        )
    if config.redis.url and not config.grpc.advertise and config.grpc.host in ("0.0.0.0", "::"):
        raise ConfigError(
            "grpc.advertise", f"expected host:port at which other nodes reach this one: {config.grpc.host} is no address"
        )
    if config.server.reuse_port and not config.redis.url:
        raise ConfigError(
            "server.reuse_port",
            "expected a redis.url too: the people of one port are spread over its processes, which find each other's in Redis",
        )
    if bool(config.rocketmq.access_key) != bool(config.rocketmq.secret_key):
        missing = "secret_key" if config.rocketmq.access_key else "access_key"
        raise ConfigError(f"rocketmq.{missing}", "expected a value: access_key and secret_key go together")


def _check_access(config: Config) -> None:
    auth, host = config.auth, config.server.host
    if auth.mode == "open" and not is_loopback(host) and not auth.allow_open_on_network:
        raise ConfigError(
            "auth.mode",
            f"expected jwt, or auth.allow_open_on_network: true: with open anybody who reaches server.host {host} "
            "can sign in as anybody",
        )


def _check_database(config: Config) -> None:
    business, queue = config.business, config.rocketmq.server_addr
    if business.mode == "off" and not queue:
        raise ConfigError(
            "business.mode", "expected embedded, or a rocketmq.server_addr: with off nobody reads the events"
        )
    if business.database or not (queue or config.redis.url):
        return
    if business.mode == "off" and config.profile == "xzll":
        return
    reason = "rocketmq.server_addr" if queue else "redis.url"
    raise ConfigError(
        "business.database",
        f"expected a SQLAlchemy URL, because {reason} is set: all processes must share one database",
    )


def _check_profile(config: Config) -> None:
    profile, rows = profile_of(config), config.profile_rows
    if profile.success in profile.codes.values():
        key = "error_codes" if rows.success_code is None else "success_code"
        expected = "seed" if rows.success_code is None else "1"
        raise ConfigError(
            f"profile_rows.{key}",
            f"expected {expected}: the error codes of xzll say {profile.success} for a refusal, "
            f"and profile_rows.success_code says {profile.success} for a success",
        )
    now = int(time.time() * 1000)
    if not now - ID_SPAN_MS < profile.epoch < now:
        raise ConfigError(
            "profile_rows.id_epoch", f"expected a time in the past, ms since 1970 (now: {now}), got {profile.epoch}"
        )


#: (key, whether it is used, what it needs). A row goes when the part it names arrives.
_NOT_YET: tuple[tuple[str, Callable[[Config], bool], str], ...] = (
    ("auth.mode", lambda config: config.auth.mode == "jwt", "open: tokens are not supported yet"),
    ("server.tls.certificate", lambda config: bool(config.server.tls.certificate), "nothing: TLS is not supported yet"),
)


def unsupported(config: Config) -> None:
    """Raises ConfigError for a setting that is valid but that this version cannot do."""
    for name, used, needs in _NOT_YET:
        if used(config):
            raise ConfigError(name, f"expected {needs}")
