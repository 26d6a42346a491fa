"""What several commands take on their command line, and how they say no."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from imconnect.config import Config, Loaded, load, parse_override
from imconnect.errors import ConfigError, Damaged, Unavailable

_Command = Callable[..., Any]


def configuration(command: _Command) -> _Command:
    """Adds --env, --config and --set: `env`, `path` and `settings`, which `configured` takes."""
    for option in (
        click.option("--set", "settings", multiple=True, metavar="KEY.PATH=VALUE", help="Override one key; may be repeated."),
        click.option("--config", "path", default=None, help="Another file instead."),
        click.option("--env", default=None, help="ENV.yaml from ./configs, /etc/imconnect or the package (default: dev)."),
    ):
        command = option(command)
    return command


def configured(env: str | None, path: str | None, settings: tuple[str, ...]) -> Config:
    """The configuration that these name. Raises ConfigError."""
    return loaded(env, path, settings).config


def loaded(env: str | None, path: str | None, settings: tuple[str, ...]) -> Loaded:
    """The same, and who said what. What people should know about it goes to stderr. Raises ConfigError."""
    found = load(path, env, [parse_override(text) for text in settings], os.environ)
    for note in found.notes:
        click.echo(note, err=True)
    return found


@contextmanager
def refusing(*errors: type[Exception]) -> Iterator[None]:
    """ConfigError, Damaged, Unavailable and these end the command with one line on stderr and status 1."""
    ours: tuple[type[Exception], ...] = (ConfigError, Damaged, Unavailable, *errors)
    try:
        yield
    except ours as error:
        click.echo(" ".join(str(error).split()), err=True)
        sys.exit(1)
