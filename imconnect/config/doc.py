"""docs/configuration.md, made from the classes: `python -m imconnect.config.doc > docs/configuration.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import yaml

from imconnect.config.tree import Config

_INTRODUCTION = """\
# Configuration

Made from the classes in `imconnect/config/tree.py` by `make docs`; do not edit.

The configuration is YAML. Every key has a default; an unknown key, a wrong type or a value out of range is one line on
stderr that names the key, and exit 1. Later layers win:

1. the defaults below;
2. the file: `--config FILE`, else `ENV.yaml` of `--env ENV` (`dev` by default, also from `IMCONNECT_ENV`), looked for in
   `./configs`, then in `/etc/imconnect`, then among the copies shipped in the package;
3. where `nacos.server_addr` is set: a document of that Nacos ([operations.md](operations.md#configuration-from-nacos));
4. environment variables: `IMCONNECT__SERVER__PORT=20001` sets `server.port` (the value is read as YAML);
5. `--set server.port=20001`, as often as needed.

Then `--instance N` (N from 1 on, for several processes on one machine) derives from what these say: N is added to
`node.id`, ten times N to `http.port`, `grpc.port` and the port of `grpc.advertise`, `/N` to `data_dir`, `-N` to `node.name`
(empty: the host's name); `server.reuse_port` is true unless the configuration says otherwise ([deployment.md](deployment.md)).

`--check` prints the effective configuration, secrets masked, and behind each key that somebody gave a value who did; it
starts nothing. Words are YAML 1.2's: `off` is a word, `false` is the opposite of `true`; text that looks like a number needs
quotes.
Ports: 0 takes any free one. Times are seconds, sizes bytes, unless the unit says otherwise.
"""


def _sections(kind: type[Any], path: str, doc: str) -> Iterator[str]:
    fields = attrs.fields(attrs.resolve_types(kind))
    inner = [field for field in fields if _is_section(field)]
    leaves = [field for field in fields if not _is_section(field)]
    if leaves:
        yield f"\n## {path}: {doc}\n" if path else "\n## Top level\n"
        yield "| key | default | unit | values | meaning |\n|---|---|---|---|---|"
    for field in leaves:
        name = f"{path}.{field.name}" if path else field.name
        yield f"| `{name}` | {_default(field)} | {field.metadata['unit']} | {_values(field)} | {field.metadata['doc']} |"
    for field in inner:
        below = f"{path}.{field.name}" if path else field.name
        yield from _sections(_kind(field), below, field.metadata["doc"])


def _is_section(field: attrs.Attribute[Any]) -> bool:
    return isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]


def _kind(field: attrs.Attribute[Any]) -> type[Any]:
    kind: type[Any] = field.default.factory  # type: ignore[union-attr]
    return kind


def _default(field: attrs.Attribute[Any]) -> str:
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10)).strip()}`"


def _values(field: attrs.Attribute[Any]) -> str:
    kinds = {bool: "true, false", int: "whole number", float: "number", str: "text"}
    limits = str(field.metadata["limits"]).replace("|", "\\|")
    type_, nothing = field.type, ""
    if get_origin(type_) in (Union, UnionType):
        (type_,), nothing = (each for each in get_args(type_) if each is not type(None)), ", or nothing"
    if get_origin(type_) is Literal:
        return "one of " + ", ".join(get_args(type_)) + nothing
    kind = kinds.get(type_, "list") if type_ else ""
    return (f"{kind}, {limits}" if limits and kind in ("whole number", "number") else limits or kind) + nothing


def page() -> str:
    """The whole page."""
    return _INTRODUCTION + "\n".join(_sections(Config, "", "")) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
