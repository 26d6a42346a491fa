"""`imconnect outbox`: what the log of a gateway holds, also when the gateway itself refuses it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shlex import quote

import attrs
import click
import orjson

from imconnect.backends.datadir import DataDir
from imconnect.backends.outbox_salvage import Log, Survey, reading, survey
from imconnect.cli.options import configuration, configured, refusing
from imconnect.config import unsupported
from imconnect.config.tree import Config
from imconnect.errors import Damaged
from imconnect.events.plain import plain

OUTBOX = "outbox.db"

_data_dir = click.option(
    "--data-dir", metavar="DIR", default="./var", show_default=True, help="The data_dir of the gateway."
)


@click.group()
def outbox() -> None:
    """The log of a gateway: outbox.db in its data_dir.

    `check` and `export` only read, take no lock, and may be used beside a running gateway; `drain` ends its life.
    """


@outbox.command()
@_data_dir
def check(data_dir: str) -> None:
    """Say what is in the log and whether it is sound. Status 0: it is; 1: it is not, or there is none."""
    path = os.path.join(data_dir, OUTBOX)
    with refusing(), opened(path) as log:
        found = survey(log)
        for line in _report(path, log, found):
            click.echo(line)
        if log.trouble or found.lost:
            click.echo(f"`imconnect outbox export --data-dir {quote(data_dir)} --to FILE` writes down what can be read")
            sys.exit(1)


@outbox.command()
@_data_dir
@click.option("--to", "target", metavar="FILE", help="A new file; without it, standard output.")
def export(data_dir: str, target: str | None) -> None:
    """Write what can be read as JSON, one event per line, messages with their text.

    The parked events come last and have a member "parked": why the broker refused them. How much was saved and lost is
    said on standard error.
    """
    path = os.path.join(data_dir, OUTBOX)
    with refusing(), opened(path) as log, _writing(target) as write:
        found = Survey()
        for batch in log.batches:
            found.add(batch)
            for number, event in enumerate(batch.events, batch.position):
                write(orjson.dumps({"position": number, **plain(event)}, option=orjson.OPT_APPEND_NEWLINE))
        readable = [each for each in log.parked if each.event is not None]
        for each in readable:
            line = {"position": each.position, "parked": each.reason, **(plain(each.event) if each.event else {})}
            write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    if log.trouble:
        click.echo(f"{path}: damaged: {log.trouble}", err=True)
    lost = found.lost + len(log.parked) - len(readable)
    click.echo(f"saved {found.saved} events and {len(readable)} parked ones, lost {_at_least(log, lost)}", err=True)


@outbox.command()
@click.option("--data-dir", metavar="DIR", required=True, help="The data_dir of the gateway that does not come back.")
@click.option("--patience", default=30.0, show_default=True, type=click.FloatRange(1, 86400),
              help="Seconds for which the queue may take nothing; then it is given up.")  # fmt: skip
@configuration
def drain(data_dir: str, patience: float, env: str | None, path: str | None, settings: tuple[str, ...]) -> None:
    """Empty the log of a gateway that does not come back into the queue, for good.

    As a start of that gateway would: messages that had not ended are turned offline, and everything that was not relayed
    goes to the queue, or the database, of this configuration, which must be that of the gateway. It must not run. Then its
    log is marked, and no gateway starts on it again. Status 1: something is left in it, nothing is lost, try again.
    """
    with refusing():
        config = attrs.evolve(configured(env, path, settings), data_dir=data_dir)
        unsupported(config)
        if not any(os.path.exists(os.path.join(data_dir, OUTBOX + end)) for end in ("", "-wal")):
            raise Damaged(os.path.join(data_dir, OUTBOX), "there is no such file")
        folder = DataDir(data_dir)
    _drain(config, folder, patience)


def _drain(config: Config, folder: DataDir, patience: float) -> None:
    # Late: the other commands need no reactor, no queue and no database.
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from imconnect.tap.draining import drain_outbox

    async def main(reactor: object) -> None:
        with refusing():
            done = await drain_outbox(reactor, config, folder, patience)
            click.echo(f"{done.relayed} events relayed, {done.offlined} of them because messages were turned offline")
            if done.parked:
                click.echo(
                    f"{done.parked} lie parked: `imconnect parked list --data-dir {quote(folder.path)}`, and drain again"
                )
            click.echo(f"{folder.file(OUTBOX)}: everything is relayed, and no gateway starts on it again")

    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))


@contextmanager
def opened(path: str) -> Iterator[Log]:
    """The log; what the system says of its file is Damaged."""
    try:
        with reading(path) as log:
            yield log
    except FileNotFoundError:
        raise Damaged(path, "there is no such file") from None
    except OSError as error:
        raise Damaged(error.filename or path, error.strerror or str(error)) from error


@contextmanager
def _writing(target: str | None) -> Iterator[Callable[[bytes], object]]:
    if target is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    try:
        # Never over another file, and only for whoever may read the log too.
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Damaged(target, f"cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        yield file.write


def _report(path: str, log: Log, found: Survey) -> Iterator[str]:
    yield f"{path}: damaged: {log.trouble}" if log.trouble else f"{path}: sound"
    kinds = ", ".join(f"{kind.lower()} {count}" for kind, count in sorted(found.kinds.items()))
    numbers = f", numbers {found.first} to {found.last} ({kinds})" if found.saved else ""
    yield f"events: {found.saved} can be read{numbers}"
    if log.trouble or found.lost:
        first = f"; the first: {found.first_broken}" if found.first_broken else ""
        yield f"lost: {_at_least(log, found.lost)}{first}"
    lanes = ", ".join(f"queue {lane} up to {position}" for lane, position in sorted(log.lanes.items()))
    yield f"relayed: {lanes or 'nothing'}"
    unreadable = sum(each.event is None for each in log.parked)
    yield f"parked: {len(log.parked)}" + (f", {unreadable} of them cannot be read" if unreadable else "")


def _at_least(log: Log, count: int) -> str:
    """What is missing at the end of a damaged file leaves no trace."""
    return f"at least {count}" if log.trouble and count else "nothing that left a trace" if log.trouble else str(count)
