"""The command `imconnect`: what people do around a gateway. The gateway itself is `twistd imconnect`."""

from __future__ import annotations

import importlib

import click

from imconnect import __version__
from imconnect.cli.options import configuration, loaded, refusing
from imconnect.config import printed, unsupported

#: Command -> (module, name in it): imported when it is asked for, so that one does not wait for another's libraries.
_COMMANDS = {
    "chat": ("imconnect.cli.chat", "chat"),
    "check-config": ("imconnect.cli.main", "check_config"),
    "db": ("imconnect.cli.db", "db"),
    "outbox": ("imconnect.cli.outbox", "outbox"),
    "parked": ("imconnect.cli.parked", "parked"),
}


class _LateGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_LateGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imconnect")
def main() -> None:
    """Tools around the imconnect gateway, which itself runs as `twistd -n imconnect`."""


@click.command("check-config")
@configuration
def check_config(env: str | None, path: str | None, settings: tuple[str, ...]) -> None:
    """Validate the configuration and print it as it would be used, secrets masked."""
    with refusing():
        found = loaded(env, path, settings)
        unsupported(found.config)
    click.echo(printed(found.config, found.origins), nl=False)
