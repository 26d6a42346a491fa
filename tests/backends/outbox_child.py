"""A process that appends to an outbox, for the tests that kill it or fill its disk. Prints one JSON value a line."""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any, cast

from twisted.internet.defer import Deferred

from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.backends.threads import Reactor
from imconnect.errors import Unavailable
from tests.contracts.outbox import batch, sent

SIZES = (1, 3, 7)


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def append_for_ever(outbox: SqliteOutbox) -> None:
    """Says the last number of each batch that is durable; forgets and reserves on the way."""
    await outbox.open()
    last = 0
    while True:
        appends = []
        for size in SIZES:
            appends.append(outbox.append(batch(last + 1, size)))
            last += size
        outbox.done({0: last - 20})
        outbox.forget(last - 200)
        await outbox.reserve(last)
        for append, size in zip(appends, SIZES, strict=True):
            say(await append + size - 1)


async def fill_the_disk(outbox: SqliteOutbox) -> None:
    """Appends until the file may not grow, then some more, then after it may again."""
    await outbox.open()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))
    last = refused = 0
    while refused < 3:
        events = [sent(number, "x" * 2000) for number in range(last + 1, last + 11)]
        try:
            last = await outbox.append(events) + 9
        except Unavailable:
            refused += 1
            entries = await outbox.read(0, 100_000)
            assert [number for number, _ in entries] == list(range(1, last + 1)), "something of it is in the log"
    say(last)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say(await outbox.append([sent(last + 1, "x" * 2000)]))
    await outbox.close()


def main() -> None:
    from twisted.internet import reactor

    job = {"append": append_for_ever, "fill": fill_the_disk}[sys.argv[1]]
    finished = Deferred.fromCoroutine(job(SqliteOutbox(cast(Reactor, reactor), sys.argv[2])))
    # Without the reactor's own end: whatever went wrong, the parent sees it.
    finished.addErrback(lambda failure: (failure.printTraceback(), os._exit(1)))
    finished.addCallback(lambda _: os._exit(0))
    reactor.run()


if __name__ == "__main__":
    main()
