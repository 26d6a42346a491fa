"""`imconnect parked`: events that were put aside, by the relay or by business, to be looked at and tried again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from imconnect.backends import outbox_parked
from imconnect.business.rows import ParkedKey, ParkedRow
from imconnect.business.service import BusinessRules
from imconnect.business.store import BadData
from imconnect.cli.options import configuration
from imconnect.cli.parked_places import Places, alone, in_outbox, key_of, name_of, not_parked, places_at, rules_of
from imconnect.errors import ConfigError
from imconnect.events.decode import MalformedEvent, decode_body
from imconnect.events.dialect import msg_id_of
from imconnect.events.plain import made, plain
from imconnect.events.values import Event
from imconnect.tap.clock import now_ms

#: Rows of im_event_parked that are in memory at a time.
_PAGE = 100


def _places(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--database", metavar="URL", help="Another database than the configured one.")(command)
    command = click.option("--data-dir", metavar="DIR", help="Another data_dir than the configured one.")(command)
    return configuration(command)


@click.group()
def parked() -> None:
    """Events that were put aside: by the queue, which refused them (outbox.db), or by business (im_event_parked).

    An ID is outbox/NUMBER or TOPIC/QUEUE/OFFSET, as `list` shows it. With --data-dir or --database alone only that place
    (and business.db in it) is looked at; else both as configured.
    """


@parked.command("list")
@_places
def list_(**options: Any) -> None:
    """One line per event: its id, what it is, why it was put aside. No texts."""
    with places_at(**options) as places:
        lines = 0
        for each in in_outbox(places):
            what = f"{type(each.event).__name__.lower()} {msg_id_of(each.event)}" if each.event else "cannot be read"
            click.echo(f"{name_of(each.position)}  {what}  {_line(each.reason)}")
            lines += 1
        if places.database is not None:
            with rules_of(places) as rules:
                for row in _rows(rules):
                    since = datetime.fromtimestamp(row.first_seen / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
                    click.echo(f"{name_of(row.key)}  since {since}, {len(row.body)} bytes  {_line(row.reason)}")
                    lines += 1
        if not lines:
            click.echo("nothing is parked", err=True)


@parked.command()
@click.argument("identity", metavar="ID")
@_places
def show(identity: str, **options: Any) -> None:
    """The event itself, with its text; why it was put aside is said on standard error."""
    with places_at(**options) as places:
        key = key_of(identity)
        if isinstance(key, int):
            found = next((each for each in in_outbox(places) if each.position == key), None)
            if found is None:
                raise not_parked(key)
            click.echo(json.dumps(plain(found.event), ensure_ascii=False) if found.event else "")
            click.echo(found.reason, err=True)
            return
        with rules_of(places) as rules:
            row = rules.parked_at(key)
        if row is None:
            raise not_parked(key)
        click.echo(row.body)
        click.echo(row.reason, err=True)


@parked.command()
@click.argument("identities", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@_places
def replay(identities: Sequence[str], everything: bool, **options: Any) -> None:
    """Try these again. What cannot be applied stays where it is, and the status is 1.

    What the queue refused goes back into the outbox, behind what is there, and is sent at the next start of its gateway,
    which must be stopped meanwhile. What business put aside is applied to the database now; people see it as soon as
    their gateway looks, and nobody is told.
    """
    with places_at(**options) as places:
        if everything == bool(identities):
            raise ConfigError("ID", "expected one or more, or --all")
        keys = [key_of(each) for each in identities]
        numbers = [each.position for each in in_outbox(places)] if everything else [k for k in keys if isinstance(k, int)]
        rows = [key for key in keys if not isinstance(key, int)]
        wants_rows = places.database is not None if everything else bool(rows)
        with alone(places, bool(numbers) or (wants_rows and places.own)):
            if numbers:
                _send_again(places, numbers)
            failed = wants_rows and _apply_again(places, None if everything else rows)
        if failed:
            sys.exit(1)


def _send_again(places: Places, numbers: Sequence[int]) -> None:
    if places.outbox is None:
        raise not_parked(numbers[0])
    try:
        outbox_parked.replay(places.outbox, set(numbers), now_ms)
    except KeyError as error:
        raise not_parked(error.args[0]) from None
    for number in numbers:
        click.echo(f"{name_of(number)}  back in the outbox, sent at the next start")


def _rows(rules: BusinessRules) -> Iterator[ParkedRow]:
    """In pages: they may be many, and they may go while one looks at them."""
    after: ParkedKey | None = None
    while page := rules.parked(_PAGE, after):
        yield from page
        after = page[-1].key


def _apply_again(places: Places, keys: Sequence[ParkedKey] | None) -> bool:
    """-> whether one of them stays."""
    with rules_of(places, writes=True) as rules:
        rows = _rows(rules) if keys is None else [_found(rules, key) for key in keys]
        failed = False
        for row in rows:
            try:
                rules.replay(row.key, _event(row))
            except (BadData, MalformedEvent) as error:
                failed = True
                click.echo(f"{name_of(row.key)}  stays: {_line(str(error))}", err=True)
            else:
                click.echo(f"{name_of(row.key)}  applied")
        return failed


def _found(rules: BusinessRules, key: ParkedKey) -> ParkedRow:
    row = rules.parked_at(key)
    if row is None:
        raise not_parked(key)
    return row


def _event(row: ParkedRow) -> Event:
    """As the queue's consumer would read it. Raises MalformedEvent."""
    if row.topic:
        return decode_body(row.body)
    try:
        return made(json.loads(row.body))
    except ValueError:
        raise MalformedEvent("the body is not JSON") from None


def _line(text: str) -> str:
    return " ".join(text.split())
