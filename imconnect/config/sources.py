"""Where values come from: YAML text, the file of an environment, environment variables, `--set`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from imconnect.errors import ConfigError

ENV_PREFIX = "IMCONNECT__"
ENVIRONMENT = "IMCONNECT_ENV"
SHIPPED = Path(__file__).parent.parent / "configs"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `off` is a word, 010 and 1:30 are text. A key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode):
                if name.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{name.value} is given twice", problem_mark=name.start_mark)
                seen.add(name.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)


def parse(text: str, what: str) -> Any:
    """One YAML document. `what` names it in the error: a file, an environment variable, an option."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark and "\n" in text else ""
        raise ConfigError(f"{what}{line}", f"not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = getattr(error, "reason", "") or type(error).__name__
        raise ConfigError(what, f"not YAML: {reason}") from None


def read_file(path: str) -> dict[str, Any]:
    """The keys of a YAML file; an empty file has none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(path, "not YAML: not UTF-8") from None
    values = parse(text, path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(path, "expected keys at the top, such as `server:`")
    return values


def find_config(env: str, folders: Iterable[Path] | None = None) -> str:
    """`ENV.yaml` from ./configs, then /etc/imconnect, then the copy shipped in the package."""
    places = list(folders or (Path("configs"), Path("/etc/imconnect"), SHIPPED))
    if re.fullmatch(r"[A-Za-z0-9_-]+", env):
        for folder in places:
            if (folder / f"{env}.yaml").is_file():
                return str(folder / f"{env}.yaml")
    shown = ", ".join(str(place) for place in places)
    raise ConfigError("--env", f"expected the name of a file NAME.yaml in {shown}; got {env!r}")


def parse_override(text: str) -> tuple[str, str]:
    """`server.port=20001` -> ("server.port", "20001")."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError("--set", "expected key.path=VALUE")
    return name.strip(), value


def from_environ(environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(key path, YAML text, where it comes from) of every IMCONNECT__SECTION__KEY, in the order of their names."""
    return [
        (name[len(ENV_PREFIX) :].lower().replace("__", "."), environ[name], name)
        for name in sorted(environ)
        if name.startswith(ENV_PREFIX)
    ]


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Key by key; an empty section (`server:`) says nothing."""
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[name] = merge(below, value)
        elif value is not None or not isinstance(below, dict):
            merged[name] = value
    return merged


def nested(path: str, value: Any) -> dict[str, Any]:
    """("a.b", 1) -> {"a": {"b": 1}}."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)
