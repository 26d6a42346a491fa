"""The configuration of one process. Only the composition root (tap, cli) reads it; everything else takes arguments.

Layers, lowest first: the defaults of `tree`, the caller's, the YAML file, `IMCONNECT__SECTION__KEY`, `--set`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import yaml

from imconnect.config.rules import check_rules, unsupported
from imconnect.config.sources import (
    ENVIRONMENT,
    find_config,
    from_environ,
    merge,
    nested,
    parse,
    parse_override,
    read_file,
)
from imconnect.config.structure import masked, structure
from imconnect.config.tree import Config
from imconnect.errors import ConfigError

__all__ = ["Config", "Loaded", "find_config", "load", "masked", "parse_override", "printed", "unsupported"]

#: Defaults that a profile changes.
_PROFILES: Mapping[str, Mapping[str, Any]] = {"xzll": {"grpc": {"port": 9091}}}


class Loaded(NamedTuple):
    """A configuration, and for every key that somebody gave a value: where (a file, a variable, `--set`)."""

    config: Config
    origins: Mapping[str, str]


def load(
    path: str | None,
    env: str | None,
    overrides: Iterable[tuple[str, str]],
    environ: Mapping[str, str],
    defaults: Mapping[str, Any] | None = None,
) -> Loaded:
    """The validated configuration. Raises ConfigError; says nothing about what this version supports.

    `path` is the file; without it `env` (else IMCONNECT_ENV, else dev) is looked for. `overrides` are
    (key path, YAML text). `defaults` is what the caller wants where nobody says anything, as a nested mapping.
    """
    file = path or find_config(env or environ.get(ENVIRONMENT) or "dev")
    values = read_file(file)
    origins = dict.fromkeys(_paths(values), file)
    settings = from_environ(environ) + [(name, text, "--set") for name, text in overrides]
    for name, text, origin in settings:
        value = parse(text, origin if origin != "--set" else f"--set {name}") if text.strip() else ""
        values = merge(values, nested(name, value))
        origins.pop(name, None)
        origins[name] = origin
    profile = values.get("profile")
    below = merge(_PROFILES.get(profile, {}) if isinstance(profile, str) else {}, defaults or {})
    try:
        config = structure(Config, merge(below, values))
        check_rules(config)
    except ConfigError as error:
        origin = _origin(error.key, origins)
        raise ConfigError(error.key, f"{error.message} ({origin})" if origin else error.message) from None
    return Loaded(config, origins)


def printed(config: Config) -> str:
    """The configuration as YAML in the order of the documentation, secrets masked."""
    text: str = yaml.safe_dump(masked(config), sort_keys=False, allow_unicode=True)
    return text


def _paths(values: Mapping[str, Any], above: str = "") -> Iterable[str]:
    """The key path of every leaf."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """Where the value at this key was given last; "" where nobody gave one."""
    near = [name for name in origins if key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.")]
    return origins[near[-1]] if near else ""
