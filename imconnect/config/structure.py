"""A plain mapping -> the tree, strictly: unknown keys, wrong types and values out of range name the key."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from imconnect.errors import ConfigError

T = TypeVar("T")

MASK = "********"


class _WrongType(Exception):
    """What was expected, in words; the key is added on the way out."""


def kind_of(value: object) -> str:
    """The name of a YAML value's type, for people."""
    if isinstance(value, bool):
        return "true or false"
    names = {int: "a number", float: "a number", str: "text", list: "a list", dict: "a section", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)


def _bool(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise _WrongType(f"expected true or false, got {kind_of(value)}")
    return value


def _int(value: object, _: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _WrongType(f"expected a whole number, got {'a fraction' if isinstance(value, float) else kind_of(value)}")
    return value


def _float(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _WrongType(f"expected a number, got {kind_of(value)}")
    return value


def _str(value: object, _: object) -> str:
    if not isinstance(value, str):
        hint = "" if value is None or isinstance(value, (list, dict)) else "; put it in quotes"
        raise _WrongType(f"expected text, got {kind_of(value)}{hint}")
    return value


def _section(kind: type[T], converter: cattrs.Converter) -> Callable[[object, object], T]:
    build = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True)

    def structure(value: object, _: object) -> T:
        if value is None:
            return kind()
        if not isinstance(value, Mapping):
            raise _WrongType(f"expected a section of keys, got {kind_of(value)}")
        return build(value, kind)

    return structure


def _tuple(kind: Any, converter: cattrs.Converter) -> Callable[[object, object], tuple[Any, ...]]:
    item = get_args(kind)[0]

    def structure(value: object, _: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise _WrongType(f"expected a list, got {kind_of(value)}")
        return tuple(converter.structure(each, item) for each in value)

    return structure


def _literal(kind: Any) -> Callable[[object, object], str]:
    words = get_args(kind)

    def structure(value: object, _: object) -> str:
        if value not in words:
            got = repr(value) if isinstance(value, str) else kind_of(value)
            raise _WrongType(f"expected one of {', '.join(words)}, got {got}")
        return str(value)

    return structure


def _is_literal(kind: Any) -> bool:
    origin: object = get_origin(kind)
    return origin is Literal


def _is_tuple(kind: Any) -> bool:
    origin: object = get_origin(kind)
    return origin is tuple


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    for kind, hook in ((bool, _bool), (int, _int), (float, _float), (str, _str)):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_factory(attrs.has, lambda kind: _section(kind, converter))
    converter.register_structure_hook_factory(_is_literal, _literal)
    converter.register_structure_hook_factory(_is_tuple, lambda kind: _tuple(kind, converter))
    return converter


_CONVERTER = _converter()


def structure(kind: type[T], values: Mapping[str, object]) -> T:
    """Raises ConfigError for the first thing that is wrong, unknown keys first."""
    try:
        return _CONVERTER.structure(values, kind)
    except (BaseValidationError, ConfigError, _WrongType) as error:
        found = sorted(_mistakes(error, ()), key=lambda mistake: not mistake[2])
    path, message, _ = found[0]
    raise ConfigError(".".join(path), message)


def _mistakes(error: Exception, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], str, bool]]:
    """(path, message, whether it is an unknown key) of every leaf of cattrs' tree of errors."""
    if isinstance(error, BaseValidationError):
        found = []
        for each in error.exceptions:
            name = next((note.name for note in getattr(each, "__notes__", ()) if hasattr(note, "name")), None)
            found += _mistakes(each, (*path, name) if name else path)
        return found
    if isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)]
        names = sorted(map(str, error.extra_fields))
        return [((*path, name if name.isprintable() else repr(name)), _unknown(name, known), True) for name in names]
    if isinstance(error, ConfigError):
        return [((*path, error.key), error.message, False)]
    if isinstance(error, _WrongType):
        return [(path, str(error), False)]
    raise error


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; known here: {', '.join(known)}"


def masked(config: Any) -> dict[str, Any]:
    """The tree as plain values for print-outs. Secrets are masked; of a URL only the password is."""
    plain: dict[str, Any] = {}
    for field in attrs.fields(type(config)):
        value = getattr(config, field.name)
        if attrs.has(type(value)):
            plain[field.name] = masked(value)
        elif field.metadata["secret"]:
            plain[field.name] = _mask(value)
        else:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain


def _mask(secret: str) -> str:
    if "://" not in secret:
        return MASK if secret else ""
    without = re.sub(r"(://[^:/?#]*:).*@", rf"\g<1>{MASK}@", secret)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&#]*", rf"\g<1>{MASK}", without)
