"""What was said where, before it is one configuration; and that configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import attrs

from imconnect.config.foreign import Document
from imconnect.config.instance import instance_of
from imconnect.config.keys import option, section
from imconnect.config.rules import check_rules
from imconnect.config.sources import merge, nested
from imconnect.config.structure import structure
from imconnect.config.tree import Config, Nacos
from imconnect.errors import ConfigError

#: Defaults that a profile changes.
_PROFILES: Mapping[str, Mapping[str, Any]] = {"xzll": {"grpc": {"port": 9091}}}


class Loaded(NamedTuple):
    """A configuration, and for every key that somebody gave a value: where (a file, a variable, `--set`)."""

    config: Config
    origins: Mapping[str, str]
    #: What Nacos had for it, and what to make of another document; None without Nacos.
    watched: Watched | None = None
    #: What people should know about it.
    notes: tuple[str, ...] = ()


class Watched(NamedTuple):
    """A document that may change, and the layers around it."""

    document: Document
    layers: Layers
    #: Where its last good copy lies.
    copy: str


@attrs.frozen(kw_only=True)
class _Early:
    """What has to be known before Nacos can be asked."""

    nacos: Nacos = section(Nacos, "")
    data_dir: str = option(Config().data_dir, "")


@attrs.frozen(kw_only=True)
class Layers:
    """`values` of the file; `settings` are (key path, value, origin) of the environment and `--set`, in their order.

    `instance` is the number that `--instance` gave, 0 for none.
    """

    file: str
    values: Mapping[str, Any]
    settings: Sequence[tuple[str, Any, str]]
    defaults: Mapping[str, Any]
    instance: int = 0

    def early(self) -> tuple[Nacos, str]:
        """Where to ask for the rest, and the data_dir. Raises ConfigError."""
        values, origins = self._merged(None)
        given = {field.name: values[field.name] for field in attrs.fields(_Early) if field.name in values}
        with _told_where(origins):
            early = structure(_Early, given)
        return early.nacos, early.data_dir

    def loaded(self, document: Document | None = None) -> Loaded:
        """All of it as one. Raises ConfigError."""
        values, origins = self._merged(document)
        profile = values.get("profile")
        below = merge(_PROFILES.get(profile, {}) if isinstance(profile, str) else {}, self.defaults)
        with _told_where(origins):
            config = structure(Config, merge(below, values))
            check_rules(config)
        return Loaded(instance_of(config, self.instance) if self.instance else config, origins)

    def _merged(self, document: Document | None) -> tuple[dict[str, Any], dict[str, str]]:
        values, origins = dict(self.values), dict.fromkeys(_paths(self.values), self.file)
        if document is not None:
            values = merge(values, document.values)
            for name in _paths(document.values):
                _put(origins, name, document.origins.get(name, document.name))
        for name, value, origin in self.settings:
            values = merge(values, nested(name, value))
            _put(origins, name, origin)
        return values, origins


@contextmanager
def _told_where(origins: Mapping[str, str]) -> Iterator[None]:
    """A mistake says which layer made it."""
    try:
        yield
    except ConfigError as error:
        origin = _origin(error.key, origins)
        raise ConfigError(error.key, f"{error.message} ({origin})" if origin else error.message) from None


def _put(origins: dict[str, str], name: str, origin: str) -> None:
    """As the one that was said last."""
    origins.pop(name, None)
    origins[name] = origin


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
