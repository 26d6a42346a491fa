"""The configuration of one process. Only the composition root (tap, cli) reads it; everything else takes arguments.

Layers, lowest first: the defaults of `tree`, the caller's, the YAML file, a document of Nacos, `IMCONNECT__SECTION__KEY`,
`--set`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from imconnect.config.instance import folder_of
from imconnect.config.layers import Layers, Loaded
from imconnect.config.rules import unsupported
from imconnect.config.sources import ENVIRONMENT, find_config, from_environ, parse, parse_override, read_file
from imconnect.config.structure import masked
from imconnect.config.tree import Config

__all__ = ["COPY", "Config", "Loaded", "find_config", "load", "masked", "parse_override", "printed", "unsupported"]

#: In data_dir: the last good copy of what Nacos said.
COPY = "nacos-last.yaml"


def load(
    path: str | None,
    env: str | None,
    overrides: Iterable[tuple[str, str]],
    environ: Mapping[str, str],
    defaults: Mapping[str, Any] | None = None,
    *,
    instance: int = 0,
    copy: str = COPY,
    keep: bool = False,
) -> Loaded:
    """The validated configuration. Raises ConfigError; says nothing about what this version supports.

    `path` is the file; without it `env` (else IMCONNECT_ENV, else dev) is looked for. `overrides` are
    (key path, YAML text). `defaults` is what the caller wants where nobody says anything, as a nested mapping.
    `instance` is which of several on this machine, 0: the only one. With `keep` what Nacos says is kept in data_dir,
    under the name `copy`.
    """
    file = path or find_config(env or environ.get(ENVIRONMENT) or "dev")
    given = from_environ(environ) + [(name, text, "--set") for name, text in overrides]
    layers = Layers(
        file=file,
        values=read_file(file),
        settings=[(name, _value(name, text, origin), origin) for name, text, origin in given],
        defaults=defaults or {},
        instance=instance,
    )
    nacos, data_dir = layers.early()
    if not nacos.server_addr:
        return layers.loaded()
    # Late: without nacos.server_addr nothing of it is loaded.
    from imconnect.config.nacos import load as load_with_nacos

    return load_with_nacos(layers, nacos, folder_of(data_dir, instance), copy, keep)


def printed(config: Config, origins: Mapping[str, str] | None = None) -> str:
    """The configuration as YAML in the order of the documentation, secrets masked; behind each key that somebody gave a
    value, who did."""
    return "".join(_lines(masked(config), origins or {}, ""))


def _lines(values: Mapping[str, Any], origins: Mapping[str, str], above: str) -> Iterator[str]:
    indent = "  " * above.count(".")
    for name, value in values.items():
        key = f"{above}{name}"
        if isinstance(value, dict):
            yield f"{indent}{name}:\n"
            yield from _lines(value, origins, f"{key}.")
            continue
        dumped: str = yaml.safe_dump({name: value}, allow_unicode=True, width=2**31)
        first, *more = dumped.splitlines()
        near = [origins[given] for given in origins if f"{key}.".startswith(f"{given}.")]
        origin = f"  # {' '.join(near[-1].split())}" if near else ""
        if more and isinstance(value, str):
            # Inside a text of several lines it would be part of the text.
            first, origin = f"{origin.strip()}\n{indent}{first}" if origin else first, ""
        yield "\n".join([f"{indent}{first}{origin}", *(f"{indent}{line}" for line in more)]) + "\n"


def _value(name: str, text: str, origin: str) -> Any:
    return parse(text, origin if origin != "--set" else f"--set {name}") if text.strip() else ""
