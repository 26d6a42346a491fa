"""The command line of `twistd imconnect` and `twistd imbusiness`, and mistakes in it as one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn

from twisted.python import usage
from twisted.python.logfile import LogFile

from imconnect.config import COPY, Config, Loaded, load, parse_override, printed, unsupported
from imconnect.config.instance import number_of
from imconnect.config.sources import merge
from imconnect.errors import ConfigError, Damaged


def refuse(error: Exception) -> NoReturn:
    """One line on stderr, exit status 1."""
    sys.stderr.write(" ".join(str(error).split()) + "\n")
    raise SystemExit(1)


@contextmanager
def refused() -> Iterator[None]:
    """A mistake of whoever runs us ends the process with one line instead of a traceback."""
    try:
        yield
    except (ConfigError, Damaged) as error:
        refuse(error)


class Options(usage.Options):
    """Where the configuration comes from."""

    synopsis = "[--env dev|test|prod] [--config FILE] [--set key.path=VALUE]... [--instance N] [--check]"
    optParameters: ClassVar[list[list[Any]]] = [
        ["env", "e", None, "take ENV.yaml from ./configs, /etc/imconnect or the package (default dev, or IMCONNECT_ENV)"],
        ["config", "c", None, "take this YAML file instead"],
    ]
    optFlags: ClassVar[list[list[Any]]] = [["check", None, "only validate, and print the effective configuration"]]
    #: Defaults of this command where nobody says anything.
    defaults_of_command: ClassVar[Mapping[str, Any]] = {}
    #: The same where it is one of several on this machine.
    defaults_of_instance: ClassVar[Mapping[str, Any]] = {"server": {"reuse_port": True}}

    #: Name of the copy of what Nacos said, in data_dir.
    copy_of_command: ClassVar[str] = COPY

    def __init__(self) -> None:
        super().__init__()
        self.overrides: list[tuple[str, str]] = []
        #: Which one of several on this machine; 0: the only one.
        self.instance = 0
        self.loaded = Loaded(Config(), {})

    @property
    def configuration(self) -> Config:
        return self.loaded.config

    @property
    def origins(self) -> Mapping[str, str]:
        """Keys that somebody gave a value, and where."""
        return self.loaded.origins

    def parseOptions(self, options: Any = None) -> None:
        """Twisted answers an unknown option with the whole usage, on standard output."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            refuse(ConfigError("command line", f"{str(error).rstrip('.')}; --help lists what there is"))

    def opt_set(self, text: str) -> None:
        """override one key, as key.path=VALUE; the value is read as YAML. May be repeated."""
        with refused():
            self.overrides.append(parse_override(text))

    opt_s = opt_set

    def opt_instance(self, text: str) -> None:
        """one of several on this machine: N is added to node.id, ten times N to http.port and grpc.port, /N to data_dir;
        they share server.port."""
        with refused():
            self.instance = number_of(text)

    def log_stream(self) -> Any:
        """Where twistd was told to log: an observer of ours takes the place of the one that would have gone there.

        None: standard output.
        """
        above: Any = self.parent or {}
        name = above.get("logfile")
        if name is None and not above.get("nodaemon", True):
            name = "twistd.log"
        return LogFile.fromFullPath(name) if name and name != "-" else None

    def postOptions(self) -> None:
        with refused():
            shared = self.defaults_of_instance if self.instance else {}
            self.loaded = load(
                self["config"],
                self["env"],
                self.overrides,
                os.environ,
                merge(self.defaults_of_command, shared),
                instance=self.instance,
                copy=self.copy_of_command,
                keep=not self["check"],
            )
            unsupported(self.configuration)
        if self["check"]:
            sys.stderr.writelines(f"{note}\n" for note in self.loaded.notes)
            sys.stdout.write(printed(self.configuration, self.origins))
            raise SystemExit(0)
